//! Buffers lent to whatever is under way on this thread, so that nothing idle holds one (design 12): small ones for
//! messages, of which many tunnels may have some in one round, large ones for bulk.

use std::cell::RefCell;

/// Bytes of a small buffer: one record, and some.
const SMALL: usize = 20 * 1024;
/// Bytes of a large one: what may wait to be written (256 KiB), its records' and frames' overhead, and two records that
/// may be laid out and not filled. One that has to grow costs a copy of all that is in it, and is lost.
pub(super) const LARGE: usize = 304 * 1024;
/// Buffers of each size kept for the next who needs one.
const KEPT: (usize, usize) = (4, 1);

thread_local! {
    static SMALL_BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static LARGE_BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer for so many bytes, or a large one where that is less; what it holds has no meaning.
pub(super) fn take(bytes: usize) -> Vec<u8> {
    let (kept, size) = if bytes <= SMALL {
        (&SMALL_BUFFERS, SMALL)
    } else {
        (&LARGE_BUFFERS, LARGE)
    };
    kept.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; size])
}

/// Gives a buffer back.
pub(super) fn put(buffer: Vec<u8>) {
    let of_size = |size: usize| (size..2 * size).contains(&buffer.capacity());
    let (kept, most) = if of_size(SMALL) {
        (&SMALL_BUFFERS, KEPT.0)
    } else if of_size(LARGE) {
        (&LARGE_BUFFERS, KEPT.1)
    } else {
        // Those that grew out of their size are not worth keeping.
        return;
    };
    kept.with_borrow_mut(|kept| {
        if kept.len() < most {
            kept.push(buffer);
        }
    });
}
