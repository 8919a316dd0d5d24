//! The seam towards whoever signs.

use std::{future::Future, pin::Pin, sync::Arc};

use decide::model::Identity;
use rustls::pki_types::CertificateDer;

/// A future that may change threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who signs: the CA's client, or an authority in this process.
pub trait Authority: Send + Sync {
    /// Has a CSR (PEM) signed for this identity.
    fn sign<'a>(&'a self, identity: &'a Identity, csr_pem: &'a str) -> BoxFuture<'a, Result<Signed, CertError>>;
}

/// What a CA answered to a CSR.
#[derive(Debug, Clone)]
pub struct Signed {
    /// Leaf first, then intermediates.
    pub chain: Vec<CertificateDer<'static>>,
    /// Every root to trust.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertError {
    /// The CA refused us this identity.
    #[error("the CA refuses {identity}: {why}")]
    Refused {
        /// What was asked for.
        identity: Identity,
        /// The CA's words.
        why: Arc<str>,
    },
    /// The CA cannot be reached, or failed.
    #[error("the CA does not answer for {identity}: {why}")]
    Unavailable {
        /// What was asked for.
        identity: Identity,
        /// What failed.
        why: Arc<str>,
    },
    /// The CA answered with something a peer would not accept.
    #[error("the CA's answer for {identity} does not hold: {why}")]
    Unfit {
        /// What was asked for.
        identity: Identity,
        /// What is wrong with it.
        why: Arc<str>,
    },
    /// The identity was released while we waited, or the process ends.
    #[error("{0} is no longer wanted")]
    Released(Identity),
    /// As many identities are held as this process may hold.
    #[error("{identity} is one identity too many: this process holds at most {most}")]
    TooMany {
        /// What was asked for.
        identity: Identity,
        /// The bound.
        most: usize,
    },
}

impl CertError {
    /// Value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "refused",
            Self::Unavailable { .. } => "unavailable",
            Self::Unfit { .. } => "unfit",
            Self::Released(_) => "released",
            Self::TooMany { .. } => "too_many",
        }
    }
}
