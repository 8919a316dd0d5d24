//! One CONNECT as both sides use it: chunks in, chunks out, credit, end and reset.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::Reason;

use super::{client::Slot, io::StreamIo};

/// A stream: two directions that end on their own.
#[derive(Debug)]
pub struct Stream {
    receiver: Receiver,
    sender: Sender,
}

/// The direction from the peer to us.
#[derive(Debug)]
pub struct Receiver {
    frames: h2::RecvStream,
    /// Given out by [`Receiver::chunk`] and not released yet.
    owed: usize,
    ended: bool,
    _slot: Option<Arc<Slot>>,
}

/// The direction from us to the peer. Dropped before [`Sender::finish`], it resets the stream.
#[derive(Debug)]
pub struct Sender {
    frames: h2::SendStream<Bytes>,
    ended: bool,
    _slot: Option<Arc<Slot>>,
}

/// How a stream broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer reset it: to be passed on as a reset.
    #[error("the peer reset the stream ({0})")]
    Reset(Arc<str>),
    /// The peer has sent all of its own and needs no more of ours, without fault (RFC 9113 8.1): what it sent is
    /// still to be read.
    #[error("the peer needs no more of the stream")]
    Enough,
    /// The tunnel under it ended.
    #[error("the tunnel broke: {0}")]
    Tunnel(Arc<str>),
}

impl Stream {
    pub(super) fn new(frames_in: h2::RecvStream, frames_out: h2::SendStream<Bytes>, slot: Option<Arc<Slot>>) -> Self {
        Self {
            receiver: Receiver {
                frames: frames_in,
                owed: 0,
                ended: false,
                _slot: slot.clone(),
            },
            sender: Sender {
                frames: frames_out,
                ended: false,
                _slot: slot,
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
        loop {
            match ready!(self.frames.poll_data(context)) {
                // The frame that ends the stream.
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    self.owed += chunk.len();
                    return Poll::Ready(Ok(Some(chunk)));
                }
                // RFC 9113 8.1: a peer that needs no more of the stream resets it so, without fault.
                Some(Err(error)) if error.reason() != Some(Reason::NO_ERROR) || !error.is_reset() => {
                    self.ended = true;
                    return Poll::Ready(Err(broken(&error)));
                }
                Some(Err(_)) | None => {
                    self.ended = true;
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }

    /// Gives back credit for `bytes` that were passed on: the peer may send as many more.
    pub fn release(&mut self, bytes: usize) {
        let bytes = bytes.min(self.owed);
        self.owed -= bytes;
        // Fails only for a stream that is over, whose credit the tunnel has back already.
        let _ = self.frames.flow_control().release_capacity(bytes);
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.release(self.owed);
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
        self.frames.reserve_capacity(want);
        loop {
            let credit = self.frames.capacity();
            if credit > 0 {
                return Poll::Ready(Ok(credit.min(want)));
            }
            match ready!(self.frames.poll_capacity(context)) {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Err(broken(&error))),
                None => return Poll::Ready(Err(self.why(context))),
            }
        }
    }

    /// Gives back credit that was asked for and not used.
    pub fn give_back(&mut self) {
        self.frames.reserve_capacity(0);
    }

    /// Sends a chunk no longer than the credit.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub fn send(&mut self, chunk: Bytes) -> Result<(), StreamError> {
        self.frames.send_data(chunk, false).map_err(|error| broken(&error))
    }

    /// Sends a chunk of any length, waiting for credit as needed.
    ///
    /// # Errors
    /// When the stream was reset or its tunnel broke.
    pub async fn write(&mut self, mut chunk: Bytes) -> Result<(), StreamError> {
        while !chunk.is_empty() {
            let credit = self.credit(chunk.len()).await?;
            self.send(chunk.split_to(credit))?;
        }
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
        self.frames
            .send_data(Bytes::new(), true)
            .map_err(|error| broken(&error))
    }

    /// Resets the whole stream, as a TCP reset would (RFC 9113 8.5: CONNECT_ERROR).
    pub fn reset(&mut self) {
        self.ended = true;
        self.frames.send_reset(Reason::CONNECT_ERROR);
    }

    /// Resolves when the peer resets the stream or the tunnel breaks; to be watched while nothing is sent.
    pub fn poll_broken(&mut self, context: &mut Context<'_>) -> Poll<StreamError> {
        Poll::Ready(match ready!(self.frames.poll_reset(context)) {
            Ok(Reason::NO_ERROR) => StreamError::Enough,
            Ok(reason) => StreamError::Reset(reason.description().into()),
            Err(error) => broken(&error),
        })
    }

    fn why(&mut self, context: &mut Context<'_>) -> StreamError {
        match self.poll_broken(context) {
            Poll::Ready(error) => error,
            Poll::Pending => StreamError::Reset("closed".into()),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if !self.ended {
            self.frames.send_reset(Reason::CONNECT_ERROR);
        }
    }
}

fn broken(error: &h2::Error) -> StreamError {
    if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) {
        StreamError::Enough
    } else if error.is_reset() {
        StreamError::Reset(
            error
                .reason()
                .map_or_else(|| "no reason".into(), |reason| reason.description().into()),
        )
    } else {
        StreamError::Tunnel(error.to_string().into())
    }
}
