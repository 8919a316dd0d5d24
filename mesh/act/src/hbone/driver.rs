//! What moves a tunnel's bytes: one task that reads and writes large, and hands what came in on (design 11).

use std::{
    future::Future,
    io,
    ops::Range,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::task::yield_now;

use super::{
    core::{Core, Shared},
    intake::Batch,
    parting::Parting,
    socket::scratch,
    transport::Wire,
    turn::give_way,
};
use crate::courtesy::rest;

/// Reads of one turn, after which other tasks of the worker have theirs.
const READS: usize = 4;
/// Bytes that the connection does not take beyond which nothing is read: twice what streams may have waiting. The rest
/// is answers, and a peer that only asked would have us collect them without end.
const UNHEARD: usize = 512 * 1024;

/// Moves the bytes of one tunnel. Dropped, it breaks every stream.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    wire: Wire,
    plain: Vec<Range<usize>>,
    /// The connection takes no more bytes for now.
    blocked: bool,
    /// Everything is said; only the end is to be told.
    closing: bool,
    /// The peer broke the protocol, and may still hear that.
    breach: bool,
    parting: Option<Parting>,
    /// What is to be sent waits for what else comes in this round of the loop.
    gathers: bool,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, wire: Wire) -> Self {
        Self {
            shared,
            wire,
            plain: Vec::new(),
            blocked: false,
            closing: false,
            breach: false,
            parting: None,
            gathers: false,
        }
    }

    /// Ready with the reason once the tunnel has ended.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Arc<str>> {
        if let Some(parting) = &mut self.parting {
            return parting.poll(&mut self.wire, context);
        }
        if let Some(why) = self.begin(context) {
            return Poll::Ready(why);
        }
        let round = self.round(context);
        let mut core = self.shared.lock();
        match round {
            Poll::Ready(ended) => {
                let why: Arc<str> = ended.map_or_else(|error| error.to_string().into(), |()| "closed".into());
                core.fail(&why);
                if !self.breach || self.wire.write(core.take_out()).is_err() {
                    return Poll::Ready(why);
                }
                drop(core);
                self.parting.insert(Parting::new(why)).poll(&mut self.wire, context)
            }
            Poll::Pending if self.gathers => Poll::Pending,
            Poll::Pending => {
                core.end_round(self.blocked.then(|| self.wire.waiting()));
                Poll::Pending
            }
        }
    }

    fn begin(&self, context: &Context<'_>) -> Option<Arc<str>> {
        let mut core = self.shared.lock();
        core.begin_round(context);
        core.ended().cloned()
    }

    /// Reads what is there, then writes what is to be written. Where several streams have messages, more of them come while
    /// their turn is being had: once, those are waited for, so that one record, one packet and one waking of the peer
    /// serve them all. Applications that were told something meanwhile may answer first, for the same reason.
    fn round(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let gathered = std::mem::take(&mut self.gathers);
        if self.blocked && self.shared.lock().endpoint.out.len() > UNHEARD {
            ready!(self.flush(context))?;
        }
        for turn in 1..=READS {
            if self.closing || self.read(context)?.is_pending() {
                break;
            }
            if turn == READS {
                context.waker().wake_by_ref();
            }
        }
        if !gathered && self.shared.lock().is_busy() {
            self.gathers = true;
            rest::before();
            return after_others(context);
        }
        ready!(self.flush(context))?;
        if !self.closing {
            if !self.shared.lock().is_done() {
                return Poll::Pending;
            }
            self.closing = true;
            self.wire.close()?;
        }
        ready!(self.wire.poll_flush(context))?;
        ready!(self.wire.poll_shutdown(context))?;
        Poll::Ready(Ok(()))
    }

    fn read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self {
            shared, wire, plain, ..
        } = self;
        plain.clear();
        let ended = scratch(|scratch| {
            let ended = ready!(wire.poll_read(context, scratch, plain));
            let mut core = shared.lock();
            let taken = take(&mut core, shared, scratch, plain);
            drop(core);
            give_way(plain.iter().map(|range| range.len()).sum());
            Poll::Ready(match (taken, ended) {
                (Err(fault), _) => Err(fault),
                (Ok(()), ended) => ended,
            })
        });
        match ready!(ended) {
            Ok(false) => Poll::Ready(Ok(())),
            Ok(true) => {
                let orderly = shared.lock().endpoint.streams() == 0;
                let why = if orderly {
                    "the peer has left"
                } else {
                    "the peer closed the connection"
                };
                Poll::Ready(Err(io::Error::new(io::ErrorKind::UnexpectedEof, why)))
            }
            Err(error) => {
                // Why, to the peer, if it still listens.
                self.breach = true;
                Poll::Ready(Err(error))
            }
        }
    }

    /// Ready once nothing waits to be written.
    fn flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let flushed = self.wire.poll_flush(context)?;
            self.blocked = flushed.is_pending();
            ready!(flushed);
            let mut core = self.shared.lock();
            if core.endpoint.out.is_empty() && !self.wire.owes() {
                return Poll::Ready(Ok(()));
            }
            let out = core.take_out();
            drop(core);
            let bytes = out.len();
            self.wire.write(out)?;
            give_way(bytes);
        }
    }
}

/// Comes back once all that runs on this worker has had its turn, and once what has come meanwhile was looked for.
fn after_others<T>(context: &mut Context<'_>) -> Poll<T> {
    // Polled, it has asked for that; nothing of it is needed any more.
    let _ = pin!(yield_now()).poll(context);
    Poll::Pending
}

fn take(core: &mut Core, shared: &Shared, scratch: &[u8], plain: &[Range<usize>]) -> io::Result<()> {
    let mut batch = Batch::new();
    for range in plain {
        let bytes = scratch.get(range.clone()).unwrap_or_default();
        if let Err(fault) = core.take(bytes, &mut batch, &shared.alive) {
            core.deliver(&mut batch);
            core.endpoint.go_away(fault.0);
            return Err(io::Error::other(fault));
        }
    }
    core.deliver(&mut batch);
    Ok(())
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.lock().fail(&"it was given up".into());
    }
}
