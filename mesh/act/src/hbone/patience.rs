//! What the relays have in common: two directions that end on their own, and timers that end what nobody ends.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use socket2::SockRef;
use tokio::{
    io::Interest,
    net::TcpStream,
    time::{Instant, MissedTickBehavior, interval_at},
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
/// may still die altogether. All are lent: a future that is handed on by value has its room
/// twice, in whoever hands it on and here, and there are as many of these as connections.
pub(super) async fn both(
    mut forth: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    mut back: Pin<&mut impl Future<Output = Result<(), Broken>>>,
    client: &TcpStream,
    stop: Pin<&mut impl Future<Output = Outcome>>,
    (progress, patience, count): (&Progress, &Patience, Count<'_>),
) -> Outcome {
    let mut counted = (0, 0);
    let outcome = {
        let directions = async {
            tokio::select! {
                ended = forth.as_mut() => {
                    ended?;
                    progress.half_closed.store(true, Relaxed);
                    tokio::select! {
                        ended = back => ended,
                        // Boxed, so that only the half-closed have room for it.
                        broken = Box::pin(errored(client)) => Err(broken),
                    }
                }
                ended = back.as_mut() => {
                    ended?;
                    progress.half_closed.store(true, Relaxed);
                    forth.await
                }
            }
        };
        tokio::select! {
            ended = directions => match ended {
                Ok(()) => Outcome::Closed,
                Err(broken) => Outcome::Reset(broken.to_string().into()),
            },
            outcome = watch(progress, patience, &mut counted, count) => outcome,
            outcome = stop => outcome,
        }
    };
    tally(progress, &mut counted, count);
    outcome
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

async fn watch(
    progress: &Progress,
    patience: &Patience,
    counted: &mut (u64, u64),
    count: &mut (dyn FnMut(u64, u64) + Send),
) -> Outcome {
    let mut tick = interval_at(Instant::now() + patience.tick, patience.tick);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut moved = Instant::now();
    loop {
        tick.tick().await;
        if tally(progress, counted, count) {
            moved = Instant::now();
        }
        let (limit, how) = if progress.half_closed.load(Relaxed) {
            (patience.half_closed, "half-closed")
        } else {
            (patience.idle, "idle")
        };
        if moved.elapsed() >= limit {
            return Outcome::TimedOut(format!("{how} for {limit:?}").into());
        }
    }
}

/// Counts what is new, and says whether anything is.
fn tally(progress: &Progress, counted: &mut (u64, u64), count: &mut (dyn FnMut(u64, u64) + Send)) -> bool {
    let now = (progress.forth.load(Relaxed), progress.back.load(Relaxed));
    let new = (now.0 - counted.0, now.1 - counted.1);
    *counted = now;
    count(new.0, new.1);
    new != (0, 0)
}
