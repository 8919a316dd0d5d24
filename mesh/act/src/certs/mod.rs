//! Who we are: keys born here, leaves asked for once per identity however many wait, renewed at half life,
//! verified as a peer would before they are published, the old one served to its end (design 20).

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use decide::model::Identity;
use rustls::{
    ClientConfig, ServerConfig,
    pki_types::{CertificateDer, TrustAnchor},
    sign::CertifiedKey,
};

/// A leaf of ours, ready for use.
#[derive(Debug)]
pub struct Leaf {
    /// Whose it is.
    pub identity: Identity,
    /// Chain (leaf first, without root) and key.
    pub certified: Arc<CertifiedKey>,
    /// The roots that vouch for peers.
    pub roots: Arc<[TrustAnchor<'static>]>,
    /// The roots as certificates, for those who ask.
    pub root_certificates: Arc<[CertificateDer<'static>]>,
    /// Serial number, hexadecimal.
    pub serial: Arc<str>,
    /// Valid from.
    pub not_before: SystemTime,
    /// Valid until.
    pub not_after: SystemTime,
    /// Built once by `tls`.
    pub(crate) server: OnceLock<Arc<ServerConfig>>,
    /// Built once by `tls`.
    pub(crate) client: OnceLock<Arc<ClientConfig>>,
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
}

/// A future that may change threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who signs: the CA's client, or a test's own.
pub trait Authority: Send + Sync {
    /// Has a CSR (PEM) signed for this identity.
    fn sign<'a>(&'a self, identity: &'a Identity, csr_pem: &'a str) -> BoxFuture<'a, Result<Signed, CertError>>;
}

/// The leaves of this process, by identity.
#[derive(Clone)]
pub struct Certificates {
    #[allow(dead_code, reason = "skeleton")]
    authority: Arc<dyn Authority>,
}

/// Keeps an identity's leaf fresh for as long as it lives. Several may be held of one identity.
#[derive(Debug)]
pub struct Hold {
    /// Whose.
    pub identity: Identity,
}

impl Certificates {
    /// No leaves yet. Renewal tasks run on the runtime this is called on, which must outlive it.
    pub fn new(authority: Arc<dyn Authority>) -> Self {
        Self { authority }
    }

    /// Wants an identity from now on: starts fetching and renewing, until every hold of it is dropped.
    pub fn hold(&self, identity: &Identity) -> Hold {
        Hold {
            identity: identity.clone(),
        }
    }

    /// The leaf of a held identity that is valid now, waiting for the first one. Bound the wait outside.
    ///
    /// # Errors
    /// Why there is none, as soon as one attempt has failed and nothing valid is left.
    pub async fn leaf(&self, identity: &Identity) -> Result<Arc<Leaf>, CertError> {
        let _ = identity;
        todo!()
    }

    /// The leaf of an identity that is valid now, without waiting.
    pub fn current(&self, identity: &Identity) -> Option<Arc<Leaf>> {
        let _ = identity;
        todo!()
    }

    /// Every leaf held, and for those missing why.
    pub fn list(&self) -> Vec<(Identity, Result<Arc<Leaf>, CertError>)> {
        todo!()
    }
}
