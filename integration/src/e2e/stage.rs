//! Where the points play: the cluster, what they tell while they run, and what they could not show.

use std::sync::{Arc, Mutex, PoisonError};

use super::cluster::Cluster;
use crate::show::Screen;

/// The mesh's own namespace.
pub(super) const MESH: &str = "weft-system";

/// What every point gets.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) cluster: Cluster,
    pub(super) nodes: Vec<String>,
    screen: Screen,
    not_shown: Arc<Mutex<Vec<String>>>,
}

impl Stage {
    /// A stage on a cluster with these nodes.
    pub(super) fn new(cluster: Cluster, nodes: Vec<String>, screen: Screen) -> Self {
        Self {
            cluster,
            nodes,
            screen,
            not_shown: Arc::default(),
        }
    }

    /// The node that clients run on.
    pub(super) fn first_node(&self) -> &str {
        self.nodes.first().map_or("", String::as_str)
    }

    /// The node that servers run on, where it matters that it is another.
    pub(super) fn last_node(&self) -> &str {
        self.nodes.last().map_or("", String::as_str)
    }

    /// One line of progress.
    pub(super) fn tell(&self, what: &str) {
        self.screen.progress(what);
    }

    /// Whether components and nodes are ours to touch; where not, the promise is told as not shown.
    pub(super) fn ours_or_not_shown(&self, point: u8, promise: &str) -> bool {
        if self.cluster.reach().is_ours() {
            return true;
        }
        self.not_shown(point, promise, "it needs a cluster that is ours to disturb");
        false
    }

    /// A promise that could not be tried here.
    pub(super) fn not_shown(&self, point: u8, promise: &str, why: &str) {
        let mut all = self.not_shown.lock().unwrap_or_else(PoisonError::into_inner);
        all.push(format!("point {point}: {promise}: {why}"));
    }

    /// Every promise that could not be tried.
    pub(super) fn all_not_shown(&self) -> Vec<String> {
        self.not_shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
