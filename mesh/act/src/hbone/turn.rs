//! Fairness among the flows of one worker.

/// Bytes a flow moves in one direction before every other task of its worker has its turn: one large read.
pub(super) const QUANTUM: usize = 256 * 1024;

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
