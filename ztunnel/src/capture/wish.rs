//! What a snapshot wants of the pods of one node. Pure.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use decide::{
    model::{Capture, Datagrams, Exclusions, ObjectRef, Phase, Workload},
    snapshot::Snapshot,
};

use super::{Guard, Ports};
use crate::zds::Pod;

/// A pod that should be captured, and how its old connections and datagrams are treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// Which.
    pub pod: Pod,
    /// Where nothing unproven may come in.
    pub guard: Guard,
    /// Ports its kubelet probes.
    pub probed: Vec<u16>,
    /// Whether the mesh answers names of it.
    pub names: bool,
    /// What its connections bypass the ztunnel for.
    pub exclusions: Exclusions,
    /// The addresses its status tells; none for a pod that is being made.
    pub addresses: Vec<IpAddr>,
    /// Whether it is told to be captured: by its annotation, where nodes tell it. `None` where labels alone say it.
    pub told: Option<bool>,
}

impl Wish {
    /// Whether two wishes ask for the same rules. Addresses and what is told are only looked at.
    pub(super) fn asks_the_same(&self, other: &Self) -> bool {
        self.pod == other.pod
            && self.guard == other.guard
            && self.probed == other.probed
            && self.names == other.names
            && self.exclusions == other.exclusions
    }
}

/// Every pod of the node that should be captured, by UID.
pub fn wishes(snapshot: &Snapshot, node: &str) -> BTreeMap<Arc<str>, Wish> {
    let captured = snapshot
        .workloads
        .values()
        .filter(|workload| *workload.node == *node && is_wanted(workload));
    let is_told = snapshot.mesh.capture_is_told;
    let wish = |workload: &Arc<Workload>| Wish {
        pod: announced(workload),
        guard: guard(snapshot, workload),
        probed: workload.probed.clone(),
        names: snapshot.external.answers_names(&workload.namespace),
        exclusions: snapshot
            .exclusions
            .get(&workload.uid)
            .map_or_else(Exclusions::default, |it| (**it).clone()),
        addresses: workload.addresses.clone(),
        told: is_told.then_some(workload.capture == Capture::Captured),
    };
    captured
        .map(|workload| (workload.uid.clone(), wish(workload)))
        .collect()
}

fn guard(snapshot: &Snapshot, workload: &Workload) -> Guard {
    let guard = Guard::of(&workload.policies);
    match snapshot.mesh.datagrams {
        Datagrams::Protect => guard,
        Datagrams::Allow => Guard {
            datagrams: Ports::none(),
            ..guard
        },
    }
}

/// Whether a pod found captured, which nothing wants captured, may be released. Not while what would say so may
/// be what cannot be read: its Namespace, the pod itself, or, when the pod is not known, any Pod at all.
pub fn may_release(snapshot: &Snapshot, uid: &str) -> bool {
    let unread = |kind: &str, namespace: &str, name: &str| {
        let object = ObjectRef {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        };
        snapshot.problems.get(&object).is_some()
    };
    match snapshot.workload(uid) {
        Some(known) => !unread("Namespace", "", &known.namespace) && !unread("Pod", &known.namespace, &known.name),
        None => !snapshot.problems.iter().any(|(object, _)| *object.kind == *"Pod"),
    }
}

/// A workload, as it is announced.
pub fn announced(workload: &Workload) -> Pod {
    Pod {
        uid: workload.uid.clone(),
        name: workload.name.clone(),
        namespace: workload.namespace.clone(),
        service_account: workload.identity.service_account().into(),
    }
}

/// Whether a pod should be captured.
pub fn is_wanted(workload: &Workload) -> bool {
    workload.capture.is_enrolled() && workload.phase != Phase::Finished
}

#[cfg(test)]
pub(super) mod tests {
    use decide::model::{Capture, Fence, Identity, Labels, MeshSettings, MtlsMode, MtlsRules, PolicySet, Problem};

    use super::*;

    /// A pod on a node.
    pub(crate) fn workload(uid: &str, node: &str, capture: Capture) -> Workload {
        Workload {
            uid: uid.into(),
            name: uid.into(),
            namespace: "shop".into(),
            node: node.into(),
            identity: Identity::new("cluster.local", "shop", "cart").unwrap(),
            addresses: vec![],
            labels: Labels::default(),
            owner: uid.into(),
            ports: vec![],
            probed: Vec::new(),
            fence: Fence::default(),
            capture,
            phase: Phase::Ready,
            waypoint: None,
            serves: None,
            services: vec![],
            policies: Arc::default(),
        }
    }

    fn snapshot(workloads: impl IntoIterator<Item = Workload>) -> Snapshot {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        for workload in workloads {
            snapshot.put_workload(Arc::new(workload));
        }
        snapshot
    }

    #[test]
    fn live_captured_pods_of_this_node_are_wanted_and_no_others() {
        let finished = Workload {
            phase: Phase::Finished,
            ..workload("finished", "n1", Capture::Captured)
        };
        let snapshot = snapshot([
            workload("mine", "n1", Capture::Captured),
            workload("elsewhere", "n2", Capture::Captured),
            workload("native", "n1", Capture::Native),
            workload("outside", "n1", Capture::Outside),
            workload("host", "n1", Capture::HostNetwork),
            finished,
        ]);
        let wishes = wishes(&snapshot, "n1");
        assert_eq!(wishes.keys().map(|uid| &**uid).collect::<Vec<_>>(), ["mine"]);
        assert_eq!(&*wishes["mine"].pod.service_account, "cart");
    }

    #[test]
    fn strict_reaches_the_wish() {
        let policies = PolicySet {
            mtls: MtlsRules {
                default: (MtlsMode::Strict, None),
                ..MtlsRules::default()
            },
            ..PolicySet::default()
        };
        let strict = Workload {
            policies: Arc::new(policies),
            ..workload("a", "n1", Capture::Captured)
        };
        let mut snapshot = snapshot([strict]);
        let guard = wishes(&snapshot, "n1")["a"].guard.clone();
        assert_eq!((guard.tcp, guard.datagrams), (Ports::all(), Ports::all()));
        snapshot.mesh = Arc::new(MeshSettings {
            datagrams: Datagrams::Allow,
            ..MeshSettings::default()
        });
        let guard = wishes(&snapshot, "n1")["a"].guard.clone();
        assert_eq!((guard.tcp, guard.datagrams), (Ports::all(), Ports::none()));
    }

    #[test]
    fn what_cannot_be_read_releases_nobody() {
        let mut snapshot = snapshot([workload("a", "n1", Capture::Outside)]);
        assert!(may_release(&snapshot, "a") && may_release(&snapshot, "gone"));
        for (kind, namespace, name, holds) in [
            ("Namespace", "", "shop", ["a"].as_slice()),
            ("Pod", "shop", "a", &["a", "gone"]),
            ("Service", "shop", "a", &[]),
        ] {
            let object = ObjectRef {
                kind: kind.into(),
                namespace: namespace.into(),
                name: name.into(),
            };
            let problem = Problem {
                object: object.clone(),
                field: "".into(),
                what: "".into(),
                remedy: "".into(),
                place: None,
            };
            snapshot.problems.insert(object.clone(), [problem].into());
            for uid in ["a", "gone"] {
                assert_eq!(may_release(&snapshot, uid), !holds.contains(&uid), "{kind} {uid}");
            }
            snapshot.problems.remove(&object);
        }
    }
}
