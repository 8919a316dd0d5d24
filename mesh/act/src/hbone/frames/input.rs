//! Where in a frame the bytes that come in are: frames need not arrive whole.

use super::wire::{FrameHeader, HEADER};

/// What the next byte belongs to.
#[derive(Debug)]
pub(super) enum Phase {
    /// The client's preface, so much of which is read.
    Preface(usize),
    /// A frame's header, so much of which is read.
    Header([u8; HEADER], usize),
    /// The body of a frame that is read as a whole: what there is of it.
    Body(FrameHeader, Vec<u8>),
    /// The length of a DATA frame's padding.
    Padding(FrameHeader),
    /// The bytes of a DATA frame, handed on as they come.
    Data(Data),
}

/// What is left of a DATA frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Data {
    pub(super) stream: u32,
    /// Bytes of the stream still to come.
    pub(super) left: u32,
    /// Bytes of padding after them.
    pub(super) padding: u32,
    /// It is the stream's last frame.
    pub(super) end: bool,
}

/// A header block of which more is to come (RFC 9113 6.10).
#[derive(Debug)]
pub(super) struct Block {
    pub(super) stream: u32,
    /// It ends the stream.
    pub(super) end: bool,
    pub(super) bytes: Vec<u8>,
}

impl Phase {
    pub(super) fn header() -> Self {
        Self::Header([0; HEADER], 0)
    }
}

/// Takes up to `most` bytes from the front.
pub(super) fn take<'i>(input: &mut &'i [u8], most: usize) -> &'i [u8] {
    let (taken, rest) = input.split_at_checked(most).unwrap_or((input, &[]));
    *input = rest;
    taken
}

/// The fields after a pad length, without the padding (RFC 9113 6.1); `None` when there is less than that.
pub(super) fn unpadded(padded: bool, body: &[u8]) -> Option<&[u8]> {
    if !padded {
        return Some(body);
    }
    let (length, rest) = body.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(*length))?)
}
