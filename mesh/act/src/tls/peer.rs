//! Who is on the other side: a proof value.

use std::{sync::Arc, time::SystemTime};

use decide::model::Identity;
use rustls::pki_types::CertificateDer;

use crate::certs::{Facts, Leaf};

/// An authenticated other side: a proof value (design 21).
#[derive(Debug, Clone)]
pub struct Peer {
    identity: Identity,
    serial: Arc<str>,
    not_after: SystemTime,
}

impl Peer {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Serial number of its leaf, hexadecimal.
    pub fn serial(&self) -> &Arc<str> {
        &self.serial
    }

    /// When its leaf ends: no new stream after that (design 10).
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// The captured pod of this node in whose network namespace a connection was accepted, by the leaf held
    /// for it: who may open sockets there is that pod. `None` when the leaf is not valid now.
    pub fn captured_here(leaf: &Leaf, now: SystemTime) -> Option<Self> {
        leaf.valid_at(now).then(|| Self {
            identity: leaf.identity.clone(),
            serial: leaf.serial.clone(),
            not_after: leaf.not_after,
        })
    }

    /// The peer of a finished handshake, by the chain that [`super::verifier`] accepted in it.
    pub(super) fn verified(chain: &[CertificateDer<'_>]) -> Result<Self, Arc<str>> {
        let leaf = chain.first().ok_or("no certificate was presented")?;
        let facts = Facts::read(leaf)?;
        let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
        let identity = parsed
            .valid_uri_names()
            .find_map(|name| name.parse().ok())
            .ok_or("the certificate holds no SPIFFE identity")?;
        Ok(Self {
            identity,
            serial: facts.serial,
            not_after: facts.not_after,
        })
    }
}
