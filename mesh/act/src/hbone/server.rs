//! One tunnel that a peer made, and the CONNECTs in it.

use std::{
    fmt,
    future::poll_fn,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use decide::model::Refusal;
use futures_util::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Response};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};

use super::{
    HEAD, Stream, StreamError, Traceparent, Transport, TunnelOptions,
    connect::{authority, forwarded_host, refused},
    core::Shared,
    driver::Driver,
    frames::{Head, Side},
    keepalive::keepalive,
    stream::Handle,
};
use crate::{
    certs::Leaf,
    tls::{self, Peer, TlsError},
};

/// A tunnel that a peer made. Frames move only while [`Tunnel::next`] is awaited: answer streams elsewhere.
pub struct Tunnel {
    driver: Driver,
    dead: BoxFuture<'static, Arc<str>>,
    until: Instant,
    leaving: bool,
}

/// A CONNECT that wants an answer. Dropped without one, it is reset.
pub struct Incoming {
    headers: HeaderMap,
    authority: Result<SocketAddr, Refusal>,
    handle: Handle,
}

impl Tunnel {
    /// Accepts a tunnel on a fresh connection: mutual TLS with `leaf`, then HTTP/2, all within the deadline.
    ///
    /// # Errors
    /// Why there is none: the peer is not verified, went away or took too long.
    pub async fn accept(socket: TcpStream, leaf: &Leaf, options: &TunnelOptions) -> Result<(Self, Peer), Refusal> {
        let from = socket.peer_addr().ok();
        timeout(options.handshake, async {
            let (channel, peer) = tls::accept(leaf, socket).await.map_err(|error| match error {
                TlsError::Io(why) | TlsError::Handshake(why) => Refusal::PeerNotVerified(why),
            })?;
            let until = peer.not_after().min(leaf.not_after);
            let tunnel = Self::over(Transport::secured(channel, until), options).await?;
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
        let shared = Shared::new(Side::Server, options);
        let mut driver = Driver::new(shared.clone(), transport.wire);
        let spoken = poll_fn(|context| match driver.poll(context) {
            Poll::Ready(why) => Poll::Ready(Err(why)),
            Poll::Pending if shared.lock().endpoint.is_introduced() => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        });
        spoken
            .await
            .map_err(|why| Refusal::Malformed(format!("no HTTP/2: {why}").into()))?;
        Ok(Self {
            dead: keepalive(shared, options.clone()).boxed(),
            driver,
            until: transport.until,
            leaving: false,
        })
    }

    /// The next CONNECT; `None` when the tunnel has ended. Past the end of either leaf, streams are refused and
    /// the peer is asked to leave. Cancel safe.
    pub async fn next(&mut self) -> Option<Incoming> {
        loop {
            tokio::select! {
                incoming = poll_fn(|context| self.driver.poll_incoming(context)) => match incoming {
                    Ok(incoming) => {
                        if Instant::now() < self.until {
                            return Some(incoming);
                        }
                        incoming.refuse(&Refusal::PeerNotVerified("the certificates of this tunnel have ended".into()));
                    }
                    Err(why) => {
                        tracing::debug!(target: "tunnel", %why, "inbound tunnel ended");
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
        self.driver.shared.lock().drain();
    }
}

impl Incoming {
    pub(super) fn new(head: Head, handle: Handle) -> Self {
        let malformed = |why: String| Err(Refusal::Malformed(why.into()));
        let (headers, authority) = match head {
            Head::Request(request) => {
                let authority = authority(&request);
                (request.into_parts().0.headers, authority)
            }
            Head::TooLong(most) => (HeaderMap::new(), malformed(HEAD.told(most))),
        };
        Self {
            headers,
            authority,
            handle,
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
        let _ = poll_fn(|context| self.handle.poll_broken(context)).await;
    }

    /// Accepts it, once the destination has accepted.
    ///
    /// # Errors
    /// When the peer went away meanwhile.
    pub fn accept(self) -> Result<Stream, StreamError> {
        if self.answer(&Response::new(()), false) {
            return Ok(Stream::new(self.handle));
        }
        let mut core = self.handle.shared.lock();
        let broke = core
            .endpoint
            .user(self.handle.number)
            .and_then(|flow| flow.broken.clone());
        Err(broke.map_or_else(|| StreamError::Reset("it is over".into()), StreamError::from))
    }

    /// Refuses it, with the reason.
    pub fn refuse(self, refusal: &Refusal) {
        // Fails only when the peer is gone, and then nobody needs the reason.
        self.answer(&refused(refusal), true);
    }

    fn answer(&self, response: &Response<()>, end: bool) -> bool {
        let mut core = self.handle.shared.lock();
        let answered = core.endpoint.answer(self.handle.number, response, end);
        core.kick();
        answered
    }
}

impl Driver {
    /// The next stream that the peer opened; why there is none, once the tunnel has ended.
    fn poll_incoming(&mut self, context: &mut Context<'_>) -> Poll<Result<Incoming, Arc<str>>> {
        let ended = self.poll(context);
        let accepted = self.shared.lock().accepted.pop_front();
        match (accepted, ended) {
            (_, Poll::Ready(why)) => Poll::Ready(Err(why)),
            (Some((number, head)), Poll::Pending) => {
                let handle = Handle::new(self.shared.clone(), number, None);
                Poll::Ready(Ok(Incoming::new(head, handle)))
            }
            (None, Poll::Pending) => Poll::Pending,
        }
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
