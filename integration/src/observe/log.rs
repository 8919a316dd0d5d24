//! Logs of the mesh's programs: one JSON object per line, told apart by their `target` (`access` for connections
//! and requests that ended, `tunnel` for tunnels, `audit` for the CA's decisions).

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::PathBuf,
};

use serde_json::{Map, Value};

/// One event of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which kind of event.
    pub target: String,
    fields: Map<String, Value>,
}

/// Follows a log.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    offset: u64,
    rest: String,
}

/// Most of a log that is read at once.
const MOST: u64 = 16 * 1024 * 1024;

impl Event {
    /// A field as text; empty when it is absent.
    pub fn field(&self, name: &str) -> String {
        match self.fields.get(name) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// Whether a field has this value.
    pub fn is(&self, name: &str, value: &str) -> bool {
        self.field(name) == value
    }

    /// The event of a line, if it is one.
    pub fn parse(line: &str) -> Option<Self> {
        let Value::Object(mut fields) = serde_json::from_str(line).ok()? else {
            return None;
        };
        match fields.remove("target") {
            Some(Value::String(target)) => Some(Self { target, fields }),
            _ => None,
        }
    }
}

impl Log {
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

    /// Events of one target written since the last call of this or [`Log::lines`].
    pub fn events(&mut self, target: &str) -> Vec<Event> {
        let lines = self.lines();
        let events = lines.iter().filter_map(|line| Event::parse(line));
        events.filter(|event| event.target == target).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::OpenOptions, io::Write};

    use super::*;

    #[test]
    fn only_whole_lines_of_a_target_are_told_and_each_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut file = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let mut log = Log::new(path);
        write!(
            file,
            "plain\n{{\"target\":\"tunnel\"}}\n\
             {{\"target\":\"access\",\"src.identity\":\"spiffe://a\",\"bytes_sent\":3}}\n{{\"target\":"
        )
        .unwrap();
        let told = log.events("access");
        assert_eq!(told.len(), 1);
        assert!(told[0].is("src.identity", "spiffe://a") && told[0].is("bytes_sent", "3"));
        writeln!(file, "\"access\"}}").unwrap();
        assert_eq!(log.events("access").len(), 1);
        assert!(log.events("access").is_empty());
    }
}
