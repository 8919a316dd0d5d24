//! The CA's own certificates and keys on disk: made on first start, loaded on every other, refused where they
//! do not fit together.
//!
//! ```text
//! DIR (0700)   lock   root.key root.pem   intermediate.key intermediate.pem      keys 0600
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use act::certs::{Issuer, certificates_of, pem};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

/// Certificates and keys are a few kilobytes.
const MOST_BYTES: u64 = 1 << 20;

/// The state directory, locked: one CA per directory.
#[derive(Debug)]
pub struct State {
    directory: PathBuf,
    _lock: File,
}

/// Why the state cannot be used: one plain sentence, with the remedy.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file or directory cannot be had by this user.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The system's words.
        error: io::Error,
    },
    /// Another CA uses it.
    #[error("{} is in use by another ca; give each its own --state", .0.display())]
    InUse(PathBuf),
    /// A file does not hold what it should.
    #[error("{}: {why}; restore it, or remove everything beside it to start a new root (every proxy must then get that)", path.display())]
    Unfit {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A certificate file and its key file.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM, the certificate of the key first.
    pub certificate: PathBuf,
    /// PKCS#8 in PEM.
    pub key: PathBuf,
}

impl State {
    /// Opens the directory, made where it is missing, and locks it.
    ///
    /// # Errors
    /// [`StateError::Io`], [`StateError::InUse`].
    pub fn open(directory: &Path) -> Result<Self, StateError> {
        let failed = |error| failed(directory, error);
        if !directory.exists() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory)
                .map_err(failed)?;
        }
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let lock = options.open(directory.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                directory: directory.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(StateError::InUse(directory.to_owned())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Where a pair of this name is.
    pub fn pair(&self, name: &str) -> Pair {
        Pair {
            certificate: self.directory.join(format!("{name}.pem")),
            key: self.directory.join(format!("{name}.key")),
        }
    }

    /// Writes an issuer as a pair: the key first, so that a certificate is never without its key.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn store(&self, name: &str, issuer: &Issuer) -> Result<(), StateError> {
        let pair = self.pair(name);
        self.write(&pair.key, issuer.key_pem().as_bytes())?;
        self.write(&pair.certificate, pem(&[issuer.certificate().clone()]).as_bytes())
    }

    /// Writes a file at once or not at all, for its owner only.
    ///
    /// # Errors
    /// [`StateError::Io`].
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StateError> {
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
            File::open(&self.directory)?.sync_all()
        })();
        written.map_err(|error| failed(path, error))
    }
}

impl Pair {
    /// The issuer of a pair, with whatever certificates follow its own.
    ///
    /// # Errors
    /// [`StateError`] when one of them is missing or they do not fit together.
    pub fn load(&self) -> Result<(Issuer, Vec<CertificateDer<'static>>), StateError> {
        let mut chain = read_certificates(&self.certificate)?;
        let rest = chain.split_off(1);
        let first = chain
            .pop()
            .ok_or_else(|| unfit(&self.certificate, "it is empty".to_owned()))?;
        let key = str::from_utf8(&read(&self.key)?)
            .ok()
            .and_then(|text| KeyPair::from_pem(text).ok())
            .ok_or_else(|| unfit(&self.key, "it is no PKCS#8 key in PEM".to_owned()))?;
        let issuer = Issuer::new(first, key).map_err(|error| unfit(&self.certificate, error.to_string()))?;
        Ok((issuer, rest))
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// [`StateError`].
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, StateError> {
    certificates_of(&read(path)?).map_err(|error| unfit(path, error.to_string()))
}

/// [`StateError::Unfit`].
pub fn unfit(path: &Path, why: String) -> StateError {
    StateError::Unfit {
        path: path.to_owned(),
        why,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StateError> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| failed(path, error))?;
    file.take(MOST_BYTES)
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
