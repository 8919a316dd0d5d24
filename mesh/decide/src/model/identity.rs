//! The SPIFFE identity of a workload.

use std::{fmt, str::FromStr, sync::Arc};

/// `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>` (SPIFFE-ID 2.1, Istio's path form).
/// Every part is non-empty and holds only `[A-Za-z0-9._-]`; the trust domain is lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    trust_domain: Arc<str>,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

/// Why a string is no [`Identity`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>")]
pub struct NotAnIdentity(pub String);

impl Identity {
    /// An identity from its parts.
    ///
    /// # Errors
    /// [`NotAnIdentity`] when a part is empty, longer than 253 bytes, or holds a foreign character.
    pub fn new(trust_domain: &str, namespace: &str, service_account: &str) -> Result<Self, NotAnIdentity> {
        let fits = |part: &str| {
            (1..=253).contains(&part.len())
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
        };
        let lower = !trust_domain.bytes().any(|byte| byte.is_ascii_uppercase());
        if fits(trust_domain) && lower && fits(namespace) && fits(service_account) {
            Ok(Self {
                trust_domain: trust_domain.into(),
                namespace: namespace.into(),
                service_account: service_account.into(),
            })
        } else {
            Err(NotAnIdentity(format!(
                "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
            )))
        }
    }

    /// The administrative domain whose roots vouch for this identity.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }

    /// The form policies match against: the URI without its scheme.
    pub fn principal(&self) -> String {
        format!(
            "{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl FromStr for Identity {
    type Err = NotAnIdentity;

    fn from_str(uri: &str) -> Result<Self, NotAnIdentity> {
        let parts: Option<(&str, &str, &str)> = (|| {
            let (trust_domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
            let (namespace, service_account) = path.strip_prefix("ns/")?.split_once("/sa/")?;
            Some((trust_domain, namespace, service_account))
        })();
        let (trust_domain, namespace, service_account) =
            parts.ok_or_else(|| NotAnIdentity(uri.chars().take(300).collect()))?;
        Self::new(trust_domain, namespace, service_account)
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl serde::Serialize for Identity {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
