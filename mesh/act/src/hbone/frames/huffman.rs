//! The Huffman code of header strings (RFC 7541 appendix B).

use std::sync::LazyLock;

/// Bits of the code of each byte, and of the end-of-string symbol. The code is canonical: shorter codes are
/// smaller, and among codes of one length those of smaller bytes are; so the lengths say all.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// The end-of-string symbol: its code only pads.
const END: u16 = 256;
const LONGEST: usize = 30;

/// Codes of one length.
#[derive(Clone, Copy, Default)]
struct Level {
    /// The smallest code of this length.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`Code::symbols`].
    at: u32,
}

struct Code {
    levels: [Level; LONGEST + 1],
    /// By code length, then by value.
    symbols: Vec<u16>,
}

static CODE: LazyLock<Code> = LazyLock::new(|| {
    let mut levels = [Level::default(); LONGEST + 1];
    let mut symbols = Vec::with_capacity(LENGTHS.len());
    let mut next = 0;
    for (bits, level) in (0u8..).zip(levels.iter_mut()).skip(1) {
        next <<= 1;
        level.first = next;
        level.at = u32::try_from(symbols.len()).unwrap_or_default();
        symbols.extend((0..=END).zip(LENGTHS).filter(|(_, it)| *it == bits).map(|(it, _)| it));
        level.count = u32::try_from(symbols.len()).unwrap_or_default() - level.at;
        next += level.count;
    }
    Code { levels, symbols }
});

/// Decodes a string, unless it is longer than `most` bytes; `None` also when it is not this code (RFC 7541 5.2).
pub(super) fn decode(coded: &[u8], most: usize) -> Option<Vec<u8>> {
    let code = &*CODE;
    let mut text = Vec::with_capacity((coded.len() * 8 / 5).min(most));
    let (mut bits, mut length) = (0u32, 0usize);
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        bits = bits << 1 | u32::from(bit);
        length += 1;
        let level = code.levels.get(length)?;
        let Some(offset) = bits.checked_sub(level.first).filter(|offset| *offset < level.count) else {
            continue;
        };
        let symbol = code.symbols.get(usize::try_from(level.at + offset).ok()?)?;
        // The end-of-string symbol itself must not be sent.
        text.push(u8::try_from(*symbol).ok()?);
        if text.len() > most {
            return None;
        }
        (bits, length) = (0, 0);
    }
    // What is left pads: at most seven bits, all of them ones.
    let padding = length < 8 && bits + 1 == 1 << length;
    padding.then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_decode() {
        for (coded, text) in [
            (
                &[0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff][..],
                "www.example.com",
            ),
            (&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], "no-cache"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f], "custom-key"),
            (&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf], "custom-value"),
            (&[], ""),
        ] {
            assert_eq!(decode(coded, 100).as_deref(), Some(text.as_bytes()));
        }
    }

    #[test]
    fn the_code_is_complete() {
        let filled: u64 = LENGTHS.iter().map(|bits| 1 << (LONGEST - usize::from(*bits))).sum();
        assert_eq!(filled, 1 << LONGEST);
    }

    #[test]
    fn bad_padding_the_end_symbol_and_what_is_too_long_are_refused() {
        for coded in [
            // Eight bits of padding; padding of zeroes; end-of-string.
            &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf, 0xff][..],
            &[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbe],
            &[0xff, 0xff, 0xff, 0xff],
        ] {
            assert_eq!(decode(coded, 100), None, "{coded:x?}");
        }
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf], 7), None);
    }
}
