//! One leaf of ours: what a CA answered, proven to be what a peer would accept.

use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use decide::{
    model::Identity,
    verify::{Usage, verify},
};
use rustls::{
    ClientConfig, ServerConfig,
    crypto::aws_lc_rs::sign::any_ecdsa_type,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, TrustAnchor, UnixTime},
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Signed;

/// Certificates of one chain, leaf included.
const MOST_CHAIN: usize = 8;
/// Roots of one bundle.
const MOST_ROOTS: usize = 64;

/// A leaf of ours, ready for use.
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
    /// Valid until: the earliest end in its chain.
    pub not_after: SystemTime,
    /// When it was found good here. Its life with us counts from then: CAs write a beginning in the past, for clocks
    /// that are behind.
    pub since: SystemTime,
    /// Built once by `tls`.
    pub(crate) server: OnceLock<Arc<ServerConfig>>,
    /// Built once by `tls`.
    pub(crate) client: OnceLock<Arc<ClientConfig>>,
}

/// What a certificate says of itself, verified or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Serial number, hexadecimal.
    pub(crate) serial: Arc<str>,
    /// Valid from.
    pub(crate) not_before: SystemTime,
    /// Valid until.
    pub(crate) not_after: SystemTime,
}

impl Leaf {
    /// The leaf made of a CA's answer, if at `now` every peer would accept it as `identity`, as client and as
    /// server, and if it is of this key (PKCS#8).
    ///
    /// # Errors
    /// One plain sentence: what is wrong with the answer.
    pub fn verified(
        identity: &Identity,
        key: PrivatePkcs8KeyDer<'static>,
        signed: Signed,
        now: SystemTime,
    ) -> Result<Self, Arc<str>> {
        if signed.chain.len() > MOST_CHAIN || signed.roots.len() > MOST_ROOTS {
            return Err(format!(
                "{} certificates and {} roots are too many",
                signed.chain.len(),
                signed.roots.len()
            )
            .into());
        }
        let roots = anchors(&signed.roots)?;
        for usage in [Usage::Client, Usage::Server] {
            let found = verify(&signed.chain, &roots, identity.trust_domain(), usage, unix(now))
                .map_err(|why| why.to_string())?;
            if found != *identity {
                return Err(format!("it is for {found}").into());
            }
        }
        let chain: Vec<Facts> = signed.chain.iter().map(Facts::read).collect::<Result<_, _>>()?;
        let (Some(leaf), Some(end)) = (chain.first(), chain.iter().map(|facts| facts.not_after).min()) else {
            return Err("it is empty".into());
        };
        let signing = any_ecdsa_type(&PrivateKeyDer::Pkcs8(key)).map_err(|error| error.to_string())?;
        let certified = CertifiedKey::new(signed.chain, signing);
        certified
            .keys_match()
            .map_err(|_| "it certifies another key than ours")?;
        Ok(Self {
            identity: identity.clone(),
            certified: Arc::new(certified),
            roots: roots.into(),
            root_certificates: signed.roots.into(),
            serial: leaf.serial.clone(),
            not_before: leaf.not_before,
            not_after: end,
            since: now,
            server: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// Whether it is within its life.
    pub fn valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Leaf")
            .field("identity", &self.identity)
            .field("serial", &self.serial)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

impl Facts {
    /// Reads them from a certificate.
    ///
    /// # Errors
    /// One plain sentence when it is no X.509 certificate.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, Arc<str>> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| Arc::from("it is no X.509 certificate"))?;
        let at = |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        Ok(Self {
            serial: hexadecimal(parsed.raw_serial()),
            not_before: at(parsed.validity().not_before.timestamp()),
            not_after: at(parsed.validity().not_after.timestamp()),
        })
    }
}

/// A serial number as logs and `openssl x509 -serial` write it, without leading zero bytes.
pub(super) fn hexadecimal(serial: &[u8]) -> Arc<str> {
    use fmt::Write;
    let mut text = String::with_capacity(serial.len() * 2);
    for byte in serial.iter().skip_while(|byte| **byte == 0) {
        let _ = write!(text, "{byte:02x}");
    }
    text.into()
}

fn anchors(roots: &[CertificateDer<'_>]) -> Result<Vec<TrustAnchor<'static>>, Arc<str>> {
    roots
        .iter()
        .map(|root| {
            webpki::anchor_from_trusted_cert(root)
                .map(|anchor| anchor.to_owned())
                .map_err(|error| format!("a root certificate cannot be read: {error}").into())
        })
        .collect()
}

pub(super) fn unix(time: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use rcgen::KeyPair;

    use super::*;
    use crate::certs::{Name, Validity, local::LocalAuthority};

    fn web() -> Identity {
        Identity::new("cluster.local", "shop", "web").unwrap()
    }

    fn answer(authority: &LocalAuthority, key: &KeyPair, now: SystemTime) -> Signed {
        let validity = Validity::around(now, Duration::from_secs(300), Duration::from_secs(60));
        let issued = authority.issuer().leaf(key, &Name::Identity(&web()), validity).unwrap();
        Signed {
            chain: vec![issued.certificate, authority.issuer().certificate().clone()],
            roots: vec![authority.root().clone()],
        }
    }

    fn pkcs8(key: &KeyPair) -> PrivatePkcs8KeyDer<'static> {
        PrivatePkcs8KeyDer::from(key.serialize_der())
    }

    #[test]
    fn only_what_a_peer_would_accept_becomes_a_leaf() {
        let authority = LocalAuthority::new().unwrap();
        let (key, now) = (KeyPair::generate().unwrap(), SystemTime::now());
        let good = answer(&authority, &key, now);
        let leaf = Leaf::verified(&web(), pkcs8(&key), good.clone(), now).unwrap();
        assert_eq!(leaf.serial.len(), 32);
        assert!(leaf.valid_at(now) && !leaf.valid_at(now + Duration::from_secs(60)));

        let another = KeyPair::generate().unwrap();
        let why = Leaf::verified(&web(), pkcs8(&another), good.clone(), now).unwrap_err();
        assert_eq!(&*why, "it certifies another key than ours");

        let foreign = Signed {
            roots: vec![LocalAuthority::new().unwrap().root().clone()],
            ..good.clone()
        };
        let late = now + Duration::from_secs(61);
        let early = now - Duration::from_secs(301);
        let empty = Signed {
            chain: vec![],
            ..good.clone()
        };
        let long = Signed {
            chain: vec![good.chain[0].clone(); 9],
            ..good.clone()
        };
        let garbage = Signed {
            chain: vec![CertificateDer::from(vec![0x30; 10])],
            ..good.clone()
        };
        for (unfit, at) in [
            (foreign, now),
            (good.clone(), late),
            (good, early),
            (empty, now),
            (long, now),
            (garbage, now),
        ] {
            Leaf::verified(&web(), pkcs8(&key), unfit, at).unwrap_err();
        }
    }

    #[test]
    fn a_leaf_ends_no_later_than_its_issuer() {
        let now = SystemTime::now();
        let root = crate::certs::Issuer::root("short", Validity::around(now, Duration::ZERO, Duration::from_secs(90)))
            .unwrap();
        let key = KeyPair::generate().unwrap();
        let day = Validity::around(now, Duration::from_secs(300), Duration::from_secs(86_400));
        let issued = root.leaf(&key, &Name::Identity(&web()), day).unwrap();
        assert_eq!(issued.validity, root.validity());
    }
}
