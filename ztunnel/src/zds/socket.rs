//! The Unix socket an agent listens on: where it is, whose it is, and when its file goes.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Packets, packet::Listener};

/// Why the agent cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another agent does.
    #[error("another agent listens at {0}: end it, or give this one another path")]
    Taken(PathBuf),
    /// Something else is there.
    #[error("{0} is there and is no socket: remove it, or give another path")]
    Occupied(PathBuf),
    /// The system says no.
    #[error("cannot listen at {0}: {1}; its directory must exist and be writable, the path be at most 107 bytes long")]
    System(PathBuf, io::Error),
}

/// Listens at `path`, for the owner alone; a socket left by an agent that died is replaced. The file is gone when
/// the second value is dropped.
///
/// # Errors
/// [`ListenError`].
pub fn bind(path: &Path) -> Result<(Listener, SocketFile), ListenError> {
    clear(path)?;
    let listener = Listener::bind(path).map_err(|why| ListenError::System(path.to_owned(), why))?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// Removes the socket of an agent that died.
fn clear(path: &Path) -> Result<(), ListenError> {
    use std::os::unix::fs::FileTypeExt;

    let system = |why: io::Error| ListenError::System(path.to_owned(), why);
    let kind = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(why) => return Err(system(why)),
    };
    if !kind.is_socket() {
        return Err(ListenError::Occupied(path.to_owned()));
    }
    match Packets::connect(path) {
        Err(why) if why.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(system),
        Ok(_) => Err(ListenError::Taken(path.to_owned())),
        Err(why) if why.kind() == io::ErrorKind::WouldBlock => Err(ListenError::Taken(path.to_owned())),
        Err(why) => Err(system(why)),
    }
}

/// The file of a socket, removed when dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
