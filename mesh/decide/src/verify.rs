//! Is this chain that identity? Chain, validity and usage by webpki; identity by the URI name.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};

use crate::model::Identity;

/// Which side of a handshake the certificate must be fit for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS client.
    Client,
    /// TLS server.
    Server,
}

/// Why a chain proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// No certificate at all.
    #[error("no certificate was presented")]
    Missing,
    /// The chain does not lead to our roots, is expired, not yet valid, or not fit for this usage.
    #[error("the certificate chain does not hold: {0}")]
    Chain(Arc<str>),
    /// Not exactly one SPIFFE URI in the leaf.
    #[error("the certificate holds no single SPIFFE identity")]
    NoIdentity,
    /// A valid identity, but of a foreign trust domain.
    #[error("{0} is of a foreign trust domain")]
    ForeignTrustDomain(Identity),
    /// A valid identity, but not the one expected.
    #[error("the peer is {found}, not {expected} as expected")]
    Another {
        /// Who it is.
        found: Identity,
        /// Who it should be.
        expected: Identity,
    },
}

/// Who presented this chain (leaf first), if it holds at `now` for `usage` under `roots`, in `trust_domain`.
///
/// # Errors
/// Why it proves nothing.
pub fn verify(
    chain: &[CertificateDer<'_>],
    roots: &[TrustAnchor<'_>],
    trust_domain: &str,
    usage: Usage,
    now: UnixTime,
) -> Result<Identity, NotVerified> {
    let _ = (chain, roots, trust_domain, usage, now);
    todo!()
}
