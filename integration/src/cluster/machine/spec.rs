//! What a machine is to be and to run: a JSON file that `up` writes and the machine's first process reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use act::process::Failure;
use serde::{Deserialize, Serialize};

/// A machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spec {
    /// Its name, and its host name if it is a node.
    pub name: String,
    /// What makes it a node: file system and cgroup of its own.
    pub node: Option<NodeSpec>,
    /// What it runs, in the order of starting.
    pub components: Vec<Component>,
}

/// A node's own things.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// The directory that becomes its root.
    pub root: PathBuf,
    /// The Kubernetes binary, seen at `/opt/kubernetes/bin/kubernetes`.
    pub kubernetes: PathBuf,
    /// Its cgroup below each hierarchy's root, without the leading slash.
    pub cgroup: String,
}

/// A program of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// What it is called.
    pub name: String,
    /// Program and arguments.
    pub words: Vec<String>,
    /// Where its standard output and standard error go, appended.
    pub log: PathBuf,
    /// The cgroup it is put into, below each hierarchy's root, before it starts.
    pub cgroup: Option<String>,
    /// Whether the machine starts it by itself.
    pub at_boot: bool,
    /// Whether SIGTERM ends it; otherwise it is killed.
    pub polite: bool,
}

impl Spec {
    /// Reads a machine's file.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn read(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be read: {error}", path.display()));
        let text = fs::read_to_string(path).map_err(|error| failed(&error))?;
        serde_json::from_str(&text).map_err(|error| failed(&error))
    }

    /// Writes a machine's file.
    ///
    /// # Errors
    /// Names the file.
    pub fn write(&self, path: &Path) -> Result<(), Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be written: {error}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(|error| failed(&error))?;
        fs::write(path, text).map_err(|error| failed(&error))
    }
}
