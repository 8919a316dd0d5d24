//! Access logs: the JSON lines in which proxies tell of connections and requests that ended.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::{Map, Value};

/// One line of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    fields: Map<String, Value>,
}

/// Follows the access log lines of one process' log.
#[derive(Debug)]
pub struct AccessLog {
    path: PathBuf,
    offset: u64,
    rest: String,
}

/// Most of a log that is read at once.
const MOST: u64 = 16 * 1024 * 1024;

impl Access {
    /// A field as text; empty when it is absent.
    pub fn field(&self, name: &str) -> String {
        match self.fields.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The line, if it is one of an access log.
    pub fn parse(line: &str) -> Option<Self> {
        let Value::Object(mut line) = serde_json::from_str(line).ok()? else {
            return None;
        };
        if line.get("target").and_then(Value::as_str) != Some("access") {
            return None;
        }
        let Some(Value::Object(mut fields)) = line.remove("fields") else {
            return None;
        };
        if let Some(time) = line.remove("timestamp") {
            fields.insert("timestamp".into(), time);
        }
        Some(Self { fields })
    }
}

impl AccessLog {
    /// Follows a log from its beginning.
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            offset: 0,
            rest: String::new(),
        }
    }

    /// Follows a log from where it ends now.
    pub fn from_end(path: PathBuf) -> Self {
        let offset = std::fs::metadata(&path).map_or(0, |it| it.len());
        Self {
            offset,
            ..Self::new(path)
        }
    }

    /// Whole lines written since the last call, at most 16 MiB of them.
    pub fn lines(&mut self) -> Vec<String> {
        let mut read = Vec::new();
        let Ok(mut file) = File::open(&self.path) else {
            return Vec::new();
        };
        if file.seek(SeekFrom::Start(self.offset)).is_err() || file.take(MOST).read_to_end(&mut read).is_err() {
            return Vec::new();
        }
        self.offset += read.len() as u64;
        self.rest.push_str(&String::from_utf8_lossy(&read));
        let Some(end) = self.rest.rfind('\n') else {
            return Vec::new();
        };
        let whole: String = self.rest.drain(..=end).collect();
        whole.lines().map(ToOwned::to_owned).collect()
    }

    /// As [`AccessLog::lines`], those of the access log alone.
    pub fn accesses(&mut self) -> Vec<Access> {
        self.lines().iter().filter_map(|line| Access::parse(line)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use super::*;

    #[test]
    fn only_whole_lines_of_the_access_log_are_told_and_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut log = AccessLog::new(path);
        write!(
            file,
            "plain\n{{\"target\":\"access\",\"fields\":{{\"src.identity\":\"spiffe://a\",\"bytes_sent\":3}}}}\n{{\"target\":"
        )
        .unwrap();
        let told = log.accesses();
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].field("src.identity"), told[0].field("bytes_sent")), ("spiffe://a".into(), "3".into()));
        writeln!(file, "\"access\",\"fields\":{{}}}}").unwrap();
        assert_eq!(log.accesses().len(), 1);
        assert!(log.accesses().is_empty());
    }
}
