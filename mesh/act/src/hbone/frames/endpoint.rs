//! One side of a connection: its state, and what it tells its user.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasherDefault, Hasher},
};

use http::Response;

use super::{
    Head, Outbox, Reason, Settings, Side,
    credit::Awaited,
    decoder::Decoder,
    encoder::Encoder,
    input::{Block, Phase},
    settings::{Allowed, INITIAL_WINDOW},
    stream::Stream,
    window::Window,
    wire::{FrameHeader, kind},
};

/// Streams that we reset, or refused, and have forgotten: what the peer sends on them is ignored. Older ones are
/// answered as closed.
const REMEMBERED: usize = 256;
/// Frames that cost us and move nothing, between two calls of [`Endpoint::forgive`].
pub(super) const NUISANCES: u32 = 10_000;

/// Something happened.
#[derive(Debug)]
pub(in crate::hbone) enum Event<'i> {
    /// The peer opened a stream. Server only.
    Opened(u32, Head),
    /// The final answer to a stream that we opened. Client only.
    Answered(u32, Response<()>),
    /// Bytes of a stream, in order; to be released once they are passed on.
    Data(u32, &'i [u8]),
    /// The peer will send no more on a stream.
    Ended(u32),
    /// A stream is over: the peer reset it, or what it sent made us do so.
    Reset(u32, Reason),
    /// More may be sent on a stream, or on all of them.
    Credit(Option<u32>),
    /// The peer takes no new streams.
    GoAway(Reason),
    /// The peer answered our PING of this payload.
    Pong([u8; 8]),
}

/// The peer broke the protocol: the connection is over (RFC 9113 5.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{1} ({0})")]
pub(in crate::hbone) struct Fault(pub(in crate::hbone) Reason, pub(in crate::hbone) &'static str);

/// Stream numbers as hashes: a table holds few, so that nobody gains from choosing them.
#[derive(Debug, Default)]
pub(super) struct Numbers(u64);

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32(u32::from(*byte)));
    }

    fn write_u32(&mut self, number: u32) {
        // Spreads neighbours over all bits (Fibonacci hashing).
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

pub(super) type Streams<T> = HashMap<u32, Stream<T>, BuildHasherDefault<Numbers>>;

/// One side of a connection. A stream stays in it, with what its user keeps in `T`, until the user forgets it:
/// until then it counts as open, so that a peer that opens and resets in haste gains nothing by it.
#[derive(Debug)]
pub(in crate::hbone) struct Endpoint<T> {
    pub(super) side: Side,
    pub(super) settings: Settings,
    /// What is to be sent.
    pub(in crate::hbone) out: Outbox,
    pub(super) phase: Phase,
    pub(super) block: Option<Block>,
    pub(super) events: VecDeque<Event<'static>>,
    pub(super) decoder: Decoder,
    pub(super) encoder: Encoder,
    pub(super) allowed: Allowed,
    /// Whether the peer's SETTINGS are here.
    pub(super) introduced: bool,
    /// What we may send on all streams together.
    pub(super) send: i64,
    pub(super) receive: Window,
    /// What the peer may send on all streams together beyond [`Settings::window`], while as much is unread.
    pub(super) lent: u32,
    /// Received, and not passed on yet, on all streams.
    pub(super) unread: u32,
    /// What the peer is to acknowledge.
    pub(super) awaited: Awaited,
    pub(super) streams: Streams<T>,
    /// The next stream that we open.
    pub(super) next: u32,
    /// The last one that the peer opened.
    pub(super) last: u32,
    /// Forgotten, and reset by us.
    pub(super) forgotten: VecDeque<u32>,
    /// The last of the peer's streams that we serve, once we have said so.
    pub(super) serving: Option<u32>,
    /// The peer takes no more streams.
    pub(super) refused: bool,
    /// Streams that were refused because as many as may be were open, to be told of.
    pub(in crate::hbone) turned_away: u64,
    pub(super) nuisances: u32,
}

impl<T> Endpoint<T> {
    /// A connection that begins: preface and SETTINGS are in its outbox.
    pub(in crate::hbone) fn new(side: Side, settings: Settings) -> Self {
        let mut this = Self {
            side,
            out: Outbox::default(),
            phase: match side {
                Side::Client => Phase::header(),
                Side::Server => Phase::Preface(0),
            },
            block: None,
            events: VecDeque::new(),
            decoder: Decoder::new(usize::try_from(settings.head).unwrap_or(usize::MAX).saturating_mul(2)),
            encoder: Encoder::default(),
            allowed: Allowed::before(&settings),
            introduced: false,
            send: i64::from(INITIAL_WINDOW),
            receive: Window::new(settings.window.max(INITIAL_WINDOW)),
            lent: 0,
            unread: 0,
            awaited: Awaited::default(),
            streams: Streams::default(),
            next: 1,
            last: 0,
            forgotten: VecDeque::new(),
            serving: None,
            refused: false,
            turned_away: 0,
            nuisances: 0,
            settings,
        };
        this.out.extend(Settings::preface(side));
        let payload = this.settings.payload(side);
        this.frame(kind::SETTINGS, 0, 0, &payload);
        if let Some(raise) = this.settings.window.checked_sub(INITIAL_WINDOW).filter(|it| *it > 0) {
            this.frame(kind::WINDOW_UPDATE, 0, 0, &raise.to_be_bytes());
        }
        this
    }

    /// Writes a frame.
    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let header = FrameHeader {
            length: payload.len(),
            kind,
            flags,
            stream,
        };
        self.out.extend(&header.bytes());
        self.out.extend(payload);
    }

    /// Remembers that a stream was reset by us.
    pub(super) fn remember(&mut self, stream: u32) {
        if self.forgotten.len() == REMEMBERED {
            self.forgotten.pop_front();
        }
        self.forgotten.push_back(stream);
    }

    /// Counts what costs us and moves nothing; the connection ends when there is too much of it.
    pub(super) fn nuisance(&mut self) -> Result<(), Fault> {
        self.nuisances += 1;
        if self.nuisances > NUISANCES {
            return Err(Fault(Reason::ENHANCE_YOUR_CALM, "too many frames that move nothing"));
        }
        Ok(())
    }

    /// Whether the peer's SETTINGS are here.
    pub(in crate::hbone) fn is_introduced(&self) -> bool {
        self.introduced
    }

    /// Whether the peer could have opened, or seen, this stream.
    pub(super) fn is_idle(&self, stream: u32) -> bool {
        let by_client = stream % 2 == 1;
        match self.side {
            Side::Client => !by_client || stream >= self.next,
            Side::Server => !by_client || stream > self.last,
        }
    }
}
