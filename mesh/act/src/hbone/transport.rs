//! What carries a tunnel: an authenticated connection, read and written in large pieces.

use std::{
    collections::VecDeque,
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
    frames::Outbox,
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
        Self::over(wire, Default::default(), until)
    }

    /// A connection of ours.
    pub(super) fn secured(channel: Channel<TcpStream>, until: SystemTime) -> Self {
        let Channel {
            socket,
            records,
            rest,
            early,
            ..
        } = channel;
        Self::over(Way::Secured(Box::new((socket, records))), (rest, early), until)
    }

    fn over(way: Way, (rest, early): (Vec<u8>, Vec<u8>), until: SystemTime) -> Self {
        Self {
            wire: Wire {
                fresh: !rest.is_empty(),
                way,
                rest,
                early,
                segments: VecDeque::new(),
                aborted: false,
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
    /// What the handshake has read and decrypted.
    early: Vec<u8>,
    /// What is to be written as it is.
    segments: VecDeque<Segment>,
    /// An alert says that nothing follows.
    aborted: bool,
}

/// Bytes to be written.
struct Segment {
    buffer: Vec<u8>,
    /// Those before it are written already.
    sent: usize,
    /// Where they end.
    end: usize,
}

impl From<Vec<u8>> for Segment {
    fn from(buffer: Vec<u8>) -> Self {
        Self {
            sent: 0,
            end: buffer.len(),
            buffer,
        }
    }
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
        let early = std::mem::take(&mut self.early);
        if let Some(place) = scratch.get_mut(..early.len()).filter(|place| !place.is_empty()) {
            place.copy_from_slice(&early);
            plain.push(0..early.len());
            return Poll::Ready(Ok(false));
        }
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
                    let mut farewell = Vec::new();
                    records.abort(&error, &mut farewell);
                    self.segments.push_back(farewell.into());
                    self.aborted = true;
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

    /// Reads over what is there: zero bytes at the end of what the peer sends.
    pub(super) fn poll_skip(&mut self, context: &mut Context<'_>, scratch: &mut [u8]) -> Poll<io::Result<usize>> {
        let socket = match &mut self.way {
            Way::Plain(io) => {
                let mut buffer = ReadBuf::new(scratch);
                ready!(Pin::new(io).poll_read(context, &mut buffer))?;
                return Poll::Ready(Ok(buffer.filled().len()));
            }
            Way::Secured(secured) => &secured.0,
        };
        loop {
            ready!(socket.poll_read_ready(context))?;
            if let Some(read) = read(socket, scratch)? {
                return Poll::Ready(Ok(read));
            }
        }
    }

    /// Has written what was collected until now.
    pub(super) fn write(&mut self, out: Outbox) -> io::Result<()> {
        match &mut self.way {
            _ if self.aborted => {}
            Way::Plain(_) => self.segments.push_back(out.plain().into()),
            Way::Secured(secured) => {
                let (mut buffer, end) = out.into_records();
                let records = buffer.get_mut(..end).unwrap_or_default();
                let before = secured.1.seal(records).map_err(io::Error::other)?;
                if !before.is_empty() {
                    self.segments.push_back(before.into());
                }
                self.segments.push_back(Segment { buffer, sent: 0, end });
            }
        }
        Ok(())
    }

    /// Whether the transport itself has something to say: then an empty [`Wire::write`] says it.
    pub(super) fn owes(&self) -> bool {
        matches!(&self.way, Way::Secured(secured) if secured.1.owes())
    }

    /// Bytes that are to be written and were not taken yet.
    pub(super) fn waiting(&self) -> usize {
        self.segments.iter().map(|segment| segment.end - segment.sent).sum()
    }

    /// Says that nothing more will be written.
    pub(super) fn close(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Plain(_) => Ok(()),
            Way::Secured(_) if self.aborted => Ok(()),
            Way::Secured(secured) => {
                let mut farewell = Vec::new();
                secured.1.close(&mut farewell).map_err(io::Error::other)?;
                self.segments.push_back(farewell.into());
                Ok(())
            }
        }
    }

    /// Ready once everything is written.
    pub(super) fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(segment) = self.segments.front_mut() {
            let rest = segment.buffer.get(segment.sent..segment.end).unwrap_or_default();
            if rest.is_empty() {
                if let Some(segment) = self.segments.pop_front() {
                    buffers::put(segment.buffer);
                }
                continue;
            }
            match &mut self.way {
                Way::Plain(io) => {
                    let sent = ready!(Pin::new(io).poll_write(context, rest))?;
                    if sent == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    segment.sent += sent;
                }
                Way::Secured(secured) => {
                    ready!(secured.0.poll_write_ready(context))?;
                    segment.sent += write(&secured.0, rest)?.unwrap_or_default();
                }
            }
        }
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
