//! The pods that this process serves, for connections between two of them (design 13): read without a lock.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;

use super::share::Share;
use crate::traffic;

type Present = HashMap<Arc<str>, Share>;

/// Who is served. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Neighbours {
    present: Arc<ArcSwap<Present>>,
}

/// Until dropped, connections of other pods are handed to this one.
pub(super) struct Reachable {
    neighbours: Neighbours,
    uid: Arc<str>,
    share: Share,
}

impl Neighbours {
    /// Has a pod's connections handed over from now on.
    pub(super) fn reach(&self, uid: &Arc<str>, share: &Share) -> Reachable {
        self.change(|present| drop(present.insert(uid.clone(), share.clone())));
        Reachable {
            neighbours: self.clone(),
            uid: uid.clone(),
            share: share.clone(),
        }
    }

    /// As one worker sees them.
    pub(super) fn on(&self, worker: usize) -> traffic::Neighbours {
        let present = self.present.clone();
        Arc::new(move |uid: &str| present.load().get(uid)?.neighbour(worker))
    }

    /// Costs what one node's pods cost, once per pod that comes or goes.
    fn change(&self, change: impl Fn(&mut Present)) {
        self.present.rcu(|present| {
            let mut present = Present::clone(present);
            change(&mut present);
            present
        });
    }
}

impl Drop for Reachable {
    fn drop(&mut self) {
        self.neighbours.change(|present| {
            // a younger sandbox may have the UID by now
            if present.get(&self.uid).is_some_and(|share| share.is(&self.share)) {
                present.remove(&self.uid);
            }
        });
    }
}
