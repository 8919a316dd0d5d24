//! Between a socket and a stream.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::IoSlice,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::net::TcpStream;

use super::{
    Patience, Receiver, Sender, Stream, StreamError,
    core::QUANTUM,
    flow::{Broke, remember},
    frames::Reason,
    passage::Passage,
    patience::{Broken, Count, both, errored},
    socket::{finish, read_slices, write_slices},
};
use crate::telemetry::Outcome;

/// Bytes read at once from a socket that has little to say; one that fills them has much.
const MESSAGE: usize = 4096;
/// Bytes read at once from a socket that has much to say.
const BULK: usize = 256 * 1024;
/// Chunks written at once.
const SLICES: usize = 64;

/// Passes everything between a socket and a stream until both sides have finished, with half-close and reset as
/// what they are. `count` is told of bytes from the socket and to it since the last call, on each tick and at
/// the end. When `stop` resolves before that, or the future is dropped, both sides are reset. Whoever has many of
/// these lends `stop`, pinned: handed on by value it would have its room twice.
///
/// What the socket sends is read straight into what the tunnel will send; what comes in, the tunnel's driver writes
/// straight to the socket, and only what that does not take at once waits here.
pub fn relay<'a>(
    socket: TcpStream,
    stream: Stream,
    patience: &'a Patience,
    stop: impl Future<Output = Outcome> + 'a,
    count: Count<'a>,
) -> impl Future<Output = Outcome> + 'a {
    // Laid out here: what a future is given and hands on keeps its room in it.
    let passage = Arc::new(Passage::new(socket));
    let (mut receiver, mut sender) = stream.split();
    receiver.lead_to(&passage);
    async move {
        let outcome = both(
            pin!(upload(&mut sender, &passage)),
            pin!(poll_fn(|context| receiver.poll_download(context, &passage))),
            &passage.socket,
            pin!(stop),
            (&passage.progress, patience, count),
        )
        .await;
        if outcome == Outcome::Closed {
            passage.settle();
        } else {
            sender.reset();
        }
        outcome
    }
}

/// Passes on what the socket sends, to its end. Ends in order, too, when the peer needs no more: what it has sent is
/// then still on its way to the socket.
async fn upload(sender: &mut Sender, passage: &Passage) -> Result<(), Broken> {
    loop {
        match poll_fn(|context| sender.poll_upload(context, passage)).await {
            Ok(Upload::Waits) => {}
            Ok(Upload::Ended) | Err(Broken::Stream(StreamError::Enough)) => return Ok(()),
            Err(broken) => return Err(broken),
        }
        tokio::select! {
            biased;
            granted = sender.credit(QUANTUM) => match granted {
                Ok(_) => {}
                Err(StreamError::Enough) => return Ok(()),
                Err(broken) => return Err(broken.into()),
            },
            // Nobody reads the socket meanwhile, so that nobody else would notice. Boxed, so that a connection that
            // waits for nothing has no room for it.
            broken = Box::pin(errored(&passage.socket)) => return Err(broken),
        }
    }
}

/// Why passing on stopped.
enum Upload {
    /// The socket has more to say than the stream may send.
    Waits,
    /// Everything is said.
    Ended,
}

impl Sender {
    fn poll_upload(&mut self, context: &mut Context<'_>, passage: &Passage) -> Poll<Result<Upload, Broken>> {
        let number = self.handle.number;
        if let Poll::Ready(broken) = self.handle.poll_broken(context) {
            return Poll::Ready(Err(broken.into()));
        }
        loop {
            // A turn is asked for only once there is something to send: it would be missing elsewhere meanwhile.
            ready!(passage.socket.poll_read_ready(context))?;
            let want = if self.bulk { BULK } else { MESSAGE };
            let mut core = self.handle.shared.lock();
            let Poll::Ready(grant) = core.poll_grant(number, want, context)? else {
                return Poll::Ready(Ok(Upload::Waits));
            };
            core.widen(grant);
            let came = core
                .endpoint
                .send_from(number, grant, |pieces| read_slices(&passage.socket, pieces))?;
            match came {
                Some(0) => {
                    core.give_back(number);
                    drop(core);
                    self.finish()?;
                    return Poll::Ready(Ok(Upload::Ended));
                }
                Some(length) => {
                    // Room for bulk is laid out only for those who have filled less.
                    self.bulk = length >= MESSAGE;
                    passage.progress.forth.fetch_add(length as u64, Relaxed);
                    core.spend(number, length);
                }
                None => {}
            }
            core.give_back(number);
        }
    }
}

impl Receiver {
    /// Has what comes in written to a socket.
    fn lead_to(&self, passage: &Arc<Passage>) {
        if let Some(flow) = self.handle.shared.lock().endpoint.user(self.handle.number) {
            flow.outlet = Some(passage.clone());
        }
    }

    /// Passes on what the socket did not take at once, to the end of the stream.
    fn poll_download(&mut self, context: &mut Context<'_>, passage: &Passage) -> Poll<Result<(), Broken>> {
        let number = self.handle.number;
        loop {
            let mut core = self.handle.shared.lock();
            let Some(flow) = core.endpoint.user(number) else {
                return Poll::Ready(Err(StreamError::Reset("forgotten".into()).into()));
            };
            if let Some(error) = flow.failed.take() {
                return Poll::Ready(Err(error.into()));
            }
            if flow.queue.is_empty() {
                return match &flow.broken {
                    _ if flow.ended => Poll::Ready(Ok(finish(&passage.socket)?)),
                    Some(Broke::Reset(Reason::NO_ERROR)) => Poll::Ready(Ok(finish(&passage.socket)?)),
                    Some(broke) => Poll::Ready(Err(StreamError::from(broke.clone()).into())),
                    None => {
                        remember(&mut flow.reader, context);
                        Poll::Pending
                    }
                };
            }
            if passage.socket.poll_write_ready(context)?.is_pending() {
                remember(&mut flow.reader, context);
                return Poll::Pending;
            }
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (slice, chunk) in slices.iter_mut().zip(&flow.queue) {
                *slice = IoSlice::new(chunk);
            }
            let filled = flow.queue.len().min(SLICES);
            let written = write_slices(&passage.socket, slices.get(..filled).unwrap_or_default())?;
            let written = written.unwrap_or_default();
            passage.progress.back(written);
            advance(&mut flow.queue, written);
            core.release(number, written);
            core.kick();
        }
    }
}

/// Takes written bytes from the front.
fn advance(queue: &mut VecDeque<BytesMut>, mut written: usize) {
    while let Some(chunk) = queue.front_mut() {
        if written < chunk.len() {
            chunk.advance(written);
            return;
        }
        written -= chunk.len();
        queue.pop_front();
    }
    // An idle connection holds no buffer.
    queue.shrink_to_fit();
}
