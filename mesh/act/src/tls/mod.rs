//! Mutual TLS 1.3 as the mesh speaks it: rustls around `decide::verify`. ALPN h2, no resumption, no early
//! data, X25519MLKEM768 first (design 9). A finished handshake is the proof that makes a [`Peer`].

use std::{sync::Arc, time::SystemTime};

use decide::model::Identity;
use tokio::net::TcpStream;

use crate::certs::Leaf;

/// An authenticated other side: a proof value (design 21).
#[derive(Debug, Clone)]
pub struct Peer {
    identity: Identity,
    serial: Arc<str>,
    not_after: SystemTime,
}

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

impl Peer {
    /// Who it is.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Serial number of its leaf, hexadecimal.
    pub fn serial(&self) -> &Arc<str> {
        &self.serial
    }

    /// When its leaf ends: no new stream after that (design 10).
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

/// Accepts mutual TLS. Bound the time outside.
///
/// # Errors
/// Why there is no peer.
pub async fn accept(
    leaf: &Leaf,
    socket: TcpStream,
) -> Result<(tokio_rustls::server::TlsStream<TcpStream>, Peer), TlsError> {
    let _ = (leaf, socket);
    todo!()
}

/// Connects by mutual TLS to a peer that must be `expected`. Bound the time outside.
///
/// # Errors
/// Why there is no peer, another identity included.
pub async fn connect(
    leaf: &Leaf,
    socket: TcpStream,
    expected: &Identity,
) -> Result<(tokio_rustls::client::TlsStream<TcpStream>, Peer), TlsError> {
    let _ = (leaf, socket, expected);
    todo!()
}
