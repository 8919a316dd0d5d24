//! Fairness among the flows of one worker, and among the threads of a core.

use std::{cell::Cell, time::Duration};

use crate::courtesy::{Courtesy, Terms};

/// Bytes a flow moves in one direction before every other task of its worker has its turn: one large read.
pub(super) const QUANTUM: usize = 256 * 1024;

/// What is moved at once that others of the core need not wait behind, in bytes.
const LARGE: usize = 64 * 1024;
/// What a worker lets itself be kept waiting for them.
const TERMS: Terms = Terms {
    stretch: Duration::ZERO,
    unminded: Duration::ZERO,
    patience: Duration::from_millis(5),
    regained: 4,
};

/// What is left of a flow's turn.
#[derive(Debug)]
pub(super) struct Turn {
    left: usize,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self { left: QUANTUM }
    }

    /// Counts bytes that were moved; lets the others go first when the turn is over. Bounds what a small flow waits
    /// for beside a large one: tokio's own budget counts reads, and would let one pass on 32 MiB.
    pub(super) async fn spend(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            self.left = QUANTUM;
            tokio::task::yield_now().await;
        }
    }
}

thread_local! {
    static COURTESY: Cell<Option<Courtesy>> = const { Cell::new(None) };
}

/// After so many bytes were moved at once: lets those who have a message to read or to answer go first.
pub(super) fn give_way(bytes: usize) {
    if bytes > LARGE {
        let mut courtesy = COURTESY.get().unwrap_or_else(|| Courtesy::new(&TERMS));
        courtesy.give_way();
        COURTESY.set(Some(courtesy));
    }
}
