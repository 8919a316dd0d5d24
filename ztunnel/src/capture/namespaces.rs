//! Where the network namespaces of this node's pods are found.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{NamespaceError, PodNamespace, Sandboxes};

/// Where the network namespaces of this node's pods are found. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Namespaces {
    /// A directory: each is a file named by its pod's UID.
    Directory(PathBuf),
    /// The node: those that processes of pods live in, and those that the CNI plugin hands over.
    Node(Arc<Sandboxes>),
}

impl Namespaces {
    /// Opens the namespace of the pod with this UID.
    ///
    /// # Errors
    /// [`NamespaceError`].
    pub(crate) fn open(&self, uid: &Arc<str>) -> Result<PodNamespace, NamespaceError> {
        match self {
            Self::Directory(directory) => PodNamespace::open(directory, uid),
            Self::Node(sandboxes) => sandboxes.open(uid),
        }
    }

    /// The UIDs of every pod that may have one.
    ///
    /// # Errors
    /// When the directory, or `/proc`, cannot be read.
    pub(crate) fn uids(&self) -> io::Result<Vec<Arc<str>>> {
        match self {
            Self::Directory(directory) => names(directory),
            Self::Node(sandboxes) => sandboxes.uids(),
        }
    }

    /// Resolves when a namespace was handed over; never for a directory, which must be looked at.
    pub(super) async fn handed(&self) {
        match self {
            Self::Directory(_) => std::future::pending().await,
            Self::Node(sandboxes) => sandboxes.handed().await,
        }
    }
}

fn names(directory: &Path) -> io::Result<Vec<Arc<str>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string() {
            found.push(name.into());
        }
    }
    Ok(found)
}
