//! What the two sides tell each other (RFC 9113 6.5).

use super::{Reason, endpoint::Fault, wire::PREFACE};

/// Which side of a connection we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hbone) enum Side {
    /// We made the connection, and open streams.
    Client,
    /// The peer does.
    Server,
}

/// What we allow the peer.
#[derive(Debug, Clone)]
pub(in crate::hbone) struct Settings {
    /// What it may send on one stream before we have passed it on, in bytes; for now.
    pub(in crate::hbone) stream_window: u32,
    /// What it may send on all streams together, in bytes; at least HTTP/2's 65,535.
    pub(in crate::hbone) window: u32,
    /// Largest frame, in bytes: 16 KiB to 16 MiB - 1.
    pub(in crate::hbone) frame: u32,
    /// Streams it may have open.
    pub(in crate::hbone) streams: u32,
    /// Longest head, in bytes.
    pub(in crate::hbone) head: u32,
    /// Streams we open before the peer has told its own bound.
    pub(in crate::hbone) opened: u32,
}

/// What the peer allows us.
#[derive(Debug)]
pub(super) struct Allowed {
    /// Initial window of a stream.
    pub(super) window: u32,
    /// Largest frame.
    pub(super) frame: u32,
    /// Streams open at once.
    pub(super) streams: u32,
}

/// Identifiers of settings (RFC 9113 6.5.2).
mod id {
    pub(super) const ENABLE_PUSH: u16 = 2;
    pub(super) const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub(super) const INITIAL_WINDOW_SIZE: u16 = 4;
    pub(super) const MAX_FRAME_SIZE: u16 = 5;
    pub(super) const MAX_HEADER_LIST_SIZE: u16 = 6;
}

/// Window of a stream and of the connection before anybody said otherwise.
pub(super) const INITIAL_WINDOW: u32 = 65_535;
/// The largest there may be.
pub(super) const LARGEST_WINDOW: u32 = 0x7fff_ffff;

impl Settings {
    /// What is said first, before any frame: the client's preface.
    pub(super) fn preface(side: Side) -> &'static [u8] {
        match side {
            Side::Client => PREFACE,
            Side::Server => &[],
        }
    }

    /// The payload of our SETTINGS.
    pub(super) fn payload(&self, side: Side) -> Vec<u8> {
        let bound = match side {
            Side::Client => (id::ENABLE_PUSH, 0),
            Side::Server => (id::MAX_CONCURRENT_STREAMS, self.streams),
        };
        let all = [
            bound,
            (id::INITIAL_WINDOW_SIZE, self.stream_window),
            (id::MAX_FRAME_SIZE, self.frame),
            (id::MAX_HEADER_LIST_SIZE, self.head),
        ];
        all.into_iter().flat_map(entry).collect()
    }

    /// The payload of SETTINGS that change a stream's window alone.
    pub(super) fn window(bytes: u32) -> [u8; 6] {
        entry((id::INITIAL_WINDOW_SIZE, bytes))
    }
}

fn entry((id, value): (u16, u32)) -> [u8; 6] {
    let ([a, b], [c, d, e, f]) = (id.to_be_bytes(), value.to_be_bytes());
    [a, b, c, d, e, f]
}

impl Allowed {
    /// Before the peer's SETTINGS.
    pub(super) fn before(settings: &Settings) -> Self {
        Self {
            window: INITIAL_WINDOW,
            frame: 16 * 1024,
            streams: settings.opened,
        }
    }

    /// Takes the payload of the peer's SETTINGS, whose values apply in order.
    pub(super) fn take(&mut self, payload: &[u8], side: Side) -> Result<(), Fault> {
        let bad = |why| Err(Fault(Reason::PROTOCOL_ERROR, why));
        let (entries, rest) = payload.as_chunks::<6>();
        if !rest.is_empty() {
            return Err(Fault(Reason::FRAME_SIZE_ERROR, "SETTINGS of a broken length"));
        }
        for [a, b, c, d, e, f] in entries {
            let value = u32::from_be_bytes([*c, *d, *e, *f]);
            match u16::from_be_bytes([*a, *b]) {
                id::ENABLE_PUSH if value > 1 || (side == Side::Client && value != 0) => {
                    return bad("ENABLE_PUSH out of its range");
                }
                id::MAX_CONCURRENT_STREAMS => self.streams = value,
                id::INITIAL_WINDOW_SIZE if value > LARGEST_WINDOW => {
                    return Err(Fault(
                        Reason::FLOW_CONTROL_ERROR,
                        "INITIAL_WINDOW_SIZE out of its range",
                    ));
                }
                id::INITIAL_WINDOW_SIZE => self.window = value,
                id::MAX_FRAME_SIZE if !(16_384..=16_777_215).contains(&value) => {
                    return bad("MAX_FRAME_SIZE out of its range");
                }
                id::MAX_FRAME_SIZE => self.frame = value,
                // The rest bounds what we never do, or is unknown and to be ignored.
                _ => {}
            }
        }
        Ok(())
    }
}
