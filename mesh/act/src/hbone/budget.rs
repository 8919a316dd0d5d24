//! Bytes of one pod that wait in us, under one cap.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

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
    /// wanted counts as the bound `pod-buffered` reached.
    pub fn room(&self, want: usize) -> usize {
        let left = self.shared.most.saturating_sub(self.held());
        if left >= want {
            return want;
        }
        metrics::counter!("weft_flows_slowed_total", "bound" => "pod-buffered").increment(1);
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
        drop(first);
        assert_eq!(budget.room(256_000), 70_000);
        drop(second);
        assert_eq!(budget.held(), 0);
    }
}
