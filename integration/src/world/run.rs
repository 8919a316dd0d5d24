//! The run directory: everything a running world leaves for a person to look at, and for `weft --run` to find.

use std::{
    fs,
    path::{Path, PathBuf},
};

use act::process::Failure;
use rustix::fs::{FlockOperation, flock};

/// Longest path of a Unix socket (`sun_path`), less the longest file name we put there.
const LONGEST: usize = 107 - 40;

/// A directory that one world has to itself while it runs. Cleared when taken.
#[derive(Debug)]
pub struct RunDirectory {
    path: PathBuf,
    _lock: fs::File,
}

impl RunDirectory {
    /// Makes the directory, or clears what an earlier world left in it.
    ///
    /// # Errors
    /// When it cannot be made, another world runs in it, its path is too long for Unix sockets, or it lies where
    /// the world needs a place of its own.
    pub fn take(path: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| {
            Failure(format!(
                "the run directory {} cannot be used: {error}; choose another with --run",
                path.display()
            ))
        };
        fs::create_dir_all(path).map_err(|error| failed(&error))?;
        let path = fs::canonicalize(path).map_err(|error| failed(&error))?;
        if path.as_os_str().len() > LONGEST {
            return Err(failed(&format_args!(
                "its path is longer than {LONGEST} bytes, too long for Unix sockets in it"
            )));
        }
        let lock = fs::File::create(path.join("lock")).map_err(|error| failed(&error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| failed(&"another world runs in it"))?;
        for entry in fs::read_dir(&path).map_err(|error| failed(&error))?.flatten() {
            if entry.file_name() == "lock" {
                continue;
            }
            let is_directory = entry.file_type().is_ok_and(|it| it.is_dir());
            let removed = if is_directory {
                fs::remove_dir_all(entry.path())
            } else {
                fs::remove_file(entry.path())
            };
            removed.map_err(|error| failed(&error))?;
        }
        for part in ["logs", "netns", "pods", "tokens", "ca"] {
            fs::create_dir_all(path.join(part)).map_err(|error| failed(&error))?;
        }
        Ok(Self { path, _lock: lock })
    }

    /// A path in it.
    pub fn join(&self, part: impl AsRef<Path>) -> PathBuf {
        self.path.join(part)
    }

    /// The log of a process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.path.join("logs").join(format!("{process}.log"))
    }

    /// The admin socket of a process of the mesh.
    pub fn socket(&self, process: &str) -> PathBuf {
        self.path.join(format!("{process}.sock"))
    }
}
