//! What the user of a connection has it do.

use std::io::{self, IoSliceMut};

use http::{HeaderMap, Request, Response};

use super::{
    Endpoint, Fault, Reason, Side, encoder,
    stream::{By, Stream},
    wire::{FrameHeader, flag, kind},
};

/// The stream number after which there is none (RFC 9113 5.1.1).
const LAST: u32 = 0x7fff_ffff;

/// Why no stream can be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::hbone) enum NotOpened {
    #[error("the peer takes no new streams")]
    Leaving,
    #[error("the peer's bound of streams is reached")]
    Full,
    #[error("the connection has used up its streams")]
    Spent,
}

impl<T> Endpoint<T> {
    /// Streams that may be open at once, of those that we open.
    pub(in crate::hbone) fn most_streams(&self) -> usize {
        usize::try_from(self.allowed.streams).unwrap_or(usize::MAX)
    }

    /// Streams that nobody has forgotten.
    pub(in crate::hbone) fn streams(&self) -> usize {
        self.streams.len()
    }

    /// Opens a stream. Client only.
    pub(in crate::hbone) fn open(&mut self, request: &Request<()>, user: T) -> Result<u32, NotOpened> {
        if self.refused {
            return Err(NotOpened::Leaving);
        }
        if self.streams.len() >= self.most_streams() {
            return Err(NotOpened::Full);
        }
        let number = self.next;
        if number >= LAST {
            return Err(NotOpened::Spent);
        }
        self.next += 2;
        let mut block = self.encoder.block();
        encoder::method(&mut block, request.method().as_str());
        if let Some(authority) = request.uri().authority() {
            encoder::authority(&mut block, authority.as_str());
        }
        self.head(number, block, request.headers(), false);
        let stream = Stream::new(&self.allowed, self.settings.stream_window, user);
        self.streams.insert(number, stream);
        Ok(number)
    }

    /// Answers a stream; with `end`, that is all of the answer. Server only. False when the stream is over.
    pub(in crate::hbone) fn answer(&mut self, number: u32, response: &Response<()>, end: bool) -> bool {
        match self.streams.get_mut(&number) {
            Some(stream) if !stream.is_closed() && !stream.answered => {
                stream.answered = true;
                stream.ended_here = end;
            }
            _ => return false,
        }
        let mut block = self.encoder.block();
        encoder::status(&mut block, response.status().as_u16());
        self.head(number, block, response.headers(), end);
        true
    }

    fn head(&mut self, stream: u32, mut block: Vec<u8>, headers: &HeaderMap, end: bool) {
        for (name, value) in headers {
            encoder::field(&mut block, name.as_str(), value.as_bytes());
        }
        let largest = usize::try_from(self.allowed.frame).unwrap_or(usize::MAX);
        let mut pieces = block.chunks(largest).peekable();
        let mut kind = kind::HEADERS;
        let mut flags = if end { flag::END_STREAM } else { 0 };
        while let Some(piece) = pieces.next() {
            if pieces.peek().is_none() {
                flags |= flag::END_HEADERS;
            }
            self.frame(kind, flags, stream, piece);
            (kind, flags) = (kind::CONTINUATION, 0);
        }
    }

    /// What may be sent on a stream by its own window, in bytes; zero when it is over.
    pub(in crate::hbone) fn stream_credit(&self, number: u32) -> usize {
        let open = self.streams.get(&number).filter(|it| !it.is_closed() && !it.ended_here);
        usize::try_from(open.map_or(0, |stream| stream.send)).unwrap_or_default()
    }

    /// What may be sent on all streams together, in bytes.
    pub(in crate::hbone) fn credit(&self) -> usize {
        usize::try_from(self.send).unwrap_or_default()
    }

    /// Sends bytes of a stream, which must be within both credits; says how many were.
    pub(in crate::hbone) fn send(&mut self, number: u32, bytes: &[u8]) -> usize {
        let most = bytes.len().min(self.stream_credit(number)).min(self.credit());
        let bytes = bytes.get(..most).unwrap_or_default();
        let largest = usize::try_from(self.allowed.frame).unwrap_or(usize::MAX);
        for piece in bytes.chunks(largest) {
            self.frame(kind::DATA, 0, number, piece);
        }
        self.spend(number, most);
        most
    }

    /// Sends at most `most` bytes that `fill` reads straight into the outbox; within both credits, at least one byte.
    /// Answers what `fill` does: bytes, or why there are none.
    pub(in crate::hbone) fn send_from(
        &mut self,
        number: u32,
        most: usize,
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<usize>> {
        let most = most.min(self.stream_credit(number)).min(self.credit());
        let header = |length| {
            let header = FrameHeader {
                length,
                kind: kind::DATA,
                flags: 0,
                stream: number,
            };
            header.bytes()
        };
        // A frame here is never larger than a record, which every peer takes.
        let filled = self.out.frames(most, header, fill)?;
        self.spend(number, filled.unwrap_or_default().min(most));
        Ok(filled)
    }

    fn spend(&mut self, number: u32, bytes: usize) {
        // Bounded by the credit, which has 31 bits.
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.send -= bytes;
        if let Some(stream) = self.streams.get_mut(&number) {
            stream.send -= bytes;
        }
    }

    /// Ends our direction of a stream in order. False when the stream is over.
    pub(in crate::hbone) fn finish(&mut self, number: u32) -> bool {
        match self.streams.get_mut(&number) {
            Some(stream) if !stream.is_closed() && !stream.ended_here => stream.ended_here = true,
            _ => return false,
        }
        self.frame(kind::DATA, flag::END_STREAM, number, &[]);
        true
    }

    /// Bytes of a stream were passed on: the peer may send as many more.
    pub(in crate::hbone) fn release(&mut self, number: u32, bytes: usize) {
        let Some(stream) = self.streams.get_mut(&number) else {
            return;
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX).min(stream.unreleased);
        stream.unreleased -= bytes;
        self.unread -= bytes;
        let wanted = !stream.ended_there && stream.reset.is_none();
        let raise = stream.receive.release(bytes, u32::MAX).filter(|_| wanted);
        if let Some(raise) = raise {
            self.frame(kind::WINDOW_UPDATE, 0, number, &raise.to_be_bytes());
        }
        self.give_back(bytes);
    }

    /// Resets a stream, unless it is over.
    pub(in crate::hbone) fn reset(&mut self, number: u32, reason: Reason) {
        match self.streams.get_mut(&number) {
            Some(stream) if !stream.is_closed() => stream.reset = Some(By::Us),
            _ => return,
        }
        self.frame(kind::RST_STREAM, 0, number, &reason.0.to_be_bytes());
    }

    /// Forgets a stream and returns what was kept with it; one that is not over is reset: without a fault by a
    /// server that has said all it has to say (RFC 9113 8.1).
    pub(in crate::hbone) fn forget(&mut self, number: u32) -> Option<T> {
        let said = self.streams.get(&number).is_some_and(|stream| stream.ended_here);
        let reason = match self.side {
            Side::Server if said => Reason::NO_ERROR,
            Side::Server | Side::Client => Reason::CANCEL,
        };
        self.reset(number, reason);
        let stream = self.streams.remove(&number)?;
        if stream.reset == Some(By::Us) {
            self.remember(number);
        }
        self.unread -= stream.unreleased;
        self.give_back(stream.unreleased);
        Some(stream.user)
    }

    /// Whether the peer has sent its last on a stream.
    #[cfg(test)]
    pub(super) fn is_ended(&self, number: u32) -> bool {
        self.streams.get(&number).is_some_and(|stream| stream.ended_there)
    }

    /// What the user keeps with a stream.
    pub(in crate::hbone) fn user(&mut self, number: u32) -> Option<&mut T> {
        self.streams.get_mut(&number).map(|stream| &mut stream.user)
    }

    /// What the user keeps with every stream.
    pub(in crate::hbone) fn users(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.streams
            .iter_mut()
            .map(|(number, stream)| (*number, &mut stream.user))
    }

    /// Asks the peer for a sign of life.
    pub(in crate::hbone) fn ping(&mut self, payload: [u8; 8]) {
        self.frame(kind::PING, 0, 0, &payload);
    }

    /// Asks the peer to open no more streams, those under way excepted (RFC 9113 6.8). Server only; to be followed
    /// by [`Endpoint::go_away`] once the peer has certainly heard.
    pub(in crate::hbone) fn announce_leaving(&mut self) {
        self.say_go_away(LAST, Reason::NO_ERROR);
    }

    /// Serves no stream that is not here yet.
    pub(in crate::hbone) fn go_away(&mut self, reason: Reason) {
        if self.side == Side::Server {
            self.serving = Some(self.last);
        }
        self.say_go_away(self.last, reason);
    }

    fn say_go_away(&mut self, last: u32, reason: Reason) {
        let ([a, b, c, d], [e, f, g, h]) = (last.to_be_bytes(), reason.0.to_be_bytes());
        self.frame(kind::GOAWAY, 0, 0, &[a, b, c, d, e, f, g, h]);
    }

    /// Forgives what cost us and moved nothing; to be called at steady intervals of some seconds.
    ///
    /// # Errors
    /// When the peer has not said for two intervals that it knows what we told it (RFC 9113 6.5.3).
    pub(in crate::hbone) fn forgive(&mut self) -> Result<(), Fault> {
        self.nuisances = 0;
        if self.awaited.is_overdue() {
            return Err(Fault(
                Reason::SETTINGS_TIMEOUT,
                "the peer does not acknowledge our SETTINGS",
            ));
        }
        Ok(())
    }
}
