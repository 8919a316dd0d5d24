//! Everything that judges traffic towards one pod: policies that select it, those that come by its Services and
//! waypoints, mutual TLS, and the waypoints that may judge in its stead.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use decide::model::{
    Action, AppliedPolicy, BoundWaypoint, Capture, Identity, ObjectRef, Policy, PolicySet, WaypointKey,
};

use super::{
    Translation,
    name::Name,
    policy::{CompiledPolicy, TargetKind},
    reach::Touch,
    service::ServiceState,
    waypoint::Binding,
};
use crate::config::objects::Pod;

/// What judges one pod.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) policies: PolicySet,
    /// How each policy with a selector touches it.
    pub(super) touches: BTreeMap<ObjectRef, Touch>,
}

/// Ports on which something counts; every one, or these.
type Ports = Option<BTreeSet<u16>>;

impl Translation {
    /// What judges a pod, by its services as translated last.
    pub(super) fn judge(&self, name: &Name, pod: &Pod, binding: &Binding, capture: Capture) -> Judged {
        let services: Vec<(&[u16], &ServiceState)> = self
            .pods_behind
            .referrers(name)
            .filter_map(|service| {
                let state: &ServiceState = self.services.get(service)?;
                Some((state.behind.ports_of(name)?, state))
            })
            .collect();
        let selecting = self.selecting(pod);
        let mut touches = BTreeMap::new();
        let mut applied = Applied::default();
        for compiled in &selecting {
            applied.add(&compiled.policy, None);
            if !pod.is_finished() {
                let touch = Touch {
                    in_mesh: capture.speaks_hbone(),
                    unguarded: unguarded(compiled, binding, &services),
                    shadowed_by: None,
                };
                touches.insert(compiled.policy.object.clone(), touch);
            }
        }
        for (ports, state) in &services {
            for policy in &state.policies {
                applied.add(policy, Some(ports));
            }
        }
        if let Some((key, _)) = binding.standing.as_deref() {
            let gateway = Name::new(&key.namespace, key.name.clone());
            for policy in self.policies.targeting(TargetKind::Gateway, &gateway) {
                applied.add(policy, None);
            }
        }
        let root = &self.snapshot.mesh.root_namespace;
        let peers = self.peers.resolve(root, &name.namespace, &pod.metadata.labels);
        for (compiled, shadowed_by) in peers.selecting {
            if !pod.is_finished() {
                let touch = Touch {
                    in_mesh: capture.speaks_hbone(),
                    unguarded: Vec::new(),
                    shadowed_by,
                };
                touches.insert(compiled.object().clone(), touch);
            }
        }
        Judged {
            policies: PolicySet {
                mtls: peers.mtls,
                policies: applied.done(),
                waypoints: bound_waypoints(binding, &services),
            },
            touches,
        }
    }

    /// Policies with a selector, of the pod's namespace and of the root namespace.
    fn selecting(&self, pod: &Pod) -> Vec<Arc<CompiledPolicy>> {
        let root = &self.snapshot.mesh.root_namespace;
        let namespace = &pod.metadata.namespace;
        let labels = &pod.metadata.labels;
        let mesh_wide = (root != namespace).then(|| self.policies.selecting(root, labels));
        let own = self.policies.selecting(namespace, labels);
        mesh_wide.into_iter().flatten().chain(own).cloned().collect()
    }
}

/// Policies as they bind a pod, each once.
#[derive(Default)]
struct Applied(BTreeMap<(Action, ObjectRef), (Arc<Policy>, Ports)>);

impl Applied {
    fn add(&mut self, policy: &Arc<Policy>, ports: Option<&[u16]>) {
        let ports = ports.map(|ports| ports.iter().copied().collect());
        let key = (policy.action, policy.object.clone());
        match self.0.get_mut(&key) {
            None => drop(self.0.insert(key, (policy.clone(), ports))),
            Some((_, known)) => unite(known, ports),
        }
    }

    /// CUSTOM, DENY, ALLOW, each by object.
    fn done(self) -> Vec<AppliedPolicy> {
        let all = self.0.into_values();
        all.map(|(policy, ports)| AppliedPolicy {
            policy,
            ports: ports.map(|ports| ports.into_iter().collect()),
        })
        .collect()
    }
}

fn bound_waypoints(binding: &Binding, services: &[(&[u16], &ServiceState)]) -> Vec<BoundWaypoint> {
    let mut bound: BTreeMap<WaypointKey, (Identity, Ports)> = BTreeMap::new();
    let of_services = services.iter().filter_map(|(ports, state)| {
        Some((
            state.binding.standing.as_deref()?,
            Some(ports.iter().copied().collect()),
        ))
    });
    let own = binding.standing.as_deref().into_iter().map(|standing| (standing, None));
    for ((key, identity), ports) in own.chain(of_services) {
        match bound.get_mut(key) {
            None => drop(bound.insert(key.clone(), (identity.clone(), ports))),
            Some((_, known)) => unite(known, ports),
        }
    }
    bound
        .into_iter()
        .map(|(key, (identity, ports))| BoundWaypoint {
            key,
            identity,
            ports: ports.map(|ports| ports.into_iter().collect()),
        })
        .collect()
}

fn unite(known: &mut Ports, more: Ports) {
    match (known.as_mut(), more) {
        (Some(known), Some(more)) => known.extend(more),
        _ => *known = None,
    }
}

/// The rules of a policy that need HTTP, where no waypoint stands before the pod on a port they are about.
fn unguarded(compiled: &CompiledPolicy, binding: &Binding, services: &[(&[u16], &ServiceState)]) -> Vec<usize> {
    if binding.key.is_some() {
        return Vec::new();
    }
    let guarded = services.iter().filter(|(_, state)| state.binding.key.is_some());
    let guarded: Vec<&[u16]> = guarded.map(|(ports, _)| *ports).collect();
    let rules = compiled.http_rules.iter();
    rules
        .filter(|rule| !guarded.iter().any(|ports| rule.concerns(Some(ports))))
        .map(|rule| rule.index)
        .collect()
}
