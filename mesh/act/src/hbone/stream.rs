//! One CONNECT as both sides use it: chunks in, chunks out, credit, end and reset.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{client::Slot, core::Shared, flow::remember, frames::Reason, io::StreamIo};

/// A stream: two directions that end on their own.
#[derive(Debug)]
pub struct Stream {
    receiver: Receiver,
    sender: Sender,
}

/// The direction from the peer to us.
#[derive(Debug)]
pub struct Receiver {
    pub(super) handle: Arc<Handle>,
    /// Given out by [`Receiver::chunk`] and not released yet.
    owed: usize,
    ended: bool,
}

/// The direction from us to the peer. Dropped before [`Sender::finish`], it resets the stream.
#[derive(Debug)]
pub struct Sender {
    pub(super) handle: Arc<Handle>,
    pub(super) ended: bool,
    /// Its last read brought much.
    pub(super) bulk: bool,
}

/// How a stream broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer reset it: to be passed on as a reset.
    #[error("the peer reset the stream ({0})")]
    Reset(Arc<str>),
    /// The peer needs no more of it (RFC 9113 8.1: RST_STREAM with NO_ERROR after its own end): no fault, and what
    /// it has sent is still to be read.
    #[error("the peer needs no more of the stream")]
    Enough,
    /// The tunnel under it ended.
    #[error("the tunnel broke: {0}")]
    Tunnel(Arc<str>),
}

/// A stream's place in its tunnel, which it leaves when dropped.
#[derive(Debug)]
pub(super) struct Handle {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u32,
    _slot: Option<Slot>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, number: u32, slot: Option<Slot>) -> Self {
        Self {
            shared,
            number,
            _slot: slot,
        }
    }

    /// Resets the stream.
    pub(super) fn reset(&self, reason: Reason) {
        let mut core = self.shared.lock();
        core.endpoint.reset(self.number, reason);
        core.kick();
    }

    /// Resolves when the peer resets the stream or the tunnel breaks.
    pub(super) fn poll_broken(&self, context: &Context<'_>) -> Poll<StreamError> {
        match self.shared.lock().endpoint.user(self.number) {
            Some(flow) => match &flow.broken {
                Some(broke) => Poll::Ready(broke.clone().into()),
                None => {
                    remember(&mut flow.writer, context);
                    Poll::Pending
                }
            },
            None => Poll::Pending,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().forget(self.number);
    }
}

impl Stream {
    pub(super) fn new(handle: Handle) -> Self {
        let handle = Arc::new(handle);
        Self {
            receiver: Receiver {
                handle: handle.clone(),
                owed: 0,
                ended: false,
            },
            sender: Sender {
                handle,
                ended: false,
                bulk: false,
            },
        }
    }

    /// Its two directions.
    pub fn split(self) -> (Receiver, Sender) {
        (self.receiver, self.sender)
    }

    /// The stream as bytes to read and write, for code that wants a socket.
    pub fn into_io(self) -> StreamIo {
        StreamIo::new(self.receiver, self.sender)
    }

    /// Resets it: what the peer has not got yet is lost, and it is told so.
    pub fn reset(mut self) {
        self.sender.reset();
    }
}

impl Receiver {
    /// The next chunk; `None` once the peer has finished. Its length counts against the peer's credit until
    /// it is released. Cancel safe.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StreamError> {
        poll_fn(|context| self.poll_chunk(context)).await
    }

    /// As [`Receiver::chunk`].
    pub fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, StreamError>> {
        if self.ended {
            return Poll::Ready(Ok(None));
        }
        let mut core = self.handle.shared.lock();
        let Some(flow) = core.endpoint.user(self.handle.number) else {
            return Poll::Ready(Ok(None));
        };
        if let Some(chunk) = flow.queue.pop_front() {
            self.owed += chunk.len();
            return Poll::Ready(Ok(Some(chunk.freeze())));
        }
        let broken = flow.broken.clone().map(StreamError::from);
        if flow.ended || broken == Some(StreamError::Enough) {
            self.ended = true;
            return Poll::Ready(Ok(None));
        }
        if let Some(broken) = broken {
            self.ended = true;
            return Poll::Ready(Err(broken));
        }
        remember(&mut flow.reader, context);
        Poll::Pending
    }

    /// Gives back credit for `bytes` that were passed on: the peer may send as many more.
    pub fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.owed);
        self.owed -= bytes;
        let mut core = self.handle.shared.lock();
        core.release(self.handle.number, bytes);
        if !core.endpoint.out.is_empty() {
            core.kick();
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.release(self.owed);
        let mut core = self.handle.shared.lock();
        let Some(flow) = core.endpoint.user(self.handle.number) else {
            return;
        };
        flow.deaf = true;
        let lost = flow.queue.drain(..).map(|chunk| chunk.len()).sum();
        core.release(self.handle.number, lost);
        core.kick();
    }
}

impl Sender {
    /// Waits until at least one byte may be sent, and says how many, up to `want`. What is not used is to be
    /// given back by [`Sender::give_back`], for the streams beside this one. Cancel safe.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub async fn credit(&mut self, want: usize) -> Result<usize, StreamError> {
        poll_fn(|context| self.poll_credit(context, want)).await
    }

    /// As [`Sender::credit`].
    pub fn poll_credit(&mut self, context: &mut Context<'_>, want: usize) -> Poll<Result<usize, StreamError>> {
        self.handle.shared.lock().poll_grant(self.handle.number, want, context)
    }

    /// Gives back credit that was asked for and not used.
    pub fn give_back(&mut self) {
        self.handle.shared.lock().give_back(self.handle.number);
    }

    /// Sends a chunk no longer than the credit, and says how much of it: less where the peer has taken credit back since.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub fn send(&mut self, chunk: &[u8]) -> Result<usize, StreamError> {
        let number = self.handle.number;
        let mut core = self.handle.shared.lock();
        if let Some(broke) = core.endpoint.user(number).and_then(|flow| flow.broken.clone()) {
            return Err(broke.into());
        }
        core.widen(chunk.len());
        let sent = core.endpoint.send(number, chunk);
        core.spend(number, sent);
        Ok(sent)
    }

    /// Sends a chunk of any length, waiting for credit as needed.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), StreamError> {
        let mut rest = &*chunk;
        while !rest.is_empty() {
            let credit = self.credit(rest.len()).await?;
            let sent = self.send(rest.get(..credit).unwrap_or(rest))?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.give_back();
        Ok(())
    }

    /// Ends this direction in order. Nothing can be sent after it; calling it again changes nothing.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub fn finish(&mut self) -> Result<(), StreamError> {
        if self.ended {
            return Ok(());
        }
        self.ended = true;
        let number = self.handle.number;
        let mut core = self.handle.shared.lock();
        if let Some(broke) = core.endpoint.user(number).and_then(|flow| flow.broken.clone()) {
            return Err(broke.into());
        }
        core.endpoint.finish(number);
        core.kick();
        Ok(())
    }

    /// Resets the whole stream, as a TCP reset would (RFC 9113 8.5: CONNECT_ERROR).
    pub fn reset(&mut self) {
        self.ended = true;
        self.handle.reset(Reason::CONNECT_ERROR);
    }

    /// Resolves when the peer resets the stream or the tunnel breaks; to be watched while nothing is sent.
    pub fn poll_broken(&mut self, context: &mut Context<'_>) -> Poll<StreamError> {
        let broken = ready!(self.handle.poll_broken(context));
        Poll::Ready(broken)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.ended {
            self.handle.reset(Reason::CONNECT_ERROR);
        }
    }
}
