//! The cluster's certificates: one authority, a certificate for each component, the key of service account tokens.
//! From names to PEM; nothing is written here.

use act::process::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

/// The cluster's certificate authority.
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A key and what vouches for it, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    /// The certificate; of the service accounts' key, the public key.
    pub(super) certificate: String,
    /// The private key.
    pub(super) key: String,
}

/// Whom a certificate names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subject<'a> {
    /// The user's name to Kubernetes (common name).
    pub(super) user: &'a str,
    /// The user's group (organization), where there is one.
    pub(super) group: Option<&'a str>,
    /// Host names and addresses it serves under.
    pub(super) hosts: &'a [&'a str],
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// When its key cannot be made.
    pub(super) fn new() -> Result<Self, Failure> {
        let mut params = CertificateParams::new(Vec::new()).map_err(cannot)?;
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().map_err(cannot)?).map_err(cannot)?;
        Ok(Self { issuer })
    }

    /// Its own certificate, and the key it signs with.
    pub(super) fn credential(&self) -> Credential {
        Credential {
            certificate: self.issuer.pem(),
            key: self.issuer.key().serialize_pem(),
        }
    }

    /// A certificate for client and server use.
    ///
    /// # Errors
    /// When a host name is malformed or the key cannot be made.
    pub(super) fn issue(&self, subject: Subject<'_>) -> Result<Credential, Failure> {
        let hosts: Vec<String> = subject.hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut params = CertificateParams::new(hosts).map_err(cannot)?;
        params.distinguished_name.push(DnType::CommonName, subject.user);
        if let Some(group) = subject.group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().map_err(cannot)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(cannot)?;
        Ok(Credential {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

/// The key that signs service account tokens.
///
/// # Errors
/// When it cannot be made.
pub(super) fn service_accounts() -> Result<Credential, Failure> {
    let key = KeyPair::generate().map_err(cannot)?;
    Ok(Credential {
        certificate: key.public_key_pem(),
        key: key.serialize_pem(),
    })
}

fn cannot(error: rcgen::Error) -> Failure {
    Failure(format!("a certificate of the cluster cannot be made: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_signed_by_the_authority_and_is_another_for_every_subject() {
        let authority = Authority::new().unwrap();
        let subject = Subject {
            user: "system:node:node1",
            group: Some("system:nodes"),
            hosts: &["node1", "10.77.0.11", "fd77::11"],
        };
        let (first, second) = (authority.issue(subject).unwrap(), authority.issue(subject).unwrap());
        assert_ne!(first.key, second.key);
        let own = authority.credential();
        let verified = std::process::Command::new("openssl").arg("version").output().is_ok();
        if verified {
            let directory = tempfile::tempdir().unwrap();
            let at = |name: &str| directory.path().join(name);
            std::fs::write(at("ca.crt"), &own.certificate).unwrap();
            std::fs::write(at("leaf.crt"), &first.certificate).unwrap();
            let said = std::process::Command::new("openssl")
                .arg("verify")
                .arg("-CAfile")
                .arg(at("ca.crt"))
                .args(["-purpose", "sslserver", "-verify_ip", "10.77.0.11"])
                .arg(at("leaf.crt"))
                .output()
                .unwrap();
            assert!(said.status.success(), "{said:?}");
        }
    }
}
