//! One tunnel that a peer made, and the CONNECTs in it.

use std::{fmt, future::poll_fn, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use decide::model::Refusal;
use futures_util::{FutureExt, future::BoxFuture};
use h2::server::{Connection, SendResponse};
use http::{HeaderMap, Request, Response};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Stream, StreamError, Traceparent, Transport, TunnelOptions,
    client::Io,
    connect::{authority, forwarded_host, refused},
    keepalive::keepalive,
};
use crate::{
    certs::Leaf,
    tls::{self, Peer, TlsError},
};

/// A tunnel that a peer made. Frames move only while [`Tunnel::next`] is awaited: answer streams elsewhere.
pub struct Tunnel {
    connection: Connection<Box<dyn Io>, Bytes>,
    dead: BoxFuture<'static, Arc<str>>,
    until: Instant,
    leaving: bool,
}

/// A CONNECT that wants an answer. Dropped without one, it is reset.
pub struct Incoming {
    headers: HeaderMap,
    authority: Result<SocketAddr, Refusal>,
    frames: h2::RecvStream,
    answer: SendResponse<Bytes>,
}

impl Tunnel {
    /// Accepts a tunnel on a fresh connection: mutual TLS with `leaf`, then HTTP/2, all within the deadline.
    ///
    /// # Errors
    /// Why there is none: the peer is not verified, went away or took too long.
    pub async fn accept(socket: TcpStream, leaf: &Leaf, options: &TunnelOptions) -> Result<(Self, Peer), Refusal> {
        let from = socket.peer_addr().ok();
        timeout(options.handshake, async {
            let (io, peer) = tls::accept(leaf, socket).await.map_err(|error| match error {
                TlsError::Io(why) | TlsError::Handshake(why) => Refusal::PeerNotVerified(why),
            })?;
            let until = peer.not_after().min(leaf.not_after);
            let tunnel = Self::over(Transport::new(io, until), options).await?;
            tracing::info!(
                target: "tunnel",
                direction = "inbound",
                from = from.map(tracing::field::display),
                identity = %leaf.identity,
                serial = %leaf.serial,
                peer = %peer.identity(),
                peer_serial = %peer.serial(),
                "tunnel established"
            );
            Ok((tunnel, peer))
        })
        .await
        .unwrap_or_else(|_| {
            let why = format!("no complete handshake within {:?}", options.handshake);
            Err(Refusal::DeadlineExceeded(why.into()))
        })
    }

    /// Speaks HTTP/2 over a connection that is authenticated already. Bound the time outside.
    ///
    /// # Errors
    /// When the peer speaks something else.
    pub async fn over(transport: Transport, options: &TunnelOptions) -> Result<Self, Refusal> {
        let mut connection = options
            .server()
            .handshake(transport.io)
            .await
            .map_err(|error| Refusal::Malformed(format!("no HTTP/2: {error}").into()))?;
        let pings = connection.ping_pong();
        let options = options.clone();
        Ok(Self {
            connection,
            dead: async move { keepalive(pings, &options).await }.boxed(),
            until: transport.until,
            leaving: false,
        })
    }

    /// The next CONNECT; `None` when the tunnel has ended. Past the end of either leaf, streams are refused and
    /// the peer is asked to leave. Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            tokio::select! {
                accepted = self.connection.accept() => match accepted? {
                    Ok((request, answer)) => {
                        let incoming = Incoming::new(request, answer);
                        if Instant::now() < self.until {
                            return Some(incoming);
                        }
                        incoming.refuse(&Refusal::PeerNotVerified("the certificates of this tunnel have ended".into()));
                    }
                    Err(error) => {
                        tracing::debug!(target: "tunnel", %error, "inbound tunnel ended");
                        return None;
                    }
                },
                why = &mut self.dead => {
                    tracing::debug!(target: "tunnel", %why, "inbound tunnel is dead");
                    return None;
                }
                () = sleep_until(self.until), if !self.leaving => self.drain(),
            }
        }
    }

    /// Asks the peer to open no more streams (GOAWAY); those there are go on while [`Tunnel::next`] is awaited.
    pub fn drain(&mut self) {
        self.leaving = true;
        self.connection.graceful_shutdown();
    }
}

impl Incoming {
    fn new(request: Request<h2::RecvStream>, answer: SendResponse<Bytes>) -> Self {
        let authority = authority(&request);
        let (head, frames) = request.into_parts();
        Self {
            headers: head.headers,
            authority,
            frames,
            answer,
        }
    }

    /// Where to, or [`Refusal::Malformed`], to be answered with it.
    ///
    /// # Errors
    /// When the head is no CONNECT to an address and port.
    pub fn authority(&self) -> Result<SocketAddr, Refusal> {
        self.authority.clone()
    }

    /// Every header, as sent: claims, not facts.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Host name of the Service that the client addressed, as the peer claims.
    pub fn host(&self) -> Option<&str> {
        forwarded_host(&self.headers)
    }

    /// The trace it belongs to, if it says so as it must.
    pub fn traceparent(&self) -> Option<Traceparent> {
        Traceparent::of(&self.headers)
    }

    /// Resolves when the peer no longer wants it.
    pub async fn gone(&mut self) {
        let _ = poll_fn(|context| self.answer.poll_reset(context)).await;
    }

    /// Accepts it, once the destination has accepted.
    ///
    /// # Errors
    /// When the peer went away meanwhile.
    pub fn accept(mut self) -> Result<Stream, StreamError> {
        let sender = self
            .answer
            .send_response(Response::new(()), false)
            .map_err(|error| StreamError::Tunnel(error.to_string().into()))?;
        Ok(Stream::new(self.frames, sender, None))
    }

    /// Refuses it, with the reason.
    pub fn refuse(mut self, refusal: &Refusal) {
        // Fails only when the peer is gone, and then nobody needs the reason.
        let _ = self.answer.send_response(refused(refusal), true);
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Incoming")
            .field("authority", &self.authority)
            .finish_non_exhaustive()
    }
}
