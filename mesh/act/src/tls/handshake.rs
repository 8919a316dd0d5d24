//! The two handshakes.

use std::{io, net::Ipv4Addr, ops::Deref, sync::Arc};

use decide::{model::Identity, verify::NotVerified};
use rustls::{
    AlertDescription, CertificateError, CommonState, Error, NamedGroup, OtherError, PeerIncompatible,
    client::{ClientConnectionData, UnbufferedClientConnection},
    pki_types::{IpAddr, ServerName},
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{
    Peer,
    configs::{self, ALPN},
    records::{Kernel, RECORD, Records},
};
use crate::certs::Leaf;

/// Most bytes of a handshake that wait to be understood: a chain of certificates of any sane length.
const MOST_WAITING: usize = 128 * 1024;

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

/// A connection whose handshake is over.
#[derive(Debug)]
pub struct Channel<S> {
    /// The socket under it.
    pub(crate) socket: S,
    /// What encrypts and decrypts.
    pub(crate) records: Records,
    /// What came after the handshake and is not decrypted yet.
    pub(crate) rest: Vec<u8>,
    /// What came after the handshake and rustls has decrypted with its end.
    pub(crate) early: Vec<u8>,
    group: Option<NamedGroup>,
}

impl<S> Channel<S> {
    /// The group that the key was agreed on by.
    pub fn group(&self) -> Option<NamedGroup> {
        self.group
    }
}

/// Accepts mutual TLS. Bound the time outside.
///
/// # Errors
/// Why there is no peer.
pub async fn accept<S>(leaf: &Leaf, socket: S) -> Result<(Channel<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = configs::server(leaf)?;
    shake(UnbufferedServerConnection::new(config)?, socket).await
}

/// Connects by mutual TLS to a peer that must be `expected`. Bound the time outside.
///
/// # Errors
/// Why there is no peer, another identity included.
pub async fn connect<S>(leaf: &Leaf, socket: S, expected: &Identity) -> Result<(Channel<S>, Peer), TlsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = configs::client(leaf, expected)?;
    // Peers are known by identity alone; an address as name is never sent as SNI (RFC 6066 3).
    let nobody = ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    shake(UnbufferedClientConnection::new(Arc::new(config), nobody)?, socket).await
}

/// Either side of a handshake.
trait Side: Deref<Target: Deref<Target = CommonState>> + Sized {
    type Data;

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;

    fn finish(self) -> Result<Records, Error>;
}

impl Side for UnbufferedClientConnection {
    type Data = ClientConnectionData;

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }

    fn finish(self) -> Result<Records, Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Records::new(secrets, Kernel::Client(kernel))
    }
}

impl Side for UnbufferedServerConnection {
    type Data = ServerConnectionData;

    fn process<'c, 'i>(&'c mut self, wire: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(wire)
    }

    fn finish(self) -> Result<Records, Error> {
        let (secrets, kernel) = self.dangerous_into_kernel_connection()?;
        Records::new(secrets, Kernel::Server(kernel))
    }
}

/// What a step of a handshake calls for.
enum Step {
    Go,
    Send,
    Read,
    Done,
    Closed,
}

async fn shake<C, S>(mut connection: C, mut socket: S) -> Result<(Channel<S>, Peer), TlsError>
where
    C: Side,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut wire, mut outgoing, mut early) = (Vec::new(), Vec::new(), Vec::new());
    loop {
        match step(&mut connection, &mut wire, &mut outgoing, &mut early) {
            Ok(Step::Go) => {}
            Ok(Step::Send) => {
                socket.write_all(&outgoing).await?;
                outgoing.clear();
            }
            Ok(Step::Done) if !connection.is_handshaking() => break,
            // A server that may send already still waits for who its client is.
            Ok(Step::Read | Step::Done) => {
                if wire.len() >= MOST_WAITING {
                    return Err(TlsError::Handshake("the peer's handshake is too long".into()));
                }
                wire.reserve(RECORD);
                if socket.read_buf(&mut wire).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
            }
            Ok(Step::Closed) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Err(error) => {
                // The alert that says why. Lost where the peer is gone.
                while matches!(
                    step(&mut connection, &mut wire, &mut outgoing, &mut early),
                    Ok(Step::Go)
                ) {}
                let _ = socket.write_all(&outgoing).await;
                let _ = socket.flush().await;
                return Err(error.into());
            }
        }
    }
    let peer = finished(&connection)?;
    let group = connection.negotiated_key_exchange_group().map(|group| group.name());
    wire.shrink_to_fit();
    let channel = Channel {
        socket,
        records: connection.finish()?,
        rest: wire,
        early,
        group,
    };
    Ok((channel, peer))
}

/// One step: reads from `wire`, from which it takes what it has read, or adds to `outgoing`. Bytes that came right
/// behind the handshake are added to `early`.
fn step<C: Side>(
    connection: &mut C,
    wire: &mut Vec<u8>,
    outgoing: &mut Vec<u8>,
    early: &mut Vec<u8>,
) -> Result<Step, Error> {
    let UnbufferedStatus { mut discard, state } = connection.process(wire);
    let step = match state {
        Err(error) => Err(error),
        Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, outgoing).map(|()| Step::Go),
        Ok(ConnectionState::TransmitTlsData(data)) => {
            data.done();
            Ok(Step::Send)
        }
        Ok(ConnectionState::BlockedHandshake) => Ok(Step::Read),
        Ok(ConnectionState::WriteTraffic(_)) => Ok(Step::Done),
        Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => Ok(Step::Closed),
        Ok(ConnectionState::ReadTraffic(mut records)) => {
            while let Some(record) = records.next_record() {
                let record = record?;
                discard += record.discard;
                early.extend_from_slice(record.payload);
            }
            Ok(Step::Go)
        }
        // Early data, which is not offered.
        Ok(_) => Err(Error::General(
            "the peer sent bytes before its handshake was over".into(),
        )),
    };
    wire.drain(..discard);
    step
}

fn encode<D>(data: &mut EncodeTlsData<'_, D>, outgoing: &mut Vec<u8>) -> Result<(), Error> {
    let start = outgoing.len();
    let mut size = 1024;
    loop {
        outgoing.resize(start + size, 0);
        match data.encode(outgoing.get_mut(start..).unwrap_or_default()) {
            Ok(written) => {
                outgoing.truncate(start + written);
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(needed)) => size = needed.required_size,
            Err(error) => return Err(Error::General(error.to_string())),
        }
    }
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
        Self::Io(error.to_string().into())
    }
}

impl From<Error> for TlsError {
    fn from(error: Error) -> Self {
        Self::Handshake(sentence(&error))
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
