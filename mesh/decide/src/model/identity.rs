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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let identity: Identity = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        assert_eq!(identity.trust_domain(), "cluster.local");
        assert_eq!(identity.namespace(), "shop");
        assert_eq!(identity.service_account(), "web");
        assert_eq!(identity.principal(), "cluster.local/ns/shop/sa/web");
        assert_eq!(identity.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    }

    #[test]
    fn what_is_not_of_the_form_is_refused() {
        for uri in [
            "",
            "cluster.local/ns/shop/sa/web",
            "http://cluster.local/ns/shop/sa/web",
            "spiffe:///ns/shop/sa/web",
            "spiffe://cluster.local",
            "spiffe://cluster.local/",
            "spiffe://cluster.local/ns//sa/web",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe://cluster.local/ns/shop/sa/web/",
            "spiffe://cluster.local/ns/shop/sa/web/x",
            "spiffe://cluster.local/ns/shop/x/sa/web",
            "spiffe://cluster.local/ns/shop/sa/web?x",
            "spiffe://cluster.local/ns/shop/sa/web#x",
            "spiffe://cluster.local/ns/shop/sa/a%2fb",
            "spiffe://cluster.local:15012/ns/shop/sa/web",
            "spiffe://user@cluster.local/ns/shop/sa/web",
            "spiffe://Cluster.Local/ns/shop/sa/web",
            "spiffe://cluster.local/NS/shop/SA/web",
            " spiffe://cluster.local/ns/shop/sa/web",
            "spiffe://cluster.local/ns/shop/sa/web\n",
            "spiffe://cluster.local/ns/shöp/sa/web",
        ] {
            assert_eq!(uri.parse::<Identity>(), Err(NotAnIdentity(uri.to_owned())), "{uri}");
        }
    }

    #[test]
    fn parts_of_more_than_253_bytes_are_refused_and_the_error_stays_short() {
        let long = "a".repeat(253);
        assert!(Identity::new(&long, &long, &long).is_ok());
        assert!(Identity::new(&format!("{long}a"), "shop", "web").is_err());
        let NotAnIdentity(told) = "x".repeat(10_000).parse::<Identity>().unwrap_err();
        assert!(told.len() <= 300);
    }

    proptest! {
        #[test]
        fn writing_and_reading_gives_the_same_identity(
            domain in "[a-z0-9._-]{1,20}",
            namespace in "[A-Za-z0-9._-]{1,20}",
            account in "[A-Za-z0-9._-]{1,20}",
        ) {
            let identity = Identity::new(&domain, &namespace, &account).unwrap();
            prop_assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }

        #[test]
        fn no_string_panics_and_what_parses_is_written_back(uri in "(spiffe://)?[a-z./ns]{0,40}(/sa/)?.{0,10}") {
            if let Ok(identity) = uri.parse::<Identity>() {
                prop_assert_eq!(identity.to_string(), uri);
            }
        }
    }
}
