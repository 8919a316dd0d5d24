//! The archive, written as it comes: nothing of it is held in memory but one file at a time.

use std::{fs::File, io, path::Path, time::SystemTime};

use flate2::{Compression, write::GzEncoder};
use tar::{Builder, Header};

/// A `.tar.gz` being written.
pub(super) struct Archive {
    builder: Builder<GzEncoder<File>>,
    /// What is in it: name and bytes.
    pub(super) contents: Vec<(String, usize)>,
    moment: u64,
}

impl Archive {
    /// A new archive. A file that is there already is never written over.
    ///
    /// # Errors
    /// When it is, or cannot be made.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create_new(path)?;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            builder: Builder::new(GzEncoder::new(file, Compression::default())),
            contents: Vec::new(),
            moment: since.map_or(0, |since| since.as_secs()),
        })
    }

    /// Adds a file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn add(&mut self, name: &str, text: &str) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.moment);
        self.builder
            .append_data(&mut header, format!("weft-bug-report/{name}"), text.as_bytes())?;
        self.contents.push((name.to_owned(), text.len()));
        Ok(())
    }

    /// Writes the end.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn finish(self) -> io::Result<Vec<(String, usize)>> {
        self.builder.into_inner()?.finish()?.sync_all()?;
        Ok(self.contents)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn what_is_added_is_what_is_read_and_nothing_is_written_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("report.tar.gz");
        let mut archive = Archive::create(&path).expect("new");
        archive.add("logs/a.txt", "hello").expect("written");
        assert_eq!(archive.finish().expect("ended"), [("logs/a.txt".to_owned(), 5)]);
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(File::open(&path).expect("there")));
        let mut entry = read.entries().expect("entries").next().expect("one").expect("readable");
        assert_eq!(
            entry.path().expect("a path").to_str(),
            Some("weft-bug-report/logs/a.txt")
        );
        let mut text = String::new();
        entry.read_to_string(&mut text).expect("text");
        assert_eq!(text, "hello");
        assert!(Archive::create(&path).is_err());
    }
}
