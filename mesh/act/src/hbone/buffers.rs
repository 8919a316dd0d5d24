//! Large buffers, lent to whatever is under way on this thread, so that nothing idle holds one (design 12).

use std::cell::RefCell;

/// Bytes of a buffer: what one write may bring, its records' and frames' overhead included.
const LARGE: usize = 272 * 1024;
/// Buffers kept for the next who needs one.
const KEPT: usize = 2;

thread_local! {
    static BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer; what it holds has no meaning.
pub(super) fn take() -> Vec<u8> {
    BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; LARGE])
}

/// Gives a buffer back.
pub(super) fn put(buffer: Vec<u8>) {
    // Those that grew, or are small, are not worth keeping.
    if (LARGE..2 * LARGE).contains(&buffer.capacity()) {
        BUFFERS.with_borrow_mut(|kept| {
            if kept.len() < KEPT {
                kept.push(buffer);
            }
        });
    }
}
