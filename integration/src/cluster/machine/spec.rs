//! What a machine is to be and to run: a JSON file that `up` writes and the machine's first process reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use act::process::Failure;
use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Spec {
    /// Its name, and its host name if it is a node.
    pub(crate) name: String,
    /// What makes it a node: file system and cgroup of its own.
    pub(crate) node: Option<NodeSpec>,
    /// What it runs, in the order of starting.
    pub(crate) components: Vec<Component>,
}

/// A node's own things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeSpec {
    /// The directory that becomes its root.
    pub(crate) root: PathBuf,
    /// The Kubernetes binary, seen at `/opt/kubernetes/bin/kubernetes`.
    pub(crate) kubernetes: PathBuf,
    /// Its cgroup below each hierarchy's root, without the leading slash.
    pub(crate) cgroup: String,
}

/// A program of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Component {
    /// What it is called.
    pub(crate) name: String,
    /// Program and arguments.
    pub(crate) words: Vec<String>,
    /// Where its standard output and standard error go, appended.
    pub(crate) log: PathBuf,
    /// The cgroup it is put into, below each hierarchy's root, before it starts.
    pub(crate) cgroup: Option<String>,
    /// A socket that must be there before it starts.
    pub(crate) needs: Option<PathBuf>,
    /// Whether the machine starts it by itself.
    pub(crate) at_boot: bool,
    /// Whether SIGTERM ends it; otherwise it is killed.
    pub(crate) polite: bool,
}

impl Spec {
    /// Reads a machine's file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be read: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        serde_json::from_str(&text).map_err(|error| failed(&error))
    }

    /// Writes a machine's file.
    ///
    /// # Errors
    /// Names the file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be written: {error}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        fs::write(path, text).map_err(|error| failed(&error))
    }
}
