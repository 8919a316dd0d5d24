//! One tunnel that we made, and the CONNECTs in it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use decide::model::Refusal;
use h2::{Reason, client::SendRequest};
use http::StatusCode;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep, timeout},
};

use super::{Connect, Stream, TunnelOptions, connect::refused_by_peer, keepalive::keepalive};

/// How often an expired tunnel, or one beside another, is looked at for being empty.
const SOON: Duration = Duration::from_secs(7);
/// How long a tunnel that is given up may take to say so.
const FAREWELL: Duration = Duration::from_secs(5);

/// Bytes to read and write.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a tunnel runs over: an authenticated connection.
pub struct Transport {
    pub(super) io: Box<dyn Io>,
    pub(super) until: Instant,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// An authenticated connection, and when the first of its two leaves ends.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, until: SystemTime) -> Self {
        Self {
            io: Box::new(io),
            until: instant(until),
        }
    }
}

/// The same moment on the clock that timers run by.
pub(super) fn instant(moment: SystemTime) -> Instant {
    // Further than any leaf lives, and not too far for the timer.
    const FOREVER: Duration = Duration::from_secs(366 * 24 * 3600);
    let left = moment.duration_since(SystemTime::now()).unwrap_or_default();
    Instant::now() + left.min(FOREVER)
}

/// A tunnel we made.
#[derive(Debug)]
pub(super) struct ClientTunnel {
    pub(super) state: Arc<State>,
    requests: SendRequest<Bytes>,
}

/// What a tunnel's users and its driver share.
#[derive(Debug)]
pub(super) struct State {
    /// Open streams, those being opened included.
    streams: AtomicUsize,
    /// Streams ever opened.
    opened: AtomicU64,
    /// Takes no new stream.
    closed: AtomicBool,
    /// No new stream after that.
    until: Instant,
    /// Made while the key had another tunnel.
    surplus: bool,
}

/// A place in a tunnel, for as long as a stream lives.
#[derive(Debug)]
pub(super) struct Slot(Arc<State>);

/// Why a CONNECT failed.
#[derive(Debug)]
pub(super) enum ConnectError {
    /// The tunnel went away before it answered; nothing was sent, another tunnel may be tried.
    TunnelLost(Refusal),
    /// No.
    Refused(Refusal),
}

impl ClientTunnel {
    /// Speaks HTTP/2 over `transport`. The second value is to be spawned.
    pub(super) async fn over(
        transport: Transport,
        surplus: bool,
        options: &TunnelOptions,
    ) -> Result<(Self, Driver), h2::Error> {
        let (requests, connection) = options.client().handshake(transport.io).await?;
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            until: transport.until,
            surplus,
        });
        let driver = Driver {
            connection,
            state: state.clone(),
            options: options.clone(),
        };
        Ok((Self { state, requests }, driver))
    }

    /// A place for one more stream, if there is one.
    pub(super) fn reserve(&self, most: usize) -> Option<Slot> {
        let most = most.min(self.requests.current_max_send_streams());
        let state = &self.state;
        if state.closed.load(Relaxed) || Instant::now() >= state.until || state.streams.load(Relaxed) >= most {
            return None;
        }
        state.streams.fetch_add(1, Relaxed);
        state.opened.fetch_add(1, Relaxed);
        Some(Slot(state.clone()))
    }

    /// Takes part in no further choice.
    pub(super) fn close(&self) {
        self.state.closed.store(true, Relaxed);
    }

    /// For a CONNECT of its own, so that nobody waits behind another's.
    pub(super) fn requests(&self) -> SendRequest<Bytes> {
        self.requests.clone()
    }
}

/// Asks for a stream, and waits for the answer. Bound the time outside.
pub(super) async fn connect(
    requests: SendRequest<Bytes>,
    slot: Slot,
    connect: &Connect,
) -> Result<Stream, ConnectError> {
    let lost = |error: h2::Error| {
        ConnectError::TunnelLost(Refusal::ConnectFailed(connect.authority, error.to_string().into()))
    };
    let request = connect
        .request()
        .map_err(|error| ConnectError::Refused(Refusal::Malformed(error.to_string().into())))?;
    let mut requests = requests.ready().await.map_err(lost)?;
    let (answer, sender) = requests.send_request(request, false).map_err(lost)?;
    // Held beyond this, the handle would keep the tunnel from ending.
    drop(requests);
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) if error.is_reset() && error.reason() != Some(Reason::REFUSED_STREAM) => {
            return Err(ConnectError::Refused(Refusal::ConnectFailed(
                connect.authority,
                error.to_string().into(),
            )));
        }
        Err(error) => return Err(lost(error)),
    };
    if answer.status() != StatusCode::OK {
        return Err(ConnectError::Refused(refused_by_peer(&answer)));
    }
    Ok(Stream::new(answer.into_body(), sender, Some(Arc::new(slot))))
}

/// What moves a tunnel's frames.
pub(super) struct Driver {
    connection: h2::client::Connection<Box<dyn Io>, Bytes>,
    state: Arc<State>,
    options: TunnelOptions,
}

impl Driver {
    /// Runs the tunnel to its end: its own, a PING unanswered, or nobody wanting it any more. `retire` is asked
    /// to forget an unused tunnel, and says whether it did.
    pub(super) async fn run(mut self, retire: impl Fn() -> bool + Send) -> Arc<str> {
        let pings = self.connection.ping_pong();
        let why: Arc<str> = tokio::select! {
            ended = &mut self.connection => return ended.map_or_else(|error| error.to_string().into(), |()| "closed".into()),
            why = keepalive(pings, &self.options) => why,
            () = unused(&self.state, &self.options, retire) => {
                let _ = timeout(FAREWELL, &mut self.connection).await;
                "unused".into()
            }
        };
        self.state.closed.store(true, Relaxed);
        why
    }
}

/// Resolves when the tunnel was given up for want of use.
async fn unused(state: &State, options: &TunnelOptions, retire: impl Fn() -> bool + Send) {
    let mut quiet_since: Option<(u64, Instant)> = None;
    loop {
        sleep(SOON.min(options.idle / 2)).await;
        let opened = state.opened.load(Relaxed);
        if !state.is_empty() {
            quiet_since = None;
            continue;
        }
        let since = match quiet_since {
            Some((then, since)) if then == opened => since,
            _ => {
                quiet_since = Some((opened, Instant::now()));
                Instant::now()
            }
        };
        let dispensable = state.surplus || Instant::now() >= state.until;
        let patience = if dispensable {
            SOON.min(options.idle)
        } else {
            options.idle
        };
        if since.elapsed() >= patience && retire() {
            return;
        }
    }
}

impl State {
    pub(super) fn is_empty(&self) -> bool {
        self.streams.load(Relaxed) == 0
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.streams.fetch_sub(1, Relaxed);
    }
}
