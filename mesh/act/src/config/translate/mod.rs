//! Objects to snapshot, incrementally: a change touches what depends on it and nothing else.

use std::sync::Arc;

use decide::{model::MeshSettings, snapshot::Snapshot};

use super::Change;

/// The objects seen so far and the snapshot they amount to.
#[derive(Debug)]
pub(super) struct Translation {
    snapshot: Snapshot,
}

impl Translation {
    pub(super) fn new(defaults: MeshSettings) -> Self {
        Self {
            snapshot: Snapshot::empty(Arc::new(defaults)),
        }
    }

    pub(super) fn change(&mut self, change: Change) {
        let _ = change;
        todo!()
    }

    /// The snapshot with everything changed so far, its version counted up.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot.clone()
    }
}
