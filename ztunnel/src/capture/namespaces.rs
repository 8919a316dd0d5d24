//! Where the network namespaces of this node's pods are found.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::{NamespaceError, PodNamespace, Sandboxes};

/// The longest wait for a namespace that is not there yet: nobody tells of one in a directory, while of one on the node
/// the container runtime does, or the pod's status.
const LOOK: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

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

    /// The longest wait for a namespace that is not there yet.
    pub(super) fn look(&self) -> Duration {
        match self {
            Self::Directory(_) => LOOK.0,
            Self::Node(_) => LOOK.1,
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
