//! The two handshakes.

use std::{io, net::Ipv4Addr, sync::Arc};

use decide::{model::Identity, verify::NotVerified};
use rustls::{
    AlertDescription, CertificateError, CommonState, Error, OtherError, PeerIncompatible,
    pki_types::{IpAddr, ServerName},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::{
    Peer,
    configs::{self, ALPN},
};
use crate::certs::Leaf;

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The network failed, or the peer went away.
    #[error("the connection broke: {0}")]
    Io(Arc<str>),
    /// The peer is not verified, or speaks another protocol.
    #[error("{0}")]
    Handshake(Arc<str>),
}

/// Accepts mutual TLS. Bound the time outside.
///
/// # Errors
/// Why there is no peer.
pub async fn accept<S>(leaf: &Leaf, socket: S) -> Result<(server::TlsStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = configs::server(leaf).map_err(|error| TlsError::Handshake(sentence(&error)))?;
    let stream = TlsAcceptor::from(config).accept(socket).await?;
    let peer = finished(stream.get_ref().1)?;
    Ok((stream, peer))
}

/// Connects by mutual TLS to a peer that must be `expected`. Bound the time outside.
///
/// # Errors
/// Why there is no peer, another identity included.
pub async fn connect<S>(leaf: &Leaf, socket: S, expected: &Identity) -> Result<(client::TlsStream<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = configs::client(leaf, expected).map_err(|error| TlsError::Handshake(sentence(&error)))?;
    // Peers are known by identity alone; an address as name is never sent as SNI (RFC 6066 3).
    let nobody = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    let stream = TlsConnector::from(Arc::new(config)).connect(nobody, socket).await?;
    let peer = finished(stream.get_ref().1)?;
    Ok((stream, peer))
}

fn finished(connection: &CommonState) -> Result<Peer, TlsError> {
    if connection.alpn_protocol() != Some(ALPN) {
        return Err(TlsError::Handshake("the peer did not agree on ALPN h2".into()));
    }
    let chain = connection.peer_certificates().unwrap_or_default();
    Peer::verified(chain).map_err(TlsError::Handshake)
}

impl From<io::Error> for TlsError {
    fn from(error: io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(tls) => Self::Handshake(sentence(tls)),
            None => Self::Io(error.to_string().into()),
        }
    }
}

/// rustls' error in the mesh's words.
fn sentence(error: &Error) -> Arc<str> {
    match error {
        // Our verifier's own words.
        Error::InvalidCertificate(CertificateError::Other(OtherError(why))) => why.to_string().into(),
        Error::NoCertificatesPresented => NotVerified::Missing.to_string().into(),
        Error::NoApplicationProtocol | Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the peer does not offer ALPN h2".into()
        }
        // Our resolver's only reason to resolve nothing.
        Error::General(why) if why == "no server certificate chain resolved" => "the client offers no ALPN".into(),
        Error::PeerIncompatible(PeerIncompatible::Tls12NotOfferedOrEnabled)
        | Error::PeerIncompatible(PeerIncompatible::SupportedVersionsExtensionRequired)
        | Error::AlertReceived(AlertDescription::ProtocolVersion) => "the peer does not speak TLS 1.3".into(),
        Error::AlertReceived(alert) => format!("the peer refuses the handshake: {alert:?}").into(),
        other => other.to_string().into(),
    }
}
