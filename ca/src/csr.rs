//! What a CSR proves: that its sender has the key. Everything else in it is a wish.

use decide::model::Identity;
use rcgen::SubjectPublicKeyInfo;
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use x509_parser::{
    certification_request::X509CertificationRequest,
    der_parser::{Oid, oid},
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY},
    prelude::FromDer,
    x509::SubjectPublicKeyInfo as ParsedKey,
};

/// Of PEM text; a CSR with a P-384 key takes less than 1 KiB.
pub const MOST_CSR_BYTES: usize = 16 << 10;

/// NIST P-384 (RFC 5480 2.1.1.1).
const P384: Oid<'static> = oid!(1.3.132.0.34);

/// A CSR whose sender has the key.
#[derive(Debug)]
pub struct Csr {
    /// The key.
    pub key: SubjectPublicKeyInfo,
    /// The one SPIFFE identity it wishes for, if it names exactly one.
    pub wish: Option<Identity>,
}

/// Why a CSR is worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCsr {
    /// Larger than [`MOST_CSR_BYTES`].
    #[error("the CSR is larger than {MOST_CSR_BYTES} bytes")]
    TooLarge,
    /// Not PKCS#10 in PEM.
    #[error("the CSR is no PKCS#10 request in PEM")]
    Malformed,
    /// Neither P-256 nor P-384.
    #[error("the CSR's key is neither ECDSA P-256 nor P-384")]
    KeyType,
    /// Not signed by the key it carries.
    #[error("the CSR is not signed by its own key")]
    Signature,
}

impl Csr {
    /// Reads and verifies a CSR in PEM.
    ///
    /// # Errors
    /// [`BadCsr`].
    pub fn parse(pem: &str) -> Result<Self, BadCsr> {
        if pem.len() > MOST_CSR_BYTES {
            return Err(BadCsr::TooLarge);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| BadCsr::Malformed)?;
        let (rest, csr) = X509CertificationRequest::from_der(&der).map_err(|_| BadCsr::Malformed)?;
        if !rest.is_empty() {
            return Err(BadCsr::Malformed);
        }
        let key = &csr.certification_request_info.subject_pki;
        if !is_supported(key) {
            return Err(BadCsr::KeyType);
        }
        csr.verify_signature().map_err(|_| BadCsr::Signature)?;
        Ok(Self {
            key: SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| BadCsr::KeyType)?,
            wish: wish(&csr),
        })
    }
}

/// An uncompressed point of one of the two curves.
fn is_supported(key: &ParsedKey<'_>) -> bool {
    let curve = key.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    let length = match curve {
        Some(curve) if curve == OID_EC_P256 => 65,
        Some(curve) if curve == P384 => 97,
        _ => return false,
    };
    let point = &key.subject_public_key;
    key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && point.unused_bits == 0
        && point.data.len() == length
        && point.data.first() == Some(&4)
}

fn wish(csr: &X509CertificationRequest<'_>) -> Option<Identity> {
    let mut names = csr.requested_extensions()?.filter_map(|extension| match extension {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    match (names.next()?.as_slice(), names.next()) {
        ([GeneralName::URI(uri)], None) => uri.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, CustomExtension, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
        PKCS_ED25519, PublicKeyData, SanType,
    };

    use super::*;

    fn request(key: &KeyPair, uris: &[&str]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        // Extensions we do not know are wishes like everything else.
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn the_key_is_taken_and_one_wish_is_heard() {
        let web = "spiffe://cluster.local/ns/shop/sa/web";
        for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let csr = Csr::parse(&request(&key, &[web])).unwrap();
            assert_eq!(csr.key.subject_public_key_info(), key.subject_public_key_info());
            assert_eq!(csr.wish.unwrap().to_string(), web);
        }
        let key = KeyPair::generate().unwrap();
        for wishes in [&[][..], &[web, web], &["https://example.com"]] {
            assert_eq!(Csr::parse(&request(&key, wishes)).unwrap().wish, None);
        }
    }

    #[test]
    fn other_keys_and_foreign_signatures_are_refused() {
        let ed25519 = KeyPair::generate_for(&PKCS_ED25519).unwrap();
        assert_eq!(Csr::parse(&request(&ed25519, &[])).unwrap_err(), BadCsr::KeyType);

        // Another's key within a request: the signature does not hold.
        let pem = request(&KeyPair::generate().unwrap(), &[]);
        let (mine, theirs) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let der = CertificateSigningRequestDer::from_pem_slice(request(&mine, &[]).as_bytes()).unwrap();
        let at = der
            .windows(65)
            .position(|bytes| bytes == mine.public_key_raw())
            .unwrap();
        let mut forged = der.to_vec();
        forged[at..at + 65].copy_from_slice(theirs.public_key_raw());
        let forged = pem_of(&forged);
        assert_eq!(Csr::parse(&forged).unwrap_err(), BadCsr::Signature);
        Csr::parse(&pem).unwrap();
    }

    #[test]
    fn malformed_and_huge_requests_are_refused() {
        let good = request(&KeyPair::generate().unwrap(), &[]);
        let der = CertificateSigningRequestDer::from_pem_slice(good.as_bytes()).unwrap();
        let longer = [&der[..], &[0]].concat();
        for bad in [
            "",
            "hello",
            &good[..good.len() / 2],
            &pem_of(&der[..der.len() - 3]),
            &pem_of(&longer),
        ] {
            assert_eq!(Csr::parse(bad).unwrap_err(), BadCsr::Malformed, "{bad}");
        }
        assert_eq!(
            Csr::parse(&"x".repeat(MOST_CSR_BYTES + 1)).unwrap_err(),
            BadCsr::TooLarge
        );
        // No byte of it can make us panic.
        for at in 0..der.len() {
            let mut bent = der.to_vec();
            bent[at] ^= 0x55;
            let _ = Csr::parse(&pem_of(&bent));
        }
    }

    fn pem_of(der: &[u8]) -> String {
        act::certs::pem(&[der.into()]).replace("CERTIFICATE", "CERTIFICATE REQUEST")
    }
}
