//! Signing: an issuer's certificate and key make roots, intermediates and leaves. Pure but for randomness of
//! keys and serial numbers; used by `ca` and by [`super::local`].

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use decide::model::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::{
    crypto::aws_lc_rs::default_provider,
    pki_types::{CertificateDer, IpAddr, ServerName},
};

use super::leaf::{Facts, hexadecimal};

/// When a certificate holds. Whole seconds; what is below is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub not_before: SystemTime,
    /// Until.
    pub not_after: SystemTime,
}

/// Whom a leaf names.
#[derive(Debug, Clone)]
pub enum Name<'a> {
    /// A workload: a URI name, for client and server.
    Identity(&'a Identity),
    /// A host by its DNS names and addresses, for a server.
    Host(&'a [ServerName<'a>]),
}

/// A fresh certificate.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Serial number, hexadecimal.
    pub serial: Arc<str>,
    /// When it holds.
    pub validity: Validity,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The issuer's certificate is none, or no CA's, or not of this key.
    #[error("the issuer's certificate does not fit: {0}")]
    Issuer(Arc<str>),
    /// Key or certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Making(Arc<str>),
}

/// Signs: a CA certificate and its key.
#[derive(Debug)]
pub struct Issuer {
    inner: rcgen::Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    validity: Validity,
}

impl Issuer {
    /// A new self-signed root (ECDSA P-256) with this common name.
    ///
    /// # Errors
    /// [`SigningError::Making`].
    pub fn root(name: &str, validity: Validity) -> Result<Self, SigningError> {
        let key = KeyPair::generate()?;
        let mut params = authority_params(name, BasicConstraints::Unconstrained, validity)?;
        params.use_authority_key_identifier_extension = false;
        let certificate = params.self_signed(&key)?.der().clone();
        Self::new(certificate, key)
    }

    /// A new intermediate (ECDSA P-256, path length 0) below this one, never outliving it.
    ///
    /// # Errors
    /// [`SigningError::Making`].
    pub fn intermediate(&self, name: &str, validity: Validity) -> Result<Self, SigningError> {
        let key = KeyPair::generate()?;
        let params = authority_params(name, BasicConstraints::Constrained(0), self.within(validity))?;
        let certificate = params.signed_by(&key, &self.inner)?.der().clone();
        Self::new(certificate, key)
    }

    /// An issuer from what was stored.
    ///
    /// # Errors
    /// [`SigningError::Issuer`] when it is no CA certificate, or not of this key.
    pub fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, SigningError> {
        let unfit = |why: String| SigningError::Issuer(why.into());
        let parsed = webpki::EndEntityCert::try_from(&certificate).map_err(|error| unfit(error.to_string()))?;
        if *parsed.subject_public_key_info() != *key.subject_public_key_info() {
            return Err(unfit("it certifies another key than the one given".to_owned()));
        }
        let facts = Facts::read(&certificate).map_err(SigningError::Issuer)?;
        let inner = rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(|error| unfit(error.to_string()))?;
        if !inner.key_usages().is_empty() && !inner.key_usages().contains(&KeyUsagePurpose::KeyCertSign) {
            return Err(unfit("it may not sign certificates".to_owned()));
        }
        Ok(Self {
            inner,
            certificate,
            validity: Validity {
                not_before: facts.not_before,
                not_after: facts.not_after,
            },
        })
    }

    /// A leaf for this public key: empty subject and critical name for an identity (SPIFFE X.509-SVID 4.1, 4.3),
    /// random 128-bit serial number, never outliving the issuer.
    ///
    /// # Errors
    /// [`SigningError::Making`].
    pub fn leaf(&self, key: &impl PublicKeyData, name: &Name<'_>, validity: Validity) -> Result<Issued, SigningError> {
        let validity = self.within(validity);
        let mut params = dated(validity)?;
        params.distinguished_name = DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = match name {
            Name::Identity(identity) => {
                params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
                vec![SanType::URI(identity.to_string().try_into()?)]
            }
            Name::Host(names) => names.iter().map(host).collect::<Result<_, _>>()?,
        };
        let serial = params
            .serial_number
            .as_ref()
            .map(SerialNumber::to_bytes)
            .unwrap_or_default();
        let certificate = params.signed_by(key, &self.inner)?.der().clone();
        Ok(Issued {
            certificate,
            serial: hexadecimal(&serial),
            validity,
        })
    }

    /// Its own certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its key in PKCS#8 PEM, to be stored where only its owner reads.
    pub fn key_pem(&self) -> String {
        self.inner.key().serialize_pem()
    }

    /// When its own certificate holds.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    fn within(&self, wanted: Validity) -> Validity {
        Validity {
            not_before: wanted.not_before.max(self.validity.not_before),
            not_after: wanted.not_after.min(self.validity.not_after),
        }
    }
}

impl Validity {
    /// From `before` ahead of `now` until `life` after it.
    pub fn around(now: SystemTime, before: Duration, life: Duration) -> Self {
        Self {
            not_before: now.checked_sub(before).unwrap_or(SystemTime::UNIX_EPOCH),
            not_after: now + life,
        }
    }

    /// From beginning to end.
    pub fn life(&self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }
}

impl From<rcgen::Error> for SigningError {
    fn from(error: rcgen::Error) -> Self {
        Self::Making(error.to_string().into())
    }
}

fn host(name: &ServerName<'_>) -> Result<SanType, SigningError> {
    match name {
        ServerName::DnsName(name) => Ok(SanType::DnsName(name.as_ref().to_owned().try_into()?)),
        ServerName::IpAddress(IpAddr::V4(v4)) => Ok(SanType::IpAddress((*v4.as_ref()).into())),
        ServerName::IpAddress(IpAddr::V6(v6)) => Ok(SanType::IpAddress((*v6.as_ref()).into())),
        _ => Err(SigningError::Making("a host is a DNS name or an address".into())),
    }
}

fn authority_params(
    name: &str,
    constraints: BasicConstraints,
    validity: Validity,
) -> Result<CertificateParams, SigningError> {
    let mut params = dated(validity)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Parameters with this validity and a random serial number: 128 bits, positive (RFC 5280 4.1.2.2).
fn dated(validity: Validity) -> Result<CertificateParams, SigningError> {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since = |time: SystemTime| {
        let seconds = time
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Duration::from_secs(seconds)
    };
    let mut params = CertificateParams::default();
    params.not_before = epoch + since(validity.not_before);
    params.not_after = epoch + since(validity.not_after);
    let mut serial = [0; 16];
    default_provider()
        .secure_random
        .fill(&mut serial)
        .map_err(|_| SigningError::Making("the system gives no randomness".into()))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}
