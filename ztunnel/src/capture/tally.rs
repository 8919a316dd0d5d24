//! What the agent tells of its pods: states for `/config_dump`, and metrics.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;

use super::rules::COUNTERS;
use crate::zds::Pod;

/// How far a pod is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum State {
    /// It should be captured, and is not yet.
    Waiting,
    /// It is captured.
    Captured,
    /// It is released; connections that were redirected go on.
    Released,
}

/// The pods the agent takes care of. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    pods: Arc<Mutex<BTreeMap<Arc<str>, Told>>>,
}

/// One pod.
#[derive(Debug, Clone, Serialize)]
struct Told {
    /// `<namespace>/<name>`; empty for one found in a namespace without an object.
    pod: String,
    state: State,
    /// What it waits for, or what failed last.
    why: Option<String>,
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
        for (counter, what) in COUNTERS {
            metrics::describe_counter!(format!("weft_cni_{counter}_total"), what);
            metrics::counter!(format!("weft_cni_{counter}_total")).absolute(0);
        }
        let tally = Self::default();
        tally.gauge(&tally.lock());
        tally
    }

    /// A pod's state, and what it waits for.
    pub(super) fn state(&self, pod: &Pod, state: State, why: Option<String>) {
        let mut pods = self.lock();
        let counters = pods.remove(&pod.uid).map(|told| told.counters).unwrap_or_default();
        let told = Told {
            pod: format!("{}/{}", pod.namespace, pod.name),
            state,
            why,
            counters,
        };
        pods.insert(pod.uid.clone(), told);
        self.gauge(&pods);
    }

    /// A pod is wished captured no more.
    pub(super) fn released(&self, uid: &Arc<str>) {
        let mut pods = self.lock();
        let told = pods.entry(uid.clone()).or_insert_with(|| Told {
            pod: String::new(),
            state: State::Released,
            why: None,
            counters: BTreeMap::new(),
        });
        (told.state, told.why) = (State::Released, None);
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
        tally.state(&pod, State::Captured, None);
        tally.counted("u", &BTreeMap::from([("old_inbound".to_owned(), 3)]));
        tally.state(&pod, State::Waiting, Some("for a ztunnel".to_owned()));
        let dump = tally.dump();
        assert_eq!(dump["u"]["pod"], "shop/cart");
        assert_eq!(dump["u"]["old_inbound"], 3);
        assert_eq!(dump["u"]["why"], "for a ztunnel");
        tally.released(&pod.uid);
        assert_eq!(tally.count(State::Released), 1);
        tally.forget("u");
        assert_eq!(tally.dump(), serde_json::json!({}));
    }
}
