//! A network namespace, held by its file descriptor.

use std::{io, os::fd::OwnedFd, sync::Arc};

/// A network namespace. Sockets made by [`Netns::run`] live in it whatever thread polls them later.
#[derive(Debug, Clone)]
pub struct Netns {
    #[allow(dead_code, reason = "skeleton")]
    target: Arc<OwnedFd>,
}

impl Netns {
    /// Holds the namespace behind this descriptor.
    pub fn new(target: OwnedFd) -> Self {
        Self {
            target: Arc::new(target),
        }
    }

    /// Runs `make` with this thread inside the namespace, and comes back. `make` must not await or block.
    ///
    /// # Errors
    /// When the namespace cannot be entered or left, or `make` fails.
    pub fn run<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let _ = make;
        todo!()
    }
}
