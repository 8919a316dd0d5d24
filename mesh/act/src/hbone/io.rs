//! A stream as bytes to read and write.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{Receiver, Sender, StreamError};

/// Longest piece copied into one frame.
const PIECE: usize = 64 * 1024;

/// A stream as bytes to read and write, for code that wants a socket. Credit is released as bytes are read.
/// Dropped before it is shut down, it resets the stream.
#[derive(Debug)]
pub struct StreamIo {
    receiver: Receiver,
    sender: Sender,
    rest: Bytes,
}

impl StreamIo {
    pub(super) fn new(receiver: Receiver, sender: Sender) -> Self {
        Self {
            receiver,
            sender,
            rest: Bytes::new(),
        }
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if into.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        while this.rest.is_empty() {
            match ready!(this.receiver.poll_chunk(context)) {
                Ok(Some(chunk)) => this.rest = chunk,
                Ok(None) => return Poll::Ready(Ok(())),
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        let length = this.rest.len().min(into.remaining());
        into.put_slice(this.rest.get(..length).unwrap_or_default());
        this.rest.advance(length);
        this.receiver.release(length);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        if from.is_empty() {
            return Poll::Ready(Ok(0));
        }
        loop {
            let credit = ready!(self.sender.poll_credit(context, from.len().min(PIECE)))?;
            let sent = self.sender.send(from.get(..credit).unwrap_or(from));
            self.sender.give_back();
            match sent? {
                // The peer has taken its credit back: it is to be waited for.
                0 => {}
                sent => return Poll::Ready(Ok(sent)),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sender.finish().map_err(io::Error::from))
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset(_) | StreamError::Enough => io::ErrorKind::ConnectionReset,
            StreamError::Tunnel(_) => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}
