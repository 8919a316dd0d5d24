//! A directory of one CA's own.
//!
//! ```text
//! DIR (0700)   lock   root.key root.pem   intermediate.key intermediate.pem      keys 0600
//! ```

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::{Document, Kept, MOST_BYTES, Saved, StateError, Store};

/// The state directory, locked: one CA per directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    /// Opens the directory, made where it is missing, and locks it.
    ///
    /// # Errors
    /// [`StateError::Io`], [`StateError::InUse`].
    pub fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |error| failed(path, error);
        if !path.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(failed)?;
        }
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(path.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                path: path.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Writes a file at once or not at all, for its owner only.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
        let fresh = path.with_extension("new");
        let written = (|| {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&fresh)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
            File::open(&self.path)?.sync_all()
        })();
        written.map_err(|error| failed(path, error))
    }
}

#[tonic::async_trait]
impl Store for Directory {
    async fn load(&self) -> Result<Kept, StateError> {
        let mut documents = BTreeMap::new();
        for name in ["root.key", "root.pem", "intermediate.key", "intermediate.pem"] {
            match read(&self.path.join(name)) {
                Ok(bytes) => drop(documents.insert(name.to_owned(), bytes)),
                Err(StateError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Kept::new(None, documents))
    }

    async fn save(&self, _: &Kept, documents: &[Document]) -> Result<Saved, StateError> {
        for (name, bytes) in documents {
            self.write(&self.path.join(name), bytes)?;
        }
        Ok(Saved::Done)
    }

    fn place(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// It is locked.
    fn is_shared(&self) -> bool {
        false
    }
}

/// A whole file, which is small.
///
/// # Errors
/// [`StateError::Io`].
pub fn read(path: &Path) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(path, error))?;
    file.take(MOST_BYTES as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| failed(path, error))?;
    Ok(bytes)
}

fn failed(path: &Path, error: io::Error) -> StateError {
    StateError::Io {
        path: path.to_owned(),
        error,
    }
}
