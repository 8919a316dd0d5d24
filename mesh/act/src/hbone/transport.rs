//! What carries a tunnel: an authenticated connection, read and written in large pieces.

use std::{
    io,
    ops::Range,
    pin::Pin,
    task::{Context, Poll, ready},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Instant,
};

use super::{
    buffers,
    socket::{read, write},
};
use crate::tls::{Channel, Records};

/// Bytes to read and write.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// What a tunnel runs over: an authenticated connection.
pub struct Transport {
    pub(super) wire: Wire,
    pub(super) until: Instant,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Transport").finish_non_exhaustive()
    }
}

impl Transport {
    /// A connection that something else has authenticated and encrypts, and when the first of its two leaves ends.
    pub fn new(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, until: SystemTime) -> Self {
        let wire = Way::Plain(Box::new(io));
        Self::over(wire, Vec::new(), until)
    }

    /// A connection of ours.
    pub(super) fn secured(channel: Channel<TcpStream>, until: SystemTime) -> Self {
        let Channel {
            socket, records, rest, ..
        } = channel;
        Self::over(Way::Secured(Box::new((socket, records))), rest, until)
    }

    fn over(way: Way, rest: Vec<u8>, until: SystemTime) -> Self {
        Self {
            wire: Wire {
                fresh: !rest.is_empty(),
                way,
                rest,
                sealed: Vec::new(),
                sent: 0,
            },
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

/// Both directions of a transport. Holds no buffer while nothing is under way.
pub(super) struct Wire {
    way: Way,
    /// The beginning of a record whose end is not here yet.
    rest: Vec<u8>,
    /// `rest` was read by the handshake, and may hold whole records.
    fresh: bool,
    /// What is to be written as it is.
    sealed: Vec<u8>,
    /// So much of it is written.
    sent: usize,
}

enum Way {
    Plain(Box<dyn Io>),
    Secured(Box<(TcpStream, Records)>),
}

impl Wire {
    /// Reads what is there into `scratch`; where its plaintext lies comes into `plain`. True at the end of what the
    /// peer sends.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
        scratch: &mut [u8],
        plain: &mut Vec<Range<usize>>,
    ) -> Poll<io::Result<bool>> {
        let (socket, records) = match &mut self.way {
            Way::Plain(io) => {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(io).poll_read(context, &mut buffer))?;
                let read = buffer.filled().len();
                plain.push(0..read);
                return Poll::Ready(Ok(read == 0));
            }
            Way::Secured(secured) => (&secured.0, &mut secured.1),
        };
        loop {
            let mut length = self.rest.len();
            if !std::mem::take(&mut self.fresh) {
                ready!(socket.poll_read_ready(context))?;
                match read(socket, scratch.get_mut(length..).unwrap_or_default())? {
                    None => continue,
                    Some(0) => return Poll::Ready(Ok(true)),
                    Some(read) => length += read,
                }
            }
            let came = scratch.get_mut(..length).unwrap_or_default();
            came.get_mut(..self.rest.len())
                .unwrap_or_default()
                .copy_from_slice(&self.rest);
            let opened = match records.open(came, plain) {
                Ok(opened) => opened,
                Err(error) => {
                    records.abort(&error, &mut self.sealed);
                    return Poll::Ready(Err(io::Error::other(error)));
                }
            };
            let rest = came.get(opened.read..).unwrap_or_default();
            // Exactly as large as needed, and nothing when nothing is.
            self.rest = rest.to_vec();
            if !plain.is_empty() || opened.ended || records.owes() {
                return Poll::Ready(Ok(opened.ended));
            }
        }
    }

    /// Has bytes written, which were collected until now; only when nothing waits to be written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.sealed.capacity() == 0 && !bytes.is_empty() {
            self.sealed = buffers::SEALED.take();
        }
        match &mut self.way {
            Way::Plain(_) => self.sealed.extend_from_slice(bytes),
            Way::Secured(secured) => secured.1.seal(bytes, &mut self.sealed).map_err(io::Error::other)?,
        }
        Ok(())
    }

    /// Whether the transport itself has something to say: then an empty [`Wire::write`] says it.
    pub(super) fn owes(&self) -> bool {
        matches!(&self.way, Way::Secured(secured) if secured.1.owes())
    }

    /// Says that nothing more will be written.
    pub(super) fn close(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Plain(_) => Ok(()),
            Way::Secured(secured) => secured.1.close(&mut self.sealed).map_err(io::Error::other),
        }
    }

    /// Ready once everything is written.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.sealed.len() {
            let rest = self.sealed.get(self.sent..).unwrap_or_default();
            match &mut self.way {
                Way::Plain(io) => {
                    let sent = ready!(Pin::new(io).poll_write(context, rest))?;
                    if sent == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.sent += sent;
                }
                Way::Secured(secured) => {
                    ready!(secured.0.poll_write_ready(context))?;
                    self.sent += write(&secured.0, rest)?.unwrap_or_default();
                }
            }
        }
        self.sent = 0;
        buffers::SEALED.put(std::mem::take(&mut self.sealed));
        match &mut self.way {
            Way::Plain(io) => Pin::new(io).poll_flush(context),
            Way::Secured(_) => Poll::Ready(Ok(())),
        }
    }

    /// Ends our direction of the connection under it.
    pub(super) fn poll_shutdown(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.way {
            Way::Plain(io) => Pin::new(io).poll_shutdown(context),
            Way::Secured(secured) => Pin::new(&mut secured.0).poll_shutdown(context),
        }
    }
}
