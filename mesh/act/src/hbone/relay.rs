//! Between a socket and a stream.

use std::{
    collections::VecDeque,
    future::poll_fn,
    io::{self, IoSlice},
    sync::atomic::Ordering::Relaxed,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use super::{
    Patience, Receiver, Sender, Stream, StreamError,
    patience::{Broken, Count, Fragile, Progress, both, errored},
    socket::{SCRATCH, finish, read, scratch},
};
use crate::telemetry::Outcome;

/// Bytes taken from the stream before they are written, while the socket takes them.
const GATHER: usize = 256 * 1024;
/// Chunks written at once.
const SLICES: usize = 64;
/// Chunks below this are copied together while the socket takes nothing: many of them would cost more memory
/// than the window, which counts only their bytes, lets on.
const SMALL: usize = 4096;

/// Passes everything between a socket and a stream until both sides have finished, with half-close and reset as
/// what they are. `count` is told of bytes from the socket and to it since the last call, on each tick and at
/// the end. When `stop` resolves before that, or the future is dropped, both sides are reset.
pub async fn relay(
    socket: TcpStream,
    stream: Stream,
    patience: &Patience,
    stop: impl Future<Output = Outcome>,
    count: Count<'_>,
) -> Outcome {
    let mut socket = Fragile::new(socket);
    let (mut receiver, mut sender) = stream.split();
    let progress = Progress::default();
    let outcome = both(
        upload(&socket.socket, &mut sender, &progress),
        download(&mut receiver, &socket.socket, &progress),
        errored(&socket.socket),
        stop,
        (&progress, patience, count),
    )
    .await;
    socket.settle(&outcome);
    if outcome != Outcome::Closed {
        sender.reset();
    }
    outcome
}

async fn upload(socket: &TcpStream, sender: &mut Sender, progress: &Progress) -> Result<(), Broken> {
    match send(socket, sender, progress).await {
        // What the peer sent before is still on its way to the socket, and its end decides.
        Err(Broken::Stream(StreamError::Enough)) => Ok(()),
        ended => ended,
    }
}

async fn send(socket: &TcpStream, sender: &mut Sender, progress: &Progress) -> Result<(), Broken> {
    loop {
        // Credit is asked for only once there is something to send: it would be missing elsewhere meanwhile.
        poll_fn(|context| readable_or_broken(socket, sender, context)).await?;
        let credit = tokio::select! {
            biased;
            credit = sender.credit(SCRATCH) => credit?,
            broken = errored(socket) => return Err(broken),
        };
        let chunk = scratch(|buffer| {
            let buffer = buffer.get_mut(..credit).unwrap_or_default();
            read(socket, buffer)
                .map(|got| got.map(|length| Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default())))
        })?;
        match chunk {
            Some(chunk) if chunk.is_empty() => {
                sender.give_back();
                sender.finish()?;
                return Ok(());
            }
            Some(chunk) => {
                progress.forth.fetch_add(chunk.len() as u64, Relaxed);
                sender.send(chunk)?;
            }
            None => {}
        }
        sender.give_back();
    }
}

fn readable_or_broken(socket: &TcpStream, sender: &mut Sender, context: &mut Context<'_>) -> Poll<Result<(), Broken>> {
    if let Poll::Ready(broken) = sender.poll_broken(context) {
        return Poll::Ready(Err(broken.into()));
    }
    Poll::Ready(Ok(ready!(socket.poll_read_ready(context))?))
}

async fn download(receiver: &mut Receiver, socket: &TcpStream, progress: &Progress) -> Result<(), Broken> {
    let mut queue = Queue::default();
    loop {
        match receiver.chunk().await? {
            Some(chunk) => queue.push(chunk),
            None => return Ok(finish(socket)?),
        }
        let mut ended = false;
        while !queue.chunks.is_empty() {
            let written = poll_fn(|context| {
                ended |= queue.fill(receiver, GATHER, context)?;
                loop {
                    match queue.write(socket) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        written => return Poll::Ready(written.map_err(Broken::from)),
                    }
                    if socket.poll_write_ready(context)?.is_pending() {
                        ended |= queue.fill(receiver, usize::MAX, context)?;
                        queue.condense();
                        return Poll::Pending;
                    }
                }
            })
            .await?;
            progress.back.fetch_add(written as u64, Relaxed);
            receiver.release(written);
        }
        if ended {
            return Ok(finish(socket)?);
        }
        // An idle connection holds no buffer.
        queue = Queue::default();
    }
}

/// Chunks on their way to the socket.
#[derive(Default)]
struct Queue {
    chunks: VecDeque<Bytes>,
    bytes: usize,
}

impl Queue {
    fn push(&mut self, chunk: Bytes) {
        self.bytes += chunk.len();
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    /// Takes what the stream has ready, up to `most` bytes in all; says whether the stream has ended.
    fn fill(&mut self, receiver: &mut Receiver, most: usize, context: &mut Context<'_>) -> Result<bool, Broken> {
        while self.bytes < most {
            match receiver.poll_chunk(context)? {
                Poll::Ready(Some(chunk)) => self.push(chunk),
                Poll::Ready(None) => return Ok(true),
                Poll::Pending => break,
            }
        }
        Ok(false)
    }

    /// Writes what the socket takes at once.
    fn write(&mut self, socket: &TcpStream) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut filled = 0;
        for (slice, chunk) in slices.iter_mut().zip(&self.chunks) {
            *slice = IoSlice::new(chunk);
            filled += 1;
        }
        let written = socket.try_write_vectored(slices.get(..filled).unwrap_or_default())?;
        self.bytes -= written;
        let mut rest = written;
        while let Some(chunk) = self.chunks.front_mut() {
            if rest < chunk.len() {
                chunk.advance(rest);
                break;
            }
            rest -= chunk.len();
            self.chunks.pop_front();
        }
        Ok(written)
    }

    /// Copies the last chunks together while they are many and small.
    fn condense(&mut self) {
        loop {
            let small = self
                .chunks
                .iter()
                .rev()
                .take_while(|chunk| chunk.len() < SMALL)
                .take(SLICES)
                .count();
            if small < SLICES {
                return;
            }
            let tail = self.chunks.split_off(self.chunks.len() - small);
            let mut together = BytesMut::with_capacity(tail.iter().map(Bytes::len).sum());
            tail.iter().for_each(|chunk| together.extend_from_slice(chunk));
            self.chunks.push_back(together.freeze());
        }
    }
}
