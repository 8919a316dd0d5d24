//! Large buffers, lent to whatever is under way on this thread, so that nothing idle holds one (design 12).

use std::{cell::RefCell, thread::LocalKey};

/// Bytes of a buffer: what one write may bring, its records' and frames' overhead included.
pub(super) const LARGE: usize = 272 * 1024;
/// Buffers kept for the next who needs one.
const KEPT: usize = 4;

/// Buffers of one kind.
pub(super) struct Shelf {
    kept: &'static LocalKey<RefCell<Vec<Vec<u8>>>>,
    /// Its buffers are lent empty.
    empty: bool,
}

thread_local! {
    static OUTBOXES: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static SEALED_BUFFERS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// For frames to be sent: their memory stays initialised.
pub(super) const OUTBOX: Shelf = Shelf {
    kept: &OUTBOXES,
    empty: false,
};
/// For records to be written.
pub(super) const SEALED: Shelf = Shelf {
    kept: &SEALED_BUFFERS,
    empty: true,
};

impl Shelf {
    /// A buffer; what it holds has no meaning, except that it is empty where it is [`SEALED`].
    pub(super) fn take(&self) -> Vec<u8> {
        let kept = self.kept.with_borrow_mut(Vec::pop);
        kept.unwrap_or_else(|| Vec::with_capacity(LARGE))
    }

    /// Gives a buffer back.
    pub(super) fn put(&self, mut buffer: Vec<u8>) {
        if self.empty {
            buffer.clear();
        }
        // Those that grew, or are small, are not worth keeping.
        if (LARGE..2 * LARGE).contains(&buffer.capacity()) {
            self.kept.with_borrow_mut(|kept| {
                if kept.len() < KEPT {
                    kept.push(buffer);
                }
            });
        }
    }
}
