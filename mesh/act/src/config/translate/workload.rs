//! Pods: who they are, whether they are in the mesh, and what judges traffic towards them.

use std::sync::Arc;

use decide::model::{Capture, Fence, Identity, NamedPort, Phase, ServiceKey, WaypointFor, Workload};

use super::{
    Translation,
    exclusions::{exclusion_problems, exclusions},
    links::Referrer,
    name::Name,
    problem::Part,
    waypoint::{Binding, bind, label_problems, reference, served},
    written::{below, shown},
};
use crate::config::objects::{FieldError, Metadata, Pod, Protocol};

const KIND: &str = "Pod";
/// Label of a Namespace or Pod: `ambient` has it in the mesh, `none` keeps it out.
pub const MODE: &str = "weft.dev/dataplane-mode";
/// Written by a pod's own node agent while the pod is captured.
pub const CAPTURE: &str = "weft.dev/capture";
const TUNNEL: &str = "weft.dev/tunnel";
/// The namespace never captured: what Kubernetes itself needs must not need us.
pub const EXCLUDED: &str = "kube-system";

impl Translation {
    /// Takes away the workload of a pod that is gone or has another UID now. Before any is put, because the UID
    /// may be another pod's now.
    pub(super) fn remove_stale_workload(&mut self, name: &Name) {
        let uid = self.uid_of(name);
        let stale = match self.uids.get(name) {
            Some(old) if uid.as_ref() != Some(old) => old.clone(),
            _ => return,
        };
        self.uids.remove(name);
        if let Some(workload) = self.snapshot.workloads.remove(&stale) {
            self.changed = true;
            self.dirty.pod_addresses.extend(&workload.addresses);
        }
        self.changed |= self.snapshot.exclusions.remove(&stale).is_some();
    }

    /// Translates one pod anew.
    pub(super) fn translate_pod(&mut self, name: &Name) {
        self.work.workloads += 1;
        let Some(pod) = self.store.pods.get(name).cloned() else {
            self.forget_pod(name);
            return;
        };
        let found = self.pod_problems(name, &pod);
        let labels = label_problems(&self.store, &pod.metadata, &name.namespace);
        self.problems.set(name.object(KIND), Part::References, labels);
        let identity = self.identity_of(&pod);
        let uid = self.uid_of(name);
        match identity.zip(uid) {
            Some((identity, uid)) => self.put_workload(name, &pod, uid, identity),
            None => self.forget_pod(name),
        }
        self.problems.set(name.object(KIND), Part::Object, found);
    }

    /// Sets or clears the owner of every address that changed hands.
    pub(super) fn settle_pod_addresses(&mut self) {
        for address in std::mem::take(&mut self.dirty.pod_addresses) {
            let owner = self.store.pod_at(address).and_then(|name| self.uids.get(name)).cloned();
            if self.snapshot.workload_addresses.get(&address) == owner.as_ref() {
                continue;
            }
            self.changed = true;
            match owner {
                Some(uid) => self.snapshot.workload_addresses.insert(address, uid),
                None => drop(self.snapshot.workload_addresses.remove(&address)),
            }
        }
    }

    /// The pod's UID, if it is the pod that counts for it.
    fn uid_of(&self, name: &Name) -> Option<Arc<str>> {
        let pod = self.store.pods.get(name)?;
        self.identity_of(pod)?;
        let uid = pod.uid();
        (self.store.uids.owner(&uid) == Some(name)).then_some(uid)
    }

    fn identity_of(&self, pod: &Pod) -> Option<Identity> {
        let trust_domain = &self.snapshot.mesh.trust_domain;
        Identity::new(trust_domain, &pod.metadata.namespace, pod.service_account()).ok()
    }

    fn forget_pod(&mut self, name: &Name) {
        self.waypoints_named
            .set(&Referrer::Pod(name.clone()), std::collections::BTreeSet::new());
        let touched = self.reach.set(name, std::collections::BTreeMap::new());
        self.dirty.mark_policy_problems(touched);
    }

    fn put_workload(&mut self, name: &Name, pod: &Arc<Pod>, uid: Arc<str>, identity: Identity) {
        let serves = served(&self.store, pod).ok().flatten();
        let binding = match &serves {
            // A waypoint's own pod stands behind no waypoint.
            Some(_) => Binding::default(),
            None => self.workload_binding(pod),
        };
        let named = binding.named.clone().into_iter();
        self.waypoints_named.set(&Referrer::Pod(name.clone()), named.collect());
        let capture = self.capture(pod, serves.is_some());
        let judged = self.judge(name, pod, &binding, capture);
        let before = self.snapshot.workloads.get(&uid);
        let policies = match before {
            Some(before) if *before.policies == judged.policies => before.policies.clone(),
            _ => Arc::new(judged.policies),
        };
        let workload = Workload {
            uid: uid.clone(),
            name: name.name.clone(),
            namespace: name.namespace.clone(),
            node: pod.spec.node_name.clone(),
            identity,
            addresses: pod.addresses(),
            labels: pod.metadata.labels.clone(),
            owner: owner(&pod.metadata),
            ports: named_ports(pod),
            probed: pod.probed_ports(),
            capture,
            phase: phase(pod),
            waypoint: binding.key,
            serves: serves.map(|name| name.waypoint_key()),
            services: self
                .pods_behind
                .referrers(name)
                .map(Name::service_key)
                .collect::<Vec<ServiceKey>>(),
            fence: self.fence(pod),
            policies,
        };
        self.put_exclusions(pod, &uid);
        let touched = self.reach.set(name, judged.touches);
        self.dirty.mark_policy_problems(touched);
        let before = self.snapshot.workloads.get(&uid);
        if before.is_none_or(|before| **before != workload) {
            self.changed = true;
            self.dirty.pod_addresses.extend(&workload.addresses);
            self.uids.insert(name.clone(), uid.clone());
            self.snapshot.workloads.insert(uid, Arc::new(workload));
        }
    }

    fn put_exclusions(&mut self, pod: &Pod, uid: &Arc<str>) {
        let namespace = self.store.namespace(&pod.metadata.namespace).map(|it| &it.metadata);
        let new = exclusions(&self.snapshot.mesh, namespace, &pod.metadata);
        let before = self.snapshot.exclusions.get(uid);
        if before.map_or(new.is_empty(), |before| **before == new) {
            return;
        }
        self.changed = true;
        if new.is_empty() {
            self.snapshot.exclusions.remove(uid);
        } else {
            self.snapshot.exclusions.insert(uid.clone(), Arc::new(new));
        }
    }

    /// The pod's own label, else its service account's, else its namespace's.
    fn workload_binding(&self, pod: &Pod) -> Binding {
        let namespace = &pod.metadata.namespace;
        let store = &self.store;
        let of_account = || {
            let account = store.accounts.get(&Name::new(namespace, pod.service_account()))?;
            reference(&account.metadata, namespace)
        };
        let of_namespace = || reference(&store.namespace(namespace)?.metadata, namespace);
        let reference = reference(&pod.metadata, namespace)
            .or_else(of_account)
            .or_else(of_namespace);
        bind(store, &self.snapshot.mesh, reference, namespace, WaypointFor::Workload)
    }

    /// Design 28.
    fn capture(&self, pod: &Pod, serves_waypoint: bool) -> Capture {
        let namespace = &pod.metadata.namespace;
        let tunnels = pod.metadata.annotations.get(TUNNEL).is_some_and(|it| &**it == "hbone");
        if pod.spec.host_network {
            Capture::HostNetwork
        } else if pod.is_finished() {
            Capture::Outside
        } else if serves_waypoint || tunnels {
            Capture::Native
        } else if **namespace == *EXCLUDED || *namespace == self.snapshot.mesh.root_namespace {
            Capture::Outside
        } else {
            let of_namespace = self.store.namespace(namespace).and_then(|it| it.metadata.label(MODE));
            let of_pod = pod.metadata.label(MODE);
            if !is_enabled(of_pod.map(|it| &**it), of_namespace.map(|it| &**it)) {
                Capture::Outside
            } else if self.is_told_captured(pod) {
                Capture::Captured
            } else {
                Capture::Awaited
            }
        }
    }

    /// The first NetworkPolicy of its namespace that selects the pod.
    fn fence(&self, pod: &Pod) -> Fence {
        if !self.fences_read {
            return Fence::Unread;
        }
        let mut policies = self.store.network_policies.in_namespace(&pod.metadata.namespace);
        let first = policies.find(|(_, policy)| policy.selects(&pod.metadata.labels));
        first.map_or(Fence::Absent, |(name, _)| Fence::By(name.name.clone()))
    }

    /// Where nodes tell what they captured, only their word counts.
    fn is_told_captured(&self, pod: &Pod) -> bool {
        let told = || {
            pod.metadata
                .annotations
                .get(CAPTURE)
                .is_some_and(|it| &**it == "captured")
        };
        !self.snapshot.mesh.capture_is_told || told()
    }

    fn pod_problems(&self, name: &Name, pod: &Pod) -> Vec<FieldError> {
        let mut found: Vec<FieldError> = mode_problem(&pod.metadata).into_iter().collect();
        found.extend(exclusion_problems(&self.snapshot.mesh, &pod.metadata));
        found.extend(served(&self.store, pod).err());
        if let Some(written) = pod.metadata.annotations.get(TUNNEL).filter(|it| &***it != "hbone") {
            found.push(FieldError::new(
                below("metadata.annotations", TUNNEL),
                format!("{} is not hbone and means nothing.", shown(written)),
                "Write hbone, or remove it.",
            ));
        }
        if self.identity_of(pod).is_none() {
            found.push(FieldError::new(
                "spec.serviceAccountName",
                "and the namespace make no identity, so nobody reaches the pod through the mesh.",
                "Use letters, digits, dots and dashes.",
            ));
        }
        if let Some(owner) = self.store.uids.owner(&pod.uid()).filter(|owner| *owner != name) {
            found.push(FieldError::new(
                "metadata.uid",
                format!("is also that of Pod {owner}, so this pod is not looked at."),
                "Remove it, or write another.",
            ));
        }
        if pod.spec.host_network || pod.is_finished() {
            return found;
        }
        for address in pod.addresses() {
            if let Some(owner) = self.store.pod_at(address).filter(|owner| *owner != name) {
                found.push(FieldError::new(
                    "status.podIP",
                    format!(
                        "{address} belongs to Pod {owner}, which is younger or stays; this pod is not reached by it."
                    ),
                    "Give each pod an address of its own.",
                ));
            }
        }
        found
    }
}

/// Whether what the label [`MODE`] of a pod and of its namespace say has the pod in the mesh: the pod's own word
/// counts first, one that nobody can honour is none (design 28).
pub fn is_enabled(pod: Option<&str>, namespace: Option<&str>) -> bool {
    let mode = |written: &str| match written {
        "ambient" => Some(true),
        "none" => Some(false),
        _ => None,
    };
    pod.and_then(mode).or_else(|| namespace.and_then(mode)) == Some(true)
}

/// A label nobody can honour.
pub(super) fn mode_problem(metadata: &Metadata) -> Option<FieldError> {
    let written = metadata.label(MODE)?;
    if matches!(&**written, "ambient" | "none") {
        return None;
    }
    Some(FieldError::new(
        below("metadata.labels", MODE),
        format!("{} is neither ambient nor none and means nothing.", shown(written)),
        "Write one of them.",
    ))
}

fn phase(pod: &Pod) -> Phase {
    if pod.is_finished() {
        Phase::Finished
    } else if pod.is_terminating() {
        Phase::Terminating
    } else if pod.is_ready() {
        Phase::Ready
    } else {
        Phase::Starting
    }
}

fn named_ports(pod: &Pod) -> Vec<NamedPort> {
    let ports = pod.spec.containers.iter().flat_map(|container| &container.ports);
    ports
        .filter(|port| !port.name.is_empty() && port.protocol == Protocol::Tcp)
        .map(|port| NamedPort {
            name: port.name.clone(),
            port: port.container_port,
        })
        .collect()
}

/// Name of what made the pod; of a ReplicaSet, the Deployment above it.
fn owner(metadata: &Metadata) -> Arc<str> {
    let references = &metadata.owner_references;
    let controller = references
        .iter()
        .find(|it| it.controller)
        .or_else(|| references.first());
    if let Some(controller) = controller {
        let hash = metadata
            .label("pod-template-hash")
            .filter(|_| &*controller.kind == "ReplicaSet");
        let deployment = hash.and_then(|hash| controller.name.strip_suffix(&**hash)?.strip_suffix('-'));
        return match deployment {
            Some(name) if !name.is_empty() => name.into(),
            _ => controller.name.clone(),
        };
    }
    let label = |key: &str| metadata.label(key).filter(|value| !value.is_empty());
    label("app")
        .or_else(|| label("app.kubernetes.io/name"))
        .unwrap_or(&metadata.name)
        .clone()
}
