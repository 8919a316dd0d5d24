//! Header blocks read (RFC 7541).

use bytes::Bytes;

use super::{huffman, table::Table};

/// Size of the dynamic table a peer may use, in bytes: HTTP/2's own default.
const TABLE: usize = 4096;

/// Why a block cannot be read: the connection is over (RFC 9113 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotReadable;

/// Reads the header blocks of one connection, in order.
#[derive(Debug)]
pub(super) struct Decoder {
    table: Table,
    /// Longest string read, in bytes.
    longest: usize,
}

impl Decoder {
    /// `longest`: bytes of a name or a value.
    pub(super) fn new(longest: usize) -> Self {
        Self {
            table: Table::new(TABLE),
            longest,
        }
    }

    /// Reads a whole block, and hands out its fields in order.
    pub(super) fn decode(&mut self, block: &[u8], mut field: impl FnMut(Bytes, Bytes)) -> Result<(), NotReadable> {
        let mut rest = block;
        let mut begun = false;
        while let Some(first) = rest.first().copied() {
            if first & 0x80 != 0 {
                let index = integer(&mut rest, 7)?;
                let (name, value) = self.table.field(index).ok_or(NotReadable)?;
                field(name, value);
            } else if first & 0xc0 == 0x40 {
                let (name, value) = self.literal(&mut rest, 6)?;
                self.table.insert((name.clone(), value.clone()));
                field(name, value);
            } else if first & 0xe0 == 0x20 {
                // Only at the beginning (RFC 7541 4.2).
                let capacity = integer(&mut rest, 5)?;
                if begun || !self.table.resize(capacity) {
                    return Err(NotReadable);
                }
                continue;
            } else {
                let (name, value) = self.literal(&mut rest, 4)?;
                field(name, value);
            }
            begun = true;
        }
        Ok(())
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<(Bytes, Bytes), NotReadable> {
        let name = match integer(rest, prefix)? {
            0 => self.string(rest)?,
            index => self.table.field(index).ok_or(NotReadable)?.0,
        };
        Ok((name, self.string(rest)?))
    }

    fn string(&self, rest: &mut &[u8]) -> Result<Bytes, NotReadable> {
        let coded = rest.first().ok_or(NotReadable)? & 0x80 != 0;
        let length = integer(rest, 7)?;
        let (text, after) = rest.split_at_checked(length).ok_or(NotReadable)?;
        *rest = after;
        if coded {
            return Ok(huffman::decode(text, self.longest).ok_or(NotReadable)?.into());
        }
        if text.len() > self.longest {
            return Err(NotReadable);
        }
        Ok(Bytes::copy_from_slice(text))
    }

    #[cfg(test)]
    pub(super) fn table(&mut self) -> &mut Table {
        &mut self.table
    }
}

/// Reads an integer with a prefix of so many bits (RFC 7541 5.1).
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, NotReadable> {
    let mask = (1usize << prefix) - 1;
    let (first, mut after) = rest.split_first().ok_or(NotReadable)?;
    let mut value = usize::from(*first) & mask;
    if value == mask {
        // Nothing of ours is longer than three more bytes can say; a fourth and fifth only waste.
        let mut shift = 0;
        loop {
            let (byte, more) = after.split_first().ok_or(NotReadable)?;
            after = more;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err(NotReadable);
            }
        }
    }
    *rest = after;
    Ok(value)
}
