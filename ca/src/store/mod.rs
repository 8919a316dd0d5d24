//! Where the CA keeps its own certificates and keys: made on first start, loaded on every other, refused where
//! they do not fit together. Comes in: documents in PEM, by name. Goes out: the same, and whether somebody else
//! wrote in the meantime.
//!
//! ```text
//! root.key root.pem   intermediate.key intermediate.pem
//! ```

mod directory;
mod secret;
#[cfg(test)]
pub(crate) mod shared;

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc};

use act::certs::{Issuer, certificates_of};
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;

pub use directory::{Directory, read};
pub use secret::SecretStore;

/// Certificates and keys are a few kilobytes.
const MOST_BYTES: usize = 1 << 20;

/// Keeps documents.
#[tonic::async_trait]
pub trait Store: fmt::Debug + Send + Sync {
    /// All that is kept now.
    ///
    /// # Errors
    /// [`StateError::Io`], [`StateError::Unavailable`].
    async fn load(&self) -> Result<Kept, StateError>;

    /// Adds documents to what was loaded, or replaces them, in this order: a key before its certificate.
    ///
    /// # Errors
    /// [`StateError::Io`], [`StateError::Unavailable`].
    async fn save(&self, loaded: &Kept, documents: &[Document]) -> Result<Saved, StateError>;

    /// Where a document of this name is, for messages.
    fn place(&self, name: &str) -> String;

    /// Whether another CA may write here too.
    fn is_shared(&self) -> bool;
}

/// Whether documents were saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// All of them.
    Done,
    /// None: somebody else wrote since they were loaded. Load again.
    Late,
}

/// A name and what is kept under it.
pub type Document = (String, Vec<u8>);

/// All that is kept at one time.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Tells this version from others, where several may write; `None`: there is nothing yet.
    pub version: Option<Arc<str>>,
    documents: BTreeMap<String, Vec<u8>>,
}

/// Why certificates and keys cannot be used: one plain sentence, with the remedy.
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
    /// A document does not hold what it should.
    #[error(
        "{place}: {why}; restore it, or stop every ca and remove all that is kept beside it to start a new root (every proxy must then get that)"
    )]
    Unfit {
        /// Which.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// The API server does not give or take it now. Worth another try.
    #[error("{place}: {why}")]
    Unavailable {
        /// Which.
        place: String,
        /// What it says, and what to do about it.
        why: String,
    },
}

impl Kept {
    /// These documents, of this version.
    pub fn new(version: Option<Arc<str>>, documents: BTreeMap<String, Vec<u8>>) -> Self {
        Self { version, documents }
    }

    /// The document of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.documents.get(name).map(Vec::as_slice)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.documents.is_empty()
    }

    /// The documents.
    pub fn documents(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.documents
    }

    /// The same with these documents added or replaced.
    #[must_use]
    pub fn with(&self, documents: &[Document]) -> Self {
        let mut kept = self.clone();
        kept.documents.extend(documents.iter().cloned());
        kept
    }
}

impl fmt::Debug for Kept {
    /// Never the keys.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Kept")
            .field("version", &self.version)
            .field("documents", &self.documents.keys())
            .finish()
    }
}

/// The certificates of a PEM document, at least one.
///
/// # Errors
/// [`StateError::Unfit`].
pub fn certificates(place: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, StateError> {
    certificates_of(pem).map_err(|error| unfit(place, error.to_string()))
}

/// The issuer of a certificate and its key, with whatever certificates follow its own.
///
/// # Errors
/// [`StateError::Unfit`] when they do not fit together.
pub fn issuer(
    certificate: (&str, &[u8]),
    key: (&str, &[u8]),
) -> Result<(Issuer, Vec<CertificateDer<'static>>), StateError> {
    let mut chain = certificates(certificate.0, certificate.1)?;
    if chain.is_empty() {
        return Err(unfit(certificate.0, "it is empty".to_owned()));
    }
    let first = chain.remove(0);
    let key = str::from_utf8(key.1)
        .ok()
        .and_then(|text| KeyPair::from_pem(text).ok())
        .ok_or_else(|| unfit(key.0, "it is no PKCS#8 key in PEM".to_owned()))?;
    let issuer = Issuer::new(first, key).map_err(|error| unfit(certificate.0, error.to_string()))?;
    Ok((issuer, chain))
}

/// [`StateError::Unfit`].
pub fn unfit(place: &str, why: String) -> StateError {
    StateError::Unfit {
        place: place.to_owned(),
        why,
    }
}
