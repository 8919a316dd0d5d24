//! Bytes to be sent, collected until the end of the round in the shape of the records they will be sent in: each with
//! room for its header before and its trailer behind it, so that they are encrypted where they lie.

use std::io::{self, IoSliceMut};

use super::wire::HEADER;
use crate::tls::shape;

/// Less room than this in a record is left for frames that are no bulk.
const WORTHWHILE: usize = 1024;
/// Most pieces read at once.
const PIECES: usize = 16;
/// Most bytes of one frame that has a record to itself.
const PIECE: usize = shape::LARGEST - HEADER;

/// Plaintext in the shape of records. Its memory stays initialised, so that a socket may be read straight into it.
#[derive(Debug, Default)]
pub(in crate::hbone) struct Outbox {
    bytes: Vec<u8>,
    /// Where the plaintext of the last record begins; 0 when there is none.
    start: usize,
    /// Where it ends.
    end: usize,
    /// Bytes of plaintext in all.
    length: usize,
}

impl Outbox {
    /// Over a buffer that was used before.
    pub(in crate::hbone) fn over(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            ..Self::default()
        }
    }

    /// The buffer itself, and so much of it as is records.
    pub(in crate::hbone) fn into_records(self) -> (Vec<u8>, usize) {
        let end = self.behind();
        (self.bytes, end)
    }

    /// Where the next record begins.
    fn behind(&self) -> usize {
        match self.end - self.start {
            // One that was begun for nothing does not count.
            0 => self.start.saturating_sub(shape::HEADER),
            _ => self.end + shape::TRAILER,
        }
    }

    /// Bytes that its buffer holds.
    pub(in crate::hbone) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Bytes that its buffer must hold, so that `more` bytes may be sent by one stream.
    pub(in crate::hbone) fn needed(&self, more: usize) -> usize {
        let overhead = shape::HEADER + shape::TRAILER + HEADER;
        self.behind() + more + (more / PIECE + 2) * overhead
    }

    /// Bytes of plaintext.
    pub(in crate::hbone) fn len(&self) -> usize {
        self.length
    }

    pub(in crate::hbone) fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The plaintext in one piece.
    pub(in crate::hbone) fn plain(&self) -> Vec<u8> {
        let mut plain = Vec::with_capacity(self.length);
        for record in shape::records(self.bytes.get(..self.behind()).unwrap_or_default()) {
            plain.extend_from_slice(record);
        }
        plain
    }

    pub(in crate::hbone) fn extend(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.start == 0 || self.end - self.start == shape::LARGEST {
                self.begin();
            }
            let room = shape::LARGEST - (self.end - self.start);
            let (piece, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.reach(self.end + piece.len() + shape::TRAILER);
            if let Some(place) = self.bytes.get_mut(self.end..self.end + piece.len()) {
                place.copy_from_slice(piece);
            }
            self.grow(piece.len());
            bytes = rest;
        }
    }

    /// Begins a record.
    fn begin(&mut self) {
        self.start = self.behind() + shape::HEADER;
        self.end = self.start;
        self.reach(self.end + shape::TRAILER);
    }

    /// The last record has more plaintext.
    fn grow(&mut self, bytes: usize) {
        self.end += bytes;
        self.length += bytes;
        let header = shape::header(self.end - self.start);
        if let Some(place) = self.bytes.get_mut(self.start - shape::HEADER..self.start) {
            place.copy_from_slice(&header);
        }
    }

    fn reach(&mut self, end: usize) {
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
    }

    /// Collects up to `most` bytes that `fill` reads into pieces one after the other; each becomes a frame, whose
    /// header `header` makes of its length. Answers what `fill` does: bytes, or why there are none.
    pub(super) fn frames(
        &mut self,
        most: usize,
        header: impl Fn(usize) -> [u8; HEADER],
        fill: impl FnOnce(&mut [IoSliceMut<'_>]) -> io::Result<Option<usize>>,
    ) -> io::Result<Option<usize>> {
        // Small answers share a record; bulk has its own, whole frames in whole records.
        let left = shape::LARGEST - (self.end - self.start);
        let shared = self.start != 0 && left >= HEADER + WORTHWHILE.min(most);
        if !shared {
            self.begin();
        }
        let first = (shape::LARGEST - (self.end - self.start) - HEADER).min(most);
        let more = (most - first).div_ceil(PIECE).min(PIECES - 1);
        let stride = shape::HEADER + shape::LARGEST + shape::TRAILER;
        let full = self.end + HEADER + first + shape::TRAILER;
        self.reach(full + more * stride);
        let mut pieces = [const { None }; PIECES];
        let (mut rest, mut left) = (self.bytes.get_mut(self.end + HEADER..).unwrap_or_default(), most);
        for (at, place) in pieces.iter_mut().enumerate().take(1 + more) {
            let length = if at == 0 { first } else { PIECE.min(left) };
            let Some((piece, after)) = rest.split_at_mut_checked(length) else {
                break;
            };
            let gap = (shape::TRAILER + shape::HEADER + HEADER).min(after.len());
            *place = Some(IoSliceMut::new(piece));
            rest = after.get_mut(gap..).unwrap_or_default();
            left -= length;
        }
        let mut slices = pieces
            .each_mut()
            .map(|piece| IoSliceMut::new(piece.as_deref_mut().unwrap_or_default()));
        let filled = fill(slices.get_mut(..1 + more).unwrap_or_default())?;
        let mut rest = filled.unwrap_or_default().min(most);
        let mut room = first;
        while rest > 0 {
            let length = rest.min(room);
            if let Some(place) = self.bytes.get_mut(self.end..self.end + HEADER) {
                place.copy_from_slice(&header(length));
            }
            self.grow(HEADER + length);
            rest -= length;
            if rest > 0 {
                self.begin();
                room = PIECE;
            }
        }
        Ok(filled)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::hbone::{TunnelOptions, buffers};

    /// What may wait to be written.
    const WAITING: usize = 256 * 1024;

    #[test]
    fn what_may_wait_to_be_written_is_what_a_large_buffer_is_made_for() {
        assert_eq!(TunnelOptions::default().send_buffer as usize, WAITING);
    }

    proptest! {
        #[test]
        fn bulk_never_outgrows_its_buffer(steps in vec((1usize..=WAITING, 0usize..=WAITING), 1..40)) {
            let mut outbox = Outbox::over(vec![0; buffers::LARGE]);
            for (asked, filled) in steps {
                let most = asked.min(WAITING - outbox.len());
                if most <= HEADER * PIECES {
                    break;
                }
                let most = most - HEADER * PIECES;
                let came = outbox.frames(most, |_| [0; HEADER], |_| Ok(Some(filled.min(most))));
                prop_assert_eq!(came.unwrap(), Some(filled.min(most)));
                prop_assert_eq!(outbox.capacity(), buffers::LARGE, "with {} bytes in it", outbox.len());
            }
        }

        #[test]
        fn what_is_collected_is_what_was_given_in_records_of_a_lawful_size(
            steps in vec((any::<bool>(), 1usize..70_000, 0usize..70_000), 0..12),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = Vec::new();
            for (step, (frames, most, filled)) in steps.into_iter().enumerate() {
                let letter = step as u8 + 1;
                if !frames {
                    outbox.extend(&vec![letter; most]);
                    expected.extend(vec![letter; most]);
                    continue;
                }
                let mut headers = std::cell::RefCell::new(Vec::new());
                let header = |length: usize| {
                    headers.borrow_mut().push(length);
                    [0xff; HEADER]
                };
                let came = outbox.frames(most, header, |pieces| {
                    let mut left = filled;
                    for piece in pieces {
                        let length = left.min(piece.len());
                        piece[..length].fill(letter);
                        left -= length;
                    }
                    Ok(Some(filled - left))
                });
                let lengths = std::mem::take(headers.get_mut());
                prop_assert_eq!(came.unwrap(), Some(lengths.iter().sum::<usize>()));
                prop_assert_eq!(lengths.iter().sum::<usize>(), most.min(filled));
                for length in lengths {
                    expected.extend([0xff; HEADER]);
                    expected.extend(vec![letter; length]);
                }
            }
            prop_assert_eq!(outbox.len(), expected.len());
            prop_assert!(outbox.plain() == expected);
            let (bytes, end) = outbox.into_records();
            let mut rest = &bytes[..end];
            while let Some((header, after)) = rest.split_first_chunk::<{ shape::HEADER }>() {
                let length = shape::length(*header);
                prop_assert!((1..=shape::LARGEST).contains(&length));
                rest = &after[length + shape::TRAILER..];
            }
            prop_assert!(rest.is_empty());
        }
    }
}
