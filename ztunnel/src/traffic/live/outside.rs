//! Connections that go straight to what ExternalServices describe, by what judges them: a change of one is looked up
//! for those ExternalServices, and costs the connections to all others nothing.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, MutexGuard, atomic::Ordering::Relaxed},
};

use act::config::Reader;
use decide::{
    hop::{admit_outside, trial_outside},
    model::{Decider, PolicySet, Refusal, ServiceKey, Workload},
    snapshot::Snapshot,
};

use super::{Entry, Registry, SLICE, Tracked, lock};

/// An ExternalService that judges a connection, and the address it is asked about.
pub(crate) type Asked = (ServiceKey, SocketAddr);

/// What the policies say of a connection that goes outside.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Judged {
    /// The rule that allowed it, if one was needed.
    pub(crate) allowed_by: Option<Decider>,
    /// The rule that would have refused it, were its policy no dry run.
    pub(crate) would_deny: Option<Decider>,
}

/// Every connection that goes outside, by the ExternalServices that judge it.
#[derive(Debug, Default)]
pub(super) struct Outside {
    judging: Mutex<HashMap<ServiceKey, Judging>>,
}

#[derive(Debug)]
struct Judging {
    /// What judges; `None` while there is no such ExternalService.
    by: Option<Arc<PolicySet>>,
    /// By number, each with the address that is asked about.
    connections: BTreeMap<u64, (Arc<Entry>, SocketAddr)>,
}

impl Tracked {
    /// Judges a connection of `own` that goes outside by what holds now, and from now on whenever that changes.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn judge_outside(
        &mut self,
        reader: &Reader,
        own: &Workload,
        judging: Box<[Asked]>,
    ) -> Result<Judged, Refusal> {
        let first = reader.load();
        for (key, asked) in &*judging {
            let connection = (self.entry.clone(), *asked);
            self.registry
                .outside
                .add(key, set(&first, key), (self.number, connection));
        }
        self.outside = judging;
        loop {
            let snapshot = reader.load();
            let judged = self.outside_by(&snapshot, own);
            // A change that was published since was perhaps looked up before this connection was there.
            let now = reader.load();
            let same = |(key, _): &Asked| is(set(&snapshot, key).as_ref(), set(&now, key).as_ref());
            if self.outside.iter().all(same) {
                return judged;
            }
        }
    }

    fn outside_by(&self, snapshot: &Snapshot, own: &Workload) -> Result<Judged, Refusal> {
        let there = self
            .outside
            .iter()
            .filter_map(|(key, asked)| Some((snapshot.external.get(key)?, *asked)));
        let mut judged = Judged::default();
        for (service, asked) in there {
            let allowed_by = admit_outside(service, own, asked)?;
            judged.allowed_by = judged.allowed_by.or(allowed_by);
            judged.would_deny = judged.would_deny.or_else(|| trial_outside(service, own, asked));
        }
        Ok(judged)
    }
}

impl Registry {
    /// Judges again what goes to ExternalServices whose policies are no longer the same, in slices.
    pub(super) async fn rejudge_outside(&self, snapshot: &Snapshot, own: &Workload) {
        for key in self.outside.changed(snapshot) {
            let Some(service) = snapshot.external.get(&key) else {
                continue;
            };
            let mut last = None;
            loop {
                let slice = self.outside.slice(&key, last);
                let Some((number, ..)) = slice.last() else { break };
                last = Some(*number);
                for (_, entry, asked) in &slice {
                    if let Err(refusal) = admit_outside(service, own, *asked) {
                        entry.cut(refusal);
                    }
                }
                self.looked_at.fetch_add(slice.len() as u64, Relaxed);
                tokio::task::yield_now().await;
            }
        }
    }
}

impl Outside {
    fn add(&self, key: &ServiceKey, by: Option<Arc<PolicySet>>, (number, connection): (u64, (Arc<Entry>, SocketAddr))) {
        let mut all = self.lock();
        let judging = all.entry(key.clone()).or_insert_with(|| Judging {
            by,
            connections: BTreeMap::new(),
        });
        judging.connections.insert(number, connection);
    }

    pub(super) fn remove(&self, key: &ServiceKey, number: u64) {
        let mut all = self.lock();
        if let Some(judging) = all.get_mut(key) {
            judging.connections.remove(&number);
            if judging.connections.is_empty() {
                all.remove(key);
            }
        }
    }

    /// The ExternalServices whose connections are to be judged again; takes note of what judges them now.
    fn changed(&self, snapshot: &Snapshot) -> Vec<ServiceKey> {
        let mut all = self.lock();
        let changed = all.iter_mut().filter_map(|(key, judging)| {
            let now = set(snapshot, key);
            let same = is(judging.by.as_ref(), now.as_ref());
            judging.by = now;
            (!same).then(|| key.clone())
        });
        changed.collect()
    }

    fn slice(&self, key: &ServiceKey, last: Option<u64>) -> Vec<(u64, Arc<Entry>, SocketAddr)> {
        let all = self.lock();
        let Some(judging) = all.get(key) else { return Vec::new() };
        let rest = judging.connections.range((last.map_or(Unbounded, Excluded), Unbounded));
        rest.take(SLICE)
            .map(|(number, (entry, asked))| (*number, entry.clone(), *asked))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServiceKey, Judging>> {
        lock(&self.judging)
    }
}

fn set(snapshot: &Snapshot, key: &ServiceKey) -> Option<Arc<PolicySet>> {
    snapshot.external.get(key).map(|service| service.policies.clone())
}

fn is(one: Option<&Arc<PolicySet>>, other: Option<&Arc<PolicySet>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
