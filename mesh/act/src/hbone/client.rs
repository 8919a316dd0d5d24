//! One tunnel that we made, and the CONNECTs in it.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use decide::model::Refusal;
use http::{Response, StatusCode};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Connect, Stream, StreamError, Transport, TunnelOptions,
    connect::refused_by_peer,
    core::Shared,
    driver::Driver,
    flow::{Broke, Flow, remember},
    frames::{Reason, Side},
    keepalive::keepalive,
    stream::Handle,
};

/// How often an expired tunnel, or one beside another, is looked at for being empty.
const SOON: Duration = Duration::from_secs(7);
/// How long a tunnel that is given up may take to say so.
const FAREWELL: Duration = Duration::from_secs(5);

/// A tunnel we made.
#[derive(Debug)]
pub(super) struct ClientTunnel {
    pub(super) state: Arc<State>,
    shared: Arc<Shared>,
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
    pub(super) fn over(transport: Transport, surplus: bool, options: &TunnelOptions) -> (Self, Driving) {
        let shared = Shared::new(Side::Client, options);
        let state = Arc::new(State {
            streams: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            until: transport.until,
            surplus,
        });
        let driving = Driving {
            driver: Driver::new(shared.clone(), transport.wire),
            state: state.clone(),
            options: options.clone(),
        };
        (Self { state, shared }, driving)
    }

    /// A place for one more stream, if there is one.
    pub(super) fn reserve(&self, most: usize) -> Option<Slot> {
        let state = &self.state;
        let most = {
            let core = self.shared.lock();
            if core.leaving || core.ended().is_some() {
                return None;
            }
            most.min(core.endpoint.most_streams())
        };
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
    pub(super) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }
}

impl Drop for ClientTunnel {
    /// Nobody will ask for another stream.
    fn drop(&mut self) {
        self.shared.lock().leave();
    }
}

/// Asks for a stream, and waits for the answer. Bound the time outside.
pub(super) async fn connect(shared: Arc<Shared>, slot: Slot, connect: &Connect) -> Result<Stream, ConnectError> {
    let failed = |why: String| Refusal::ConnectFailed(connect.authority, why.into());
    let request = connect
        .request()
        .map_err(|error| ConnectError::Refused(Refusal::Malformed(error.to_string().into())))?;
    let opened = {
        let mut core = shared.lock();
        let opened = match core.ended() {
            Some(why) => Err(why.to_string()),
            None => core
                .endpoint
                .open(&request, Flow::default())
                .map_err(|error| error.to_string()),
        };
        core.kick();
        opened
    };
    let number = opened.map_err(|why| ConnectError::TunnelLost(failed(why)))?;
    let handle = Handle::new(shared, number, Some(slot));
    match poll_fn(|context| poll_answer(&handle, context)).await {
        Ok(answer) if answer.status() == StatusCode::OK => Ok(Stream::new(handle)),
        Ok(answer) => Err(ConnectError::Refused(refused_by_peer(&answer))),
        Err(Broke::Reset(reason)) if reason != Reason::REFUSED_STREAM => Err(ConnectError::Refused(failed(
            StreamError::from(Broke::Reset(reason)).to_string(),
        ))),
        Err(broke) => Err(ConnectError::TunnelLost(failed(StreamError::from(broke).to_string()))),
    }
}

fn poll_answer(handle: &Handle, context: &Context<'_>) -> Poll<Result<Box<Response<()>>, Broke>> {
    let mut core = handle.shared.lock();
    let Some(flow) = core.endpoint.user(handle.number) else {
        return Poll::Pending;
    };
    if let Some(answer) = flow.answer.take() {
        return Poll::Ready(Ok(answer));
    }
    if let Some(broke) = &flow.broken {
        return Poll::Ready(Err(broke.clone()));
    }
    remember(&mut flow.reader, context);
    Poll::Pending
}

/// What runs a tunnel of ours.
pub(super) struct Driving {
    driver: Driver,
    state: Arc<State>,
    options: TunnelOptions,
}

impl Driving {
    /// Runs the tunnel to its end: its own, a PING unanswered, or nobody wanting it any more. `retire` is asked
    /// to forget an unused tunnel, and says whether it did.
    pub(super) async fn run(mut self, retire: impl Fn() -> bool + Send) -> Arc<str> {
        let shared = self.driver.shared.clone();
        let why: Arc<str> = tokio::select! {
            why = poll_fn(|context| self.driver.poll(context)) => why,
            why = keepalive(shared.clone(), self.options.clone()) => why,
            () = unused(&self.state, &self.options, retire) => {
                shared.lock().leave();
                let _ = timeout(FAREWELL, poll_fn(|context| self.driver.poll(context))).await;
                "unused".into()
            }
        };
        self.state.closed.store(true, Relaxed);
        shared.lock().fail(&why);
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
