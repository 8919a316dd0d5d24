//! What every handshake of one leaf shares, built once per leaf; a client's handshake adds whom it expects.

use std::sync::{Arc, LazyLock};

use decide::model::Identity;
use rustls::{
    ClientConfig, Error, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::{
        CryptoProvider,
        aws_lc_rs::{cipher_suite, default_provider, kx_group},
    },
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

use super::verifier::PeerVerifier;
use crate::certs::Leaf;

/// HTTP/2 over TLS (RFC 7540 3.3).
pub(super) const ALPN: &[u8] = b"h2";

/// The mesh's cryptography: aws-lc-rs, AES-GCM, X25519MLKEM768 before X25519 before P-256 (design 9).
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        Arc::new(CryptoProvider {
            cipher_suites: vec![
                cipher_suite::TLS13_AES_256_GCM_SHA384,
                cipher_suite::TLS13_AES_128_GCM_SHA256,
            ],
            kx_groups: vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1],
            ..default_provider()
        })
    });
    PROVIDER.clone()
}

/// A server's side as `leaf`: any client of our trust domain.
pub(super) fn server(leaf: &Leaf) -> Result<Arc<ServerConfig>, Error> {
    if let Some(config) = leaf.server.get() {
        return Ok(config.clone());
    }
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(Arc::new(PeerVerifier::new(leaf, None)))
        .with_cert_resolver(Arc::new(Presented(leaf.certified.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not verify the client again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // For our own record layer.
    config.enable_secret_extraction = true;
    Ok(leaf.server.get_or_init(|| Arc::new(config)).clone())
}

/// A client's side as `leaf`, towards nobody but `expected`.
pub(super) fn client(leaf: &Leaf, expected: &Identity) -> Result<ClientConfig, Error> {
    let verifier = Arc::new(PeerVerifier::new(leaf, Some(expected.clone())));
    if let Some(shared) = leaf.client.get() {
        let mut config = ClientConfig::clone(shared);
        config.dangerous().set_certificate_verifier(verifier);
        return Ok(config);
    }
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(Presented(leaf.certified.clone())));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.enable_secret_extraction = true;
    let _ = leaf.client.set(Arc::new(config.clone()));
    Ok(config)
}

/// Presents the one leaf, whoever asks.
#[derive(Debug)]
struct Presented(Arc<CertifiedKey>);

impl ResolvesServerCert for Presented {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // rustls lets a client without ALPN pass; the mesh does not. One with another ALPN it refuses itself.
        hello.alpn().map(|_| self.0.clone())
    }
}

impl ResolvesClientCert for Presented {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
