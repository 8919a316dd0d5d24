//! What the relays have in common: two directions that end on their own, and timers that end what nobody ends.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::{Budget, StreamError};
use crate::telemetry::{FLOW_TICK, Outcome};

/// How long a connection may stay silent, and what it may use.
#[derive(Debug, Clone)]
pub struct Patience {
    /// With both directions open.
    pub idle: Duration,
    /// Once one direction has ended.
    pub half_closed: Duration,
    /// How often bytes are counted and silence is looked at.
    pub tick: Duration,
    /// Pipes that one worker lends at a time for bulk between two sockets, each of up to 1 MiB; where none is left,
    /// bulk is copied.
    pub pipes: usize,
    /// What flows between two sockets may hold in memory and pipes, together with all others that share it.
    pub budget: Budget,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(24 * 3600),
            half_closed: Duration::from_secs(600),
            tick: FLOW_TICK,
            pipes: 64,
            budget: Budget::default(),
        }
    }
}

/// Told of bytes that flowed since the last call: forth and back. Called on a tick and at the end.
pub(super) type Count<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// Bytes passed on so far.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) forth: AtomicU64,
    pub(super) back: AtomicU64,
    half_closed: AtomicBool,
}

impl Progress {
    /// Bytes went to the socket.
    pub(super) fn back(&self, bytes: usize) {
        self.back.fetch_add(bytes as u64, Relaxed);
    }
}

/// How a direction broke.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the pod's socket: {0}")]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// A socket that is reset when dropped, unless its connection came to its proper end.
#[derive(Debug)]
pub(super) struct Fragile {
    pub(super) socket: TcpStream,
    closed: bool,
}

impl Fragile {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, closed: false }
    }

    /// Whether the connection came to its proper end.
    pub(super) fn settle(&mut self, outcome: &Outcome) {
        self.closed = *outcome == Outcome::Closed;
    }
}

impl Drop for Fragile {
    fn drop(&mut self) {
        if !self.closed {
            let _ = SockRef::from(&self.socket).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Runs both directions to their end, or until patience ends, or `stop` resolves. Once `forth` has ended, its `client`
/// may still die altogether. A future by hand, and what it runs is lent: an async block has room for each thing once
/// for everybody who hands it on, and there are as many of these as connections.
pub(super) struct Both<'a, F, B, S> {
    /// `None`: it has ended.
    forth: Option<Pin<&'a mut F>>,
    back: Option<Pin<&'a mut B>>,
    client: &'a TcpStream,
    /// Boxed, so that only the half-closed have room for it.
    died: Option<Pin<Box<dyn Future<Output = Broken> + Send + 'a>>>,
    stop: Pin<&'a mut S>,
    watch: Watch<'a>,
}

/// Counts what flows, and sees to it that something does.
struct Watch<'a> {
    progress: &'a Progress,
    patience: &'a Patience,
    count: Count<'a>,
    counted: (u64, u64),
    tick: Pin<Box<Sleep>>,
    moved: Instant,
}

pub(super) fn both<'a, F, B, S>(
    forth: Pin<&'a mut F>,
    back: Pin<&'a mut B>,
    client: &'a TcpStream,
    stop: Pin<&'a mut S>,
    (progress, patience, count): (&'a Progress, &'a Patience, Count<'a>),
) -> Both<'a, F, B, S> {
    Both {
        forth: Some(forth),
        back: Some(back),
        client,
        died: None,
        stop,
        watch: Watch {
            progress,
            patience,
            count,
            counted: (0, 0),
            tick: Box::pin(sleep(patience.tick)),
            moved: Instant::now(),
        },
    }
}

impl<F, B, S> Future for Both<'_, F, B, S>
where
    F: Future<Output = Result<(), Broken>>,
    B: Future<Output = Result<(), Broken>>,
    S: Future<Output = Outcome>,
{
    type Output = Outcome;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Outcome> {
        let this = self.get_mut();
        let outcome = match this.poll_directions(context) {
            Poll::Ready(Ok(())) => Outcome::Closed,
            Poll::Ready(Err(broken)) => Outcome::Reset(broken.to_string().into()),
            Poll::Pending => match this.watch.poll(context) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => ready!(this.stop.as_mut().poll(context)),
            },
        };
        this.watch.tally();
        Poll::Ready(outcome)
    }
}

impl<F, B, S> Both<'_, F, B, S>
where
    F: Future<Output = Result<(), Broken>>,
    B: Future<Output = Result<(), Broken>>,
{
    fn poll_directions(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let half_closed = &self.watch.progress.half_closed;
        if let Some(forth) = &mut self.forth
            && let Poll::Ready(ended) = forth.as_mut().poll(context)
        {
            ended?;
            self.forth = None;
            half_closed.store(true, Relaxed);
        }
        if let Some(back) = &mut self.back
            && let Poll::Ready(ended) = back.as_mut().poll(context)
        {
            ended?;
            self.back = None;
            half_closed.store(true, Relaxed);
        }
        match (&self.forth, &self.back) {
            (None, None) => Poll::Ready(Ok(())),
            (None, Some(_)) => {
                let died = self.died.get_or_insert_with(|| Box::pin(errored(self.client)));
                died.as_mut().poll(context).map(Err)
            }
            (Some(_), _) => Poll::Pending,
        }
    }
}

/// Resolves when a socket was reset.
pub(super) async fn errored(socket: &TcpStream) -> Broken {
    match socket.ready(Interest::ERROR).await {
        Ok(_) => Broken::Socket(
            socket
                .take_error()
                .ok()
                .flatten()
                .unwrap_or_else(|| io::ErrorKind::ConnectionReset.into()),
        ),
        Err(error) => Broken::Socket(error),
    }
}

impl Watch<'_> {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        loop {
            ready!(self.tick.as_mut().poll(context));
            let now = Instant::now();
            self.tick.as_mut().reset(now + self.patience.tick);
            if self.tally() {
                self.moved = now;
            }
            let (limit, how) = if self.progress.half_closed.load(Relaxed) {
                (self.patience.half_closed, "half-closed")
            } else {
                (self.patience.idle, "idle")
            };
            if now - self.moved >= limit {
                return Poll::Ready(Outcome::TimedOut(format!("{how} for {limit:?}").into()));
            }
        }
    }

    /// Counts what is new, and says whether anything is.
    fn tally(&mut self) -> bool {
        let now = (self.progress.forth.load(Relaxed), self.progress.back.load(Relaxed));
        let new = (now.0 - self.counted.0, now.1 - self.counted.1);
        self.counted = now;
        (self.count)(new.0, new.1);
        new != (0, 0)
    }
}
