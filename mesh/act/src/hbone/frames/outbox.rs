//! Bytes to be sent, collected until the end of the round.

/// Room of a buffer that bulk is collected in, in bytes; control frames make do with less.
const WIDE: usize = 64 * 1024;

/// A buffer that keeps its memory initialised, so that a socket may be read straight into it.
#[derive(Debug, Default)]
pub(in crate::hbone) struct Outbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Outbox {
    /// Over a buffer that was used before.
    pub(in crate::hbone) fn over(bytes: Vec<u8>) -> Self {
        Self { bytes, filled: 0 }
    }

    /// The buffer itself, to be used again.
    pub(in crate::hbone) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether it has a buffer for bulk.
    pub(in crate::hbone) fn is_wide(&self) -> bool {
        self.bytes.capacity() >= WIDE
    }

    pub(in crate::hbone) fn len(&self) -> usize {
        self.filled
    }

    pub(in crate::hbone) fn is_empty(&self) -> bool {
        self.filled == 0
    }

    /// What is to be sent.
    pub(in crate::hbone) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// All of it was sent.
    pub(in crate::hbone) fn clear(&mut self) {
        self.filled = 0;
    }

    pub(in crate::hbone) fn extend(&mut self, bytes: &[u8]) {
        let end = self.filled + bytes.len();
        match self.bytes.get_mut(self.filled..end) {
            Some(room) => room.copy_from_slice(bytes),
            None => {
                self.bytes.truncate(self.filled);
                self.bytes.extend_from_slice(bytes);
            }
        }
        self.filled = end;
    }

    /// Room for so many bytes, which are sent only if [`Outbox::commit`] says so.
    pub(super) fn room(&mut self, bytes: usize) -> &mut [u8] {
        let end = self.filled + bytes;
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.filled..end).unwrap_or_default()
    }

    /// The first `bytes` of the room are to be sent.
    pub(super) fn commit(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.bytes.len());
    }
}
