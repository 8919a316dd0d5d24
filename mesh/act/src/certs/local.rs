//! An authority in this process: for tests, and wherever no CA is to be asked. It signs whatever it is asked for.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use decide::model::Identity;
use rcgen::{CertificateSigningRequestParams, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use super::{
    Authority, BoxFuture, CertError, Clock, Issuer, Leaf, Name, Signed, SigningError, Validity, renewal::Request,
};

/// Root and intermediate in memory; signs every CSR for the identity that is asked for.
pub struct LocalAuthority {
    root: Issuer,
    intermediate: Issuer,
    life: Mutex<Duration>,
    failure: Mutex<Option<CertError>>,
    signed: AtomicUsize,
    clock: Clock,
}

impl LocalAuthority {
    /// A new root and intermediate, unlike those of every other authority. Leaves live 24 h.
    ///
    /// # Errors
    /// [`SigningError::Making`].
    pub fn new() -> Result<Self, SigningError> {
        Self::with_clock(Arc::new(SystemTime::now))
    }

    /// As [`LocalAuthority::new`], with a clock that tests move.
    ///
    /// # Errors
    /// [`SigningError::Making`].
    pub fn with_clock(clock: Clock) -> Result<Self, SigningError> {
        let decade = Validity::around(
            clock(),
            Duration::from_secs(86_400),
            Duration::from_secs(10 * 365 * 86_400),
        );
        let root = Issuer::root("local root", decade)?;
        let intermediate = root.intermediate("local intermediate", decade)?;
        Ok(Self {
            root,
            intermediate,
            life: Mutex::new(Duration::from_secs(86_400)),
            failure: Mutex::new(None),
            signed: AtomicUsize::new(0),
            clock,
        })
    }

    /// How long leaves live from now on.
    pub fn live(&self, life: Duration) {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner) = life;
    }

    /// Answers every CSR with this error from now on; `None`: signs again.
    pub fn fail(&self, failure: Option<CertError>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// How many leaves it has signed.
    pub fn signed(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }

    /// The root certificate.
    pub fn root(&self) -> &CertificateDer<'static> {
        self.root.certificate()
    }

    /// The issuer of its leaves.
    pub fn issuer(&self) -> &Issuer {
        &self.intermediate
    }

    /// A leaf with its key, without any cache.
    ///
    /// # Errors
    /// One plain sentence.
    pub fn leaf(&self, identity: &Identity) -> Result<Arc<Leaf>, Arc<str>> {
        let request = Request::born(identity).map_err(|error| error.to_string())?;
        let signed = self
            .sign_now(identity, &request.csr_pem)
            .map_err(|error| error.to_string())?;
        Leaf::verified(identity, request.key, signed, (self.clock)()).map(Arc::new)
    }

    /// A leaf of these roots made of a key and a certificate signed elsewhere.
    ///
    /// # Errors
    /// One plain sentence.
    pub fn leaf_of(&self, identity: &Identity, key: &KeyPair, validity: Validity) -> Result<Arc<Leaf>, Arc<str>> {
        let issued = self
            .intermediate
            .leaf(key, &Name::Identity(identity), validity)
            .map_err(|error| error.to_string())?;
        let middle = validity.not_before
            + (validity
                .not_after
                .duration_since(validity.not_before)
                .unwrap_or_default()
                / 2);
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Leaf::verified(identity, key, self.bundle(issued.certificate), middle).map(Arc::new)
    }

    fn bundle(&self, leaf: CertificateDer<'static>) -> Signed {
        Signed {
            chain: vec![leaf, self.intermediate.certificate().clone()],
            roots: vec![self.root.certificate().clone()],
        }
    }

    fn sign_now(&self, identity: &Identity, csr_pem: &str) -> Result<Signed, CertError> {
        if let Some(failure) = &*self.failure.lock().unwrap_or_else(PoisonError::into_inner) {
            return Err(failure.clone());
        }
        let unavailable = |why: String| CertError::Unavailable {
            identity: identity.clone(),
            why: why.into(),
        };
        let csr = CertificateSigningRequestParams::from_pem(csr_pem).map_err(|error| unavailable(error.to_string()))?;
        let life = *self.life.lock().unwrap_or_else(PoisonError::into_inner);
        let validity = Validity::around((self.clock)(), Duration::from_secs(300), life);
        let issued = self
            .intermediate
            .leaf(&csr.public_key, &Name::Identity(identity), validity)
            .map_err(|error| unavailable(error.to_string()))?;
        self.signed.fetch_add(1, Ordering::Relaxed);
        Ok(self.bundle(issued.certificate))
    }
}

impl Authority for LocalAuthority {
    fn sign<'a>(&'a self, identity: &'a Identity, csr_pem: &'a str) -> BoxFuture<'a, Result<Signed, CertError>> {
        Box::pin(async move { self.sign_now(identity, csr_pem) })
    }
}

impl std::fmt::Debug for LocalAuthority {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("LocalAuthority").finish_non_exhaustive()
    }
}
