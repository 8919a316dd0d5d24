//! Certificates as PEM text (RFC 7468), the form of files and of the CA's API.

use std::sync::Arc;

use pem::{EncodeConfig, LineEnding, Pem};
use rustls::pki_types::{CertificateDer, pem::PemObject};

/// Certificates of one text.
const MOST: usize = 256;

/// Why a text holds no certificates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPem {
    /// Something between its lines is not PEM.
    #[error("it is not PEM: {0}")]
    Malformed(Arc<str>),
    /// There is no certificate in it.
    #[error("it holds no PEM certificate")]
    Empty,
    /// There are more than anybody needs.
    #[error("it holds more than {MOST} certificates")]
    TooMany,
}

/// Every certificate of a PEM text, in order; at least one. Other sections are passed over.
///
/// # Errors
/// [`NotPem`].
pub fn certificates_of(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, NotPem> {
    let mut certificates = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        if certificates.len() == MOST {
            return Err(NotPem::TooMany);
        }
        certificates.push(certificate.map_err(|error| NotPem::Malformed(error.to_string().into()))?);
    }
    if certificates.is_empty() {
        return Err(NotPem::Empty);
    }
    Ok(certificates)
}

/// Certificates as PEM text, in order.
pub fn pem(certificates: &[CertificateDer<'_>]) -> String {
    let config = EncodeConfig::new().set_line_ending(LineEnding::LF);
    certificates
        .iter()
        .map(|certificate| pem::encode_config(&Pem::new("CERTIFICATE", certificate.as_ref()), config))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_survive_the_text_and_nothing_else_is_taken_for_one() {
        let two = [CertificateDer::from(vec![1; 100]), CertificateDer::from(vec![2])];
        assert_eq!(certificates_of(pem(&two).as_bytes()).unwrap(), two);
        assert_eq!(certificates_of(b"").unwrap_err(), NotPem::Empty);
        assert_eq!(certificates_of(b"hello").unwrap_err(), NotPem::Empty);
        let cut = pem(&two).replace("-----END CERTIFICATE-----", "");
        assert!(matches!(
            certificates_of(cut.as_bytes()).unwrap_err(),
            NotPem::Malformed(_)
        ));
        let many = vec![CertificateDer::from(vec![1]); MOST + 1];
        assert_eq!(certificates_of(pem(&many).as_bytes()).unwrap_err(), NotPem::TooMany);
    }
}
