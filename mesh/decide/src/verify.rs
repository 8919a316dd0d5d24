//! Is this chain that identity? Chain, validity and usage by webpki; identity by the URI name.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage};

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
/// The extended key usage is checked where it is written; a leaf without any is fit for both sides
/// (RFC 5280 4.2.1.12).
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
    let (leaf, intermediates) = chain.split_first().ok_or(NotVerified::Missing)?;
    let broken = |error: webpki::Error| NotVerified::Chain(error.to_string().into());
    let leaf = EndEntityCert::try_from(leaf).map_err(broken)?;
    let usage = match usage {
        Usage::Client => KeyUsage::client_auth(),
        Usage::Server => KeyUsage::server_auth(),
    };
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, roots, intermediates, now, usage, None, None)
        .map_err(broken)?;
    let mut names = leaf.valid_uri_names();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(NotVerified::NoIdentity);
    };
    let identity: Identity = name.parse().map_err(|_| NotVerified::NoIdentity)?;
    if identity.trust_domain() == trust_domain {
        Ok(identity)
    } else {
        Err(NotVerified::ForeignTrustDomain(identity))
    }
}

#[cfg(test)]
mod tests;
