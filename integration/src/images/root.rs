//! A root file system to be: paths and what is there, sorted, owned by root, without times.

use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path, PathBuf},
};

use act::process::Failure;

use super::libraries;

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// A directory with this mode.
    Directory(u32),
    /// A file with this mode.
    File(u32, Vec<u8>),
    /// A link to there.
    Link(PathBuf),
}

/// A root file system. Directories above an entry are made with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Root {
    entries: BTreeMap<PathBuf, Entry>,
}

/// Where programs lie, whatever directory they lie in on the machine that builds.
const PROGRAMS: &str = "/usr/bin";

impl Root {
    /// An empty one, with the usual links, users and a `/tmp`.
    pub fn new() -> Self {
        let mut root = Self::default();
        for (at, target) in [
            ("/bin", "usr/bin"),
            ("/sbin", "usr/bin"),
            ("/usr/sbin", "bin"),
            ("/lib", "usr/lib"),
            ("/lib64", "usr/lib64"),
            ("/var/run", "../run"),
        ] {
            root.link(at, target);
        }
        root.directory("/run", 0o755);
        root.directory("/tmp", 0o1777);
        root.text(
            "/etc/passwd",
            "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\nnonroot:x:65532:65532::/:/bin/sh\n",
        );
        root.text("/etc/group", "root:x:0:\nnogroup:x:65534:\nnonroot:x:65532:\n");
        root.text("/etc/nsswitch.conf", "hosts: files dns\n");
        root
    }

    /// A directory.
    pub fn directory(&mut self, at: &str, mode: u32) {
        self.put(at, Entry::Directory(mode));
    }

    /// A link.
    pub fn link(&mut self, at: &str, target: &str) {
        self.put(at, Entry::Link(target.into()));
    }

    /// A file of text.
    pub fn text(&mut self, at: &str, text: &str) {
        self.put(at, Entry::File(0o644, text.into()));
    }

    /// A program of this machine, under its name in `/usr/bin`, and the libraries it needs. `content` stands for what
    /// is in the file, where that is not to be taken as it is.
    ///
    /// # Errors
    /// When it or one of its libraries cannot be read.
    pub fn program(&mut self, name: &str, host: &Path, content: Option<Vec<u8>>) -> Result<(), Failure> {
        let content = content.map_or_else(|| read(host), Ok)?;
        self.put(&format!("{PROGRAMS}/{name}"), Entry::File(0o755, content));
        for library in libraries::of(host)? {
            let file = read(&library)?;
            self.put(&merged(&library), Entry::File(0o755, file));
        }
        Ok(())
    }

    /// Whether a program of this name is there.
    pub fn has_program(&self, name: &str) -> bool {
        self.entries.contains_key(&key(&format!("{PROGRAMS}/{name}")))
    }

    pub(super) fn entries(&self) -> &BTreeMap<PathBuf, Entry> {
        &self.entries
    }

    fn put(&mut self, at: &str, entry: Entry) {
        let at = key(at);
        for above in at.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
            self.entries.entry(above.to_owned()).or_insert(Entry::Directory(0o755));
        }
        self.entries.insert(at, entry);
    }
}

/// A path below the root, without the leading slash.
fn key(at: &str) -> PathBuf {
    Path::new(at)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)))
        .collect()
}

/// Where a library of `/lib` lies when `/lib` is a link to `/usr/lib`.
fn merged(library: &Path) -> String {
    let path = library.display().to_string();
    if path.starts_with("/lib") {
        format!("/usr{path}")
    } else {
        path
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure(format!("{} cannot be read: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_above_an_entry_are_there_and_before_it() {
        let mut root = Root::default();
        root.text("/a/b/c", "x");
        let paths: Vec<_> = root.entries().keys().cloned().collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"].map(PathBuf::from));
    }

    #[test]
    fn a_program_comes_with_its_libraries_at_their_merged_places() {
        let mut root = Root::new();
        root.program("sh", Path::new("/bin/sh"), None).unwrap();
        assert!(root.has_program("sh"));
        let library = |path: &PathBuf| path.file_name().is_some_and(|name| name == "libc.so.6");
        let found: Vec<_> = root.entries().keys().filter(|path| library(path)).collect();
        assert!(found.iter().all(|path| path.starts_with("usr/lib")), "{found:?}");
        assert_eq!(found.len(), 1);
    }
}
