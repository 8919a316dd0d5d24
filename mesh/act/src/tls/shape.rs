//! How plaintext lies in a buffer that is encrypted in place: records (RFC 8446 5.1, 5.2) whose type and tag are still
//! to be written.

/// Bytes of a record's header.
pub(crate) const HEADER: usize = 5;
/// Bytes behind the plaintext: the type, and an AES-GCM tag.
pub(crate) const TRAILER: usize = 1 + 16;
/// Most bytes of plaintext in one record.
pub(crate) const LARGEST: usize = 16 * 1024;

/// The header of a record with so much plaintext: at least one byte, at most [`LARGEST`].
pub(crate) fn header(plaintext: usize) -> [u8; HEADER] {
    let [high, low] = u16::try_from(plaintext + TRAILER).unwrap_or(u16::MAX).to_be_bytes();
    [super::records::DATA, 3, 3, high, low]
}

/// Bytes of plaintext in the record of this header.
pub(crate) fn length([_, _, _, high, low]: [u8; HEADER]) -> usize {
    usize::from(u16::from_be_bytes([high, low])).saturating_sub(TRAILER)
}

/// The plaintext of each record.
pub(crate) fn records(mut buffer: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (header, rest) = buffer.split_first_chunk::<HEADER>()?;
        let (plaintext, rest) = rest.split_at_checked(length(*header))?;
        buffer = rest.get(TRAILER..)?;
        Some(plaintext)
    })
}
