//! Bytes of one pod that wait in us, under one cap.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::BUFFERED;

/// What a flow may always hold: beyond the cap a pod's flows go on, slowly, so that its slow readers stop none of the
/// others.
pub const LEAST: usize = 4 * 1024;

/// What one pod's flows may hold together, on all workers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Budget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    held: AtomicUsize,
}

/// Bytes that are held, until dropped.
#[derive(Debug)]
pub struct Held {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of `most` bytes of which nothing is held.
    pub fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most,
                held: AtomicUsize::new(0),
            }),
        }
    }

    /// How many of `want` bytes a flow may take in next: what is left, and never less than [`LEAST`]. Less than was
    /// wanted counts as the bound reached.
    pub fn room(&self, want: usize) -> usize {
        let left = self.shared.most.saturating_sub(self.held());
        if left >= want {
            return want;
        }
        BUFFERED.hit(1);
        left.max(LEAST).min(want)
    }

    /// Counts bytes that are held.
    pub fn hold(&self, bytes: usize) -> Held {
        self.shared.held.fetch_add(bytes, Relaxed);
        Held {
            budget: self.clone(),
            bytes,
        }
    }

    /// Bytes held now.
    pub fn held(&self) -> usize {
        self.shared.held.load(Relaxed)
    }

    /// Bytes that may be held.
    pub fn most(&self) -> usize {
        self.shared.most
    }
}

impl Held {
    /// So many are held instead. Costs nothing where that is as many.
    pub fn set(&mut self, bytes: usize) {
        let held = &self.budget.shared.held;
        match bytes.checked_sub(self.bytes) {
            Some(0) => return,
            Some(more) => held.fetch_add(more, Relaxed),
            None => held.fetch_sub(self.bytes - bytes, Relaxed),
        };
        self.bytes = bytes;
    }
}

impl Default for Budget {
    /// 32 MiB.
    fn default() -> Self {
        Self::new(32 << 20)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.shared.held.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_leaves_less_room_and_never_none() {
        let budget = Budget::new(100_000);
        assert_eq!(budget.room(70_000), 70_000);
        let first = budget.hold(70_000);
        assert_eq!(budget.room(70_000), 30_000);
        let second = budget.hold(30_000);
        assert_eq!(budget.room(70_000), LEAST);
        assert_eq!(budget.room(10), 10);
        let mut third = budget.hold(0);
        third.set(5);
        assert_eq!(budget.held(), 100_005);
        third.set(2);
        assert_eq!(budget.held(), 100_002);
        drop(third);
        drop(first);
        assert_eq!(budget.room(256_000), 70_000);
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}
