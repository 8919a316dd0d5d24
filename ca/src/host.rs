//! The CA's own server certificate: signed by itself, renewed before it ends, its key only in memory.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use act::{certs::Name, tls::provider};
use rcgen::KeyPair;
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{PrivateKeyDer, ServerName},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

use crate::authority::SigningAuthority;

const LIFE: Duration = Duration::from_secs(86_400);

/// Presents the certificate of the day.
pub struct Host {
    names: Vec<ServerName<'static>>,
    authority: Arc<SigningAuthority>,
    current: Mutex<Certificate>,
}

struct Certificate {
    certified: Arc<CertifiedKey>,
    renew_at: SystemTime,
}

impl Host {
    /// With a first certificate for these names.
    ///
    /// # Errors
    /// One plain sentence.
    pub fn new(
        names: Vec<ServerName<'static>>,
        authority: Arc<SigningAuthority>,
        now: SystemTime,
    ) -> Result<Self, String> {
        Ok(Self {
            current: Mutex::new(issue(&names, &authority, now)?),
            names,
            authority,
        })
    }

    /// Makes a new certificate once half of the old one's life is over, or at once where something else signs now.
    ///
    /// # Errors
    /// One plain sentence; the old one stays.
    pub fn renew(&self, now: SystemTime, signer_changed: bool) -> Result<(), String> {
        let due = self.current.lock().unwrap_or_else(PoisonError::into_inner).renew_at <= now;
        if due || signer_changed {
            let fresh = issue(&self.names, &self.authority, now)?;
            *self.current.lock().unwrap_or_else(PoisonError::into_inner) = fresh;
        }
        Ok(())
    }

    /// TLS 1.3 and HTTP/2 with this certificate; callers prove themselves by tokens, not certificates.
    ///
    /// # Errors
    /// One plain sentence.
    pub fn tls(self: &Arc<Self>) -> Result<Arc<ServerConfig>, String> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_no_client_auth()
            .with_cert_resolver(self.clone());
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }
}

fn issue(names: &[ServerName<'static>], authority: &SigningAuthority, now: SystemTime) -> Result<Certificate, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let answer = authority
        .sign(&key, &Name::Host(names), LIFE, now)
        .map_err(|error| error.to_string())?;
    let signing =
        any_ecdsa_type(&PrivateKeyDer::Pkcs8(key.serialize_der().into())).map_err(|error| error.to_string())?;
    let rest = answer.issued.validity.not_after.duration_since(now).unwrap_or_default();
    Ok(Certificate {
        certified: Arc::new(CertifiedKey::new(answer.signed.chain, signing)),
        renew_at: now + rest / 2,
    })
}

impl ResolvesServerCert for Host {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        Some(current.certified.clone())
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Host").field(&self.names).finish()
    }
}
