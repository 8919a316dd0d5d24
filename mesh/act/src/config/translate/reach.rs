//! Whom policies with a selector reach, kept up to date pod by pod: so that a policy that selects nobody, or asks
//! for HTTP where no waypoint stands, is told without looking at every pod again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use decide::model::ObjectRef;

use super::name::Name;

/// How one policy touches one pod.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Touch {
    /// Whether the pod is in the mesh, so that the policy is enforced there.
    pub(super) in_mesh: bool,
    /// Rules that need HTTP, where no waypoint stands before the pod.
    pub(super) unguarded: Vec<usize>,
    /// An older policy that counts in its stead.
    pub(super) shadowed_by: Option<ObjectRef>,
}

/// How one policy touches all pods.
#[derive(Debug, Default)]
pub(super) struct Reached {
    pub(super) pods: usize,
    pub(super) in_mesh: usize,
    pub(super) unguarded: BTreeMap<usize, BTreeSet<Name>>,
    pub(super) shadowed: BTreeMap<Name, ObjectRef>,
}

/// How all policies touch all pods.
#[derive(Debug, Default)]
pub(super) struct Reach {
    by_pod: HashMap<Name, BTreeMap<ObjectRef, Touch>>,
    by_policy: HashMap<ObjectRef, Reached>,
}

impl Reach {
    /// What touches a pod now; returns the policies for which that is news.
    pub(super) fn set(&mut self, pod: &Name, touches: BTreeMap<ObjectRef, Touch>) -> Vec<ObjectRef> {
        let old = self.by_pod.remove(pod).unwrap_or_default();
        let mut changed = Vec::new();
        for (policy, touch) in &old {
            if touches.get(policy) != Some(touch) {
                self.add_or_remove(pod, policy, touch, false);
                changed.push(policy.clone());
            }
        }
        for (policy, touch) in &touches {
            if old.get(policy) != Some(touch) {
                self.add_or_remove(pod, policy, touch, true);
                changed.push(policy.clone());
            }
        }
        if !touches.is_empty() {
            self.by_pod.insert(pod.clone(), touches);
        }
        changed
    }

    /// How one policy touches all pods; `None`: not one.
    pub(super) fn of(&self, policy: &ObjectRef) -> Option<&Reached> {
        self.by_policy.get(policy)
    }

    fn add_or_remove(&mut self, pod: &Name, policy: &ObjectRef, touch: &Touch, add: bool) {
        let reached = self.by_policy.entry(policy.clone()).or_default();
        let count = |number: &mut usize| *number = if add { *number + 1 } else { number.saturating_sub(1) };
        count(&mut reached.pods);
        if touch.in_mesh {
            count(&mut reached.in_mesh);
        }
        for rule in &touch.unguarded {
            let pods = reached.unguarded.entry(*rule).or_default();
            if add {
                pods.insert(pod.clone());
            } else {
                pods.remove(pod);
            }
        }
        reached.unguarded.retain(|_, pods| !pods.is_empty());
        match &touch.shadowed_by {
            Some(older) if add => drop(reached.shadowed.insert(pod.clone(), older.clone())),
            Some(_) => drop(reached.shadowed.remove(pod)),
            None => {}
        }
        if reached.pods == 0 {
            self.by_policy.remove(policy);
        }
    }
}
