//! What the agent tells of its pods: states for `/config_dump`, and metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use tokio::sync::watch;

use super::rules::COUNTERS;
use crate::zds::Pod;

/// How far a pod is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum State {
    /// It should be captured, and is not yet.
    Waiting,
    /// It is captured.
    Captured,
    /// It is released; connections that were redirected go on.
    #[default]
    Released,
}

/// The pods the agent takes care of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pods: Arc<Mutex<BTreeMap<Arc<str>, Told>>>,
    changed: Arc<watch::Sender<u64>>,
}

/// How far a pod is, to those who wait for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Not captured, and what it waits for.
    Waits(String),
    /// Rules stand in the namespace of this number.
    Captured {
        /// Inode of the namespace.
        inode: u64,
        /// Whether its annotation says so.
        annotated: bool,
    },
}

/// One pod.
#[derive(Debug, Clone, Default, Serialize)]
struct Told {
    /// `<namespace>/<name>`; empty for one found in a namespace without an object.
    pod: String,
    state: State,
    /// What it waits for, or what failed last.
    why: Option<String>,
    /// Inode of the namespace in which its rules stand.
    namespace: Option<u64>,
    /// Whether its annotation says that it is captured.
    annotated: bool,
    /// Whether it ran uncaptured, though it should not have, until this agent started.
    gap: bool,
    /// What its rules counted when they were last read.
    #[serde(flatten)]
    counters: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        metrics::describe_gauge!("weft_cni_pods", "Pods of this node by how far they are captured");
        metrics::describe_counter!(
            "weft_cni_failures_total",
            "Steps of capture or release that failed, by step"
        );
        metrics::describe_counter!(
            "weft_cni_gaps_total",
            "Pods that ran uncaptured, though they should not have, until this agent started"
        );
        metrics::counter!("weft_cni_gaps_total").absolute(0);
        for (counter, what) in COUNTERS {
            metrics::describe_counter!(format!("weft_cni_{counter}_total"), what);
            metrics::counter!(format!("weft_cni_{counter}_total")).absolute(0);
        }
        let tally = Self::default();
        tally.gauge(&tally.lock());
        tally
    }

    /// A pod waits for something.
    pub(super) fn waiting(&self, pod: &Pod, why: String) {
        self.put(pod, State::Waiting, |told| {
            (told.why, told.namespace, told.annotated) = (Some(why), None, false);
        });
    }

    /// A pod's rules stand, in the namespace of this number.
    pub(super) fn captured(&self, pod: &Pod, inode: u64) {
        self.put(pod, State::Captured, |told| {
            (told.why, told.namespace) = (None, Some(inode))
        });
    }

    /// A pod's annotation says that it is captured, or does not.
    pub(super) fn annotated(&self, uid: &str, annotated: bool) {
        if let Some(told) = self.lock().get_mut(uid) {
            told.annotated = annotated;
        }
        self.tell();
    }

    /// A pod ran uncaptured though it should not have.
    pub(super) fn gap(&self, uid: &str) {
        metrics::counter!("weft_cni_gaps_total").increment(1);
        if let Some(told) = self.lock().get_mut(uid) {
            told.gap = true;
        }
    }

    /// How far a pod is; `None` where nobody takes care of it.
    pub fn progress(&self, uid: &str) -> Option<Progress> {
        let pods = self.lock();
        let told = pods.get(uid)?;
        Some(match (told.state, told.namespace) {
            (State::Captured, Some(inode)) => Progress::Captured {
                inode,
                annotated: told.annotated,
            },
            _ => Progress::Waits(told.why.clone().unwrap_or_default()),
        })
    }

    /// Looks at every change from now on.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn put(&self, pod: &Pod, state: State, set: impl FnOnce(&mut Told)) {
        let mut pods = self.lock();
        let told = pods.entry(pod.uid.clone()).or_default();
        (told.pod, told.state) = (format!("{}/{}", pod.namespace, pod.name), state);
        set(told);
        self.gauge(&pods);
        drop(pods);
        self.tell();
    }

    fn tell(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    /// A pod is wished captured no more.
    pub(super) fn released(&self, uid: &Arc<str>) {
        let mut pods = self.lock();
        let told = pods.entry(uid.clone()).or_default();
        (told.state, told.why, told.namespace, told.annotated) = (State::Released, None, None, false);
        self.gauge(&pods);
    }

    /// What failed last at a pod.
    pub(super) fn why(&self, uid: &str, why: String) {
        if let Some(told) = self.lock().get_mut(uid) {
            told.why = Some(why);
        }
    }

    /// Nothing of ours is left in a pod.
    pub(super) fn forget(&self, uid: &str) {
        let mut pods = self.lock();
        pods.remove(uid);
        self.gauge(&pods);
    }

    /// A step failed.
    pub(super) fn failed(&self, step: &'static str) {
        metrics::counter!("weft_cni_failures_total", "step" => step).increment(1);
    }

    /// What a pod's rules have counted so far. Less than before means that they began anew.
    pub(super) fn counted(&self, uid: &str, counters: &BTreeMap<String, u64>) {
        let mut pods = self.lock();
        let Some(told) = pods.get_mut(uid) else { return };
        for (name, _) in COUNTERS {
            let now = counters.get(name).copied().unwrap_or(0);
            let before = told.counters.insert(name, now).unwrap_or(0);
            let more = if now >= before { now - before } else { now };
            if more > 0 && name.starts_with("old_") {
                tracing::info!(
                    uid,
                    pod = told.pod,
                    more,
                    counter = name,
                    "connections older than the capture"
                );
            }
            metrics::counter!(format!("weft_cni_{name}_total")).increment(more);
        }
    }

    /// Every pod, as `/config_dump` tells it.
    pub fn dump(&self) -> serde_json::Value {
        serde_json::to_value(&*self.lock()).unwrap_or_default()
    }

    /// How many pods are in a state.
    pub fn count(&self, state: State) -> usize {
        self.lock().values().filter(|told| told.state == state).count()
    }

    #[allow(clippy::cast_precision_loss, reason = "a node has few pods")]
    fn gauge(&self, pods: &BTreeMap<Arc<str>, Told>) {
        for (state, label) in [
            (State::Waiting, "waiting"),
            (State::Captured, "captured"),
            (State::Released, "released"),
        ] {
            let count = pods.values().filter(|told| told.state == state).count();
            metrics::gauge!("weft_cni_pods", "state" => label).set(count as f64);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Told>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_told_with_its_counters_until_forgotten() {
        let tally = Tally::default();
        let pod = Pod {
            uid: "u".into(),
            name: "cart".into(),
            namespace: "shop".into(),
            service_account: "cart".into(),
        };
        tally.captured(&pod, 7);
        tally.annotated("u", true);
        let progress = Progress::Captured {
            inode: 7,
            annotated: true,
        };
        assert_eq!(tally.progress("u"), Some(progress));
        tally.counted("u", &BTreeMap::from([("old_inbound".to_owned(), 3)]));
        tally.waiting(&pod, "for a ztunnel".to_owned());
        let dump = tally.dump();
        assert_eq!(dump["u"]["pod"], "shop/cart");
        assert_eq!(dump["u"]["old_inbound"], 3);
        assert_eq!(dump["u"]["why"], "for a ztunnel");
        assert_eq!(tally.progress("u"), Some(Progress::Waits("for a ztunnel".to_owned())));
        tally.released(&pod.uid);
        assert_eq!(tally.count(State::Released), 1);
        tally.forget("u");
        assert_eq!(tally.dump(), serde_json::json!({}));
    }
}
