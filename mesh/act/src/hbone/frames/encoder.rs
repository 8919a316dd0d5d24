//! Header blocks written (RFC 7541): by the static table where it says all, else as literals that nobody need
//! remember, so that no table is held for an idle tunnel.

/// Writes the header blocks of one connection.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    begun: bool,
}

/// Numbers of the static table.
const AUTHORITY: u8 = 1;
const METHOD: u8 = 2;
const STATUS: u8 = 8;

impl Encoder {
    /// Begins a block.
    pub(super) fn block(&mut self) -> Vec<u8> {
        let mut block = Vec::with_capacity(256);
        if !self.begun {
            self.begun = true;
            // We use no dynamic table, whatever the peer allows (RFC 7541 4.2).
            block.push(0x20);
        }
        block
    }
}

pub(super) fn method(block: &mut Vec<u8>, method: &str) {
    block.push(METHOD);
    string(block, method.as_bytes());
}

pub(super) fn authority(block: &mut Vec<u8>, authority: &str) {
    block.push(AUTHORITY);
    string(block, authority.as_bytes());
}

pub(super) fn status(block: &mut Vec<u8>, status: u16) {
    match status {
        200 => block.push(0x88),
        400 => block.push(0x8c),
        404 => block.push(0x8d),
        500 => block.push(0x8e),
        other => {
            block.push(STATUS);
            string(block, other.to_string().as_bytes());
        }
    }
}

pub(super) fn field(block: &mut Vec<u8>, name: &str, value: &[u8]) {
    block.push(0);
    string(block, name.as_bytes());
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &[u8]) {
    integer(block, text.len());
    block.extend_from_slice(text);
}

/// Writes an integer with a prefix of seven bits that follow a zero (RFC 7541 5.1).
fn integer(block: &mut Vec<u8>, value: usize) {
    const MASK: usize = 0x7f;
    match u8::try_from(value) {
        Ok(small) if value < MASK => block.push(small),
        _ => {
            block.push(0x7f);
            let mut rest = value - MASK;
            while rest > MASK {
                block.push(0x80 | u8::try_from(rest & MASK).unwrap_or_default());
                rest >>= 7;
            }
            block.push(u8::try_from(rest).unwrap_or_default());
        }
    }
}
