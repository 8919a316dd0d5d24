//! May this caller hold that identity? (design 22)

use std::sync::Arc;

use crate::{
    model::{Capture, Identity, Phase, Workload},
    snapshot::Snapshot,
};

/// An authenticated caller of the CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// The ztunnel of a node: its account, by a token bound to a live pod on that node.
    Node {
        /// The node.
        node: Arc<str>,
        /// UID of the ztunnel's own pod, for the audit.
        pod: Arc<str>,
    },
    /// A pod, by a token bound to it.
    Pod {
        /// UID.
        uid: Arc<str>,
        /// Whose service account it runs as.
        identity: Identity,
    },
    /// A subject of a configured issuer, with the identities its mapping names.
    Mapped {
        /// The token's subject.
        subject: Arc<str>,
        /// What it may hold.
        identities: Vec<Identity>,
    },
}

/// Why not: one plain sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotEntitled {
    /// No enrolled, running, not host-network pod of that identity is on the caller's node. May be cured by
    /// looking the pod up at the source once.
    #[error("no enrolled running pod on node {node} has the identity {wanted}")]
    NoSuchPodOnNode {
        /// The caller's node.
        node: Arc<str>,
        /// What it asked for.
        wanted: Identity,
    },
    /// A pod of that identity is on the caller's node, on the node's own network: it has no identity of its own.
    #[error(
        "the pod on node {node} with the identity {wanted} uses its node's network, so it has no identity of its own"
    )]
    HostNetwork {
        /// The caller's node.
        node: Arc<str>,
        /// What it asked for.
        wanted: Identity,
    },
    /// A node may not hold the identity of a waypoint.
    #[error("{0} is a waypoint's identity, which no node may hold")]
    WaypointIdentity(Identity),
    /// A pod asked for another's identity, or is no waypoint.
    #[error("pod {pod} may only hold its own identity, and only as a waypoint; it asked for {wanted}")]
    NotItsOwn {
        /// The caller's pod.
        pod: Arc<str>,
        /// What it asked for.
        wanted: Identity,
    },
    /// The mapping does not name it.
    #[error("the issuer's mapping gives {subject} no right to {wanted}")]
    NotMapped {
        /// The token's subject.
        subject: Arc<str>,
        /// What it asked for.
        wanted: Identity,
    },
    /// Another trust domain.
    #[error("{wanted} is not of the trust domain {ours}")]
    ForeignTrustDomain {
        /// What was asked for.
        wanted: Identity,
        /// Ours.
        ours: Arc<str>,
    },
}

impl NotEntitled {
    /// Value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoSuchPodOnNode { .. } => "no_such_pod_on_node",
            Self::HostNetwork { .. } => "host_network",
            Self::WaypointIdentity(_) => "waypoint_identity",
            Self::NotItsOwn { .. } => "not_its_own",
            Self::NotMapped { .. } => "not_mapped",
            Self::ForeignTrustDomain { .. } => "foreign_trust_domain",
        }
    }

    /// Whether a pod that is not known here yet could make this `caller` entitled.
    pub fn may_be_late(&self, caller: &Caller) -> bool {
        match (self, caller) {
            (Self::NoSuchPodOnNode { .. } | Self::HostNetwork { .. }, _) => true,
            (Self::NotItsOwn { wanted, .. }, Caller::Pod { identity, .. }) => wanted == identity,
            _ => false,
        }
    }
}

/// The snapshot with pods and waypoints that were looked up since. What was found is newer than what was known;
/// of a waypoint that is known only the identity counts here, and that stays.
pub fn extended(snapshot: &Snapshot, found: &Snapshot) -> Snapshot {
    let mut extended = snapshot.clone();
    for pod in found.workloads.values() {
        extended.put_workload(pod.clone());
    }
    for waypoint in found.waypoints.values() {
        if extended.waypoints.get(&waypoint.key).is_none() {
            extended.waypoints.insert(waypoint.key.clone(), waypoint.clone());
        }
    }
    extended
}

/// Whether `caller` may hold `wanted`, by the pods of the snapshot. Looks at every workload once: it is asked
/// by the CA for one certificate at a time, never on a data path.
///
/// # Errors
/// Why not.
pub fn entitle(caller: &Caller, wanted: &Identity, snapshot: &Snapshot) -> Result<(), NotEntitled> {
    let ours = &snapshot.mesh.trust_domain;
    if wanted.trust_domain() != &**ours {
        return Err(NotEntitled::ForeignTrustDomain {
            wanted: wanted.clone(),
            ours: ours.clone(),
        });
    }
    match caller {
        Caller::Node { node, .. } => node_may_hold(node, wanted, snapshot),
        Caller::Pod { uid, identity } => {
            let serves = snapshot
                .workloads
                .get(uid)
                .is_some_and(|pod| pod.identity == *identity && pod.serves.is_some() && pod.phase != Phase::Finished);
            (serves && identity == wanted)
                .then_some(())
                .ok_or_else(|| NotEntitled::NotItsOwn {
                    pod: uid.clone(),
                    wanted: wanted.clone(),
                })
        }
        Caller::Mapped { subject, identities } => {
            identities
                .contains(wanted)
                .then_some(())
                .ok_or_else(|| NotEntitled::NotMapped {
                    subject: subject.clone(),
                    wanted: wanted.clone(),
                })
        }
    }
}

fn node_may_hold(node: &Arc<str>, wanted: &Identity, snapshot: &Snapshot) -> Result<(), NotEntitled> {
    let of_waypoint = snapshot.waypoints.values().any(|waypoint| waypoint.identity == *wanted)
        || snapshot
            .workloads
            .values()
            .any(|pod| pod.identity == *wanted && pod.serves.is_some());
    if of_waypoint {
        return Err(NotEntitled::WaypointIdentity(wanted.clone()));
    }
    let here = |pod: &&Arc<Workload>| pod.identity == *wanted && pod.node == *node && pod.phase != Phase::Finished;
    let mut on_host = false;
    for pod in snapshot.workloads.values().filter(here) {
        if pod.capture.is_enrolled() {
            return Ok(());
        }
        on_host |= pod.capture == Capture::HostNetwork;
    }
    let (node, wanted) = (node.clone(), wanted.clone());
    Err(if on_host {
        NotEntitled::HostNetwork { node, wanted }
    } else {
        NotEntitled::NoSuchPodOnNode { node, wanted }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Fence, Labels, MeshSettings, PolicySet, Waypoint, WaypointFor, WaypointKey};

    fn identity(namespace: &str, account: &str) -> Identity {
        Identity::new("cluster.local", namespace, account).unwrap()
    }

    fn gateway() -> WaypointKey {
        WaypointKey {
            namespace: "shop".into(),
            name: "waypoint".into(),
        }
    }

    fn pod(uid: &str, account: &str, node: &str) -> Workload {
        Workload {
            uid: uid.into(),
            name: uid.into(),
            namespace: "shop".into(),
            node: node.into(),
            identity: identity("shop", account),
            addresses: Vec::new(),
            labels: Labels::default(),
            owner: uid.into(),
            ports: Vec::new(),
            probed: Vec::new(),
            fence: Fence::default(),
            capture: Capture::Captured,
            phase: Phase::Ready,
            waypoint: None,
            serves: None,
            services: Vec::new(),
            policies: Arc::new(PolicySet::default()),
        }
    }

    fn snapshot(pods: Vec<Workload>) -> Snapshot {
        let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
        for pod in pods {
            snapshot.put_workload(Arc::new(pod));
        }
        snapshot
    }

    fn node(name: &str) -> Caller {
        Caller::Node {
            node: name.into(),
            pod: "ztunnel".into(),
        }
    }

    fn waypoint_pod() -> Workload {
        Workload {
            capture: Capture::Native,
            serves: Some(gateway()),
            ..pod("way", "waypoint", "node-1")
        }
    }

    #[test]
    fn a_node_holds_the_identities_of_its_enrolled_pods() {
        let snapshot = snapshot(vec![pod("a", "web", "node-1"), pod("b", "db", "node-2")]);
        assert_eq!(entitle(&node("node-1"), &identity("shop", "web"), &snapshot), Ok(()));
        assert!(matches!(
            entitle(&node("node-1"), &identity("shop", "db"), &snapshot),
            Err(NotEntitled::NoSuchPodOnNode { .. })
        ));
    }

    #[test]
    fn only_captured_pods_that_have_not_finished_count() {
        for (capture, phase, held) in [
            (Capture::Captured, Phase::Starting, true),
            (Capture::Awaited, Phase::Starting, true),
            (Capture::Captured, Phase::Terminating, true),
            (Capture::Captured, Phase::Finished, false),
            (Capture::Native, Phase::Ready, false),
            (Capture::Outside, Phase::Ready, false),
            (Capture::HostNetwork, Phase::Ready, false),
        ] {
            let pod = Workload {
                capture,
                phase,
                ..pod("a", "web", "node-1")
            };
            let answer = entitle(&node("node-1"), &identity("shop", "web"), &snapshot(vec![pod]));
            assert_eq!(answer.is_ok(), held, "{capture:?} {phase:?}");
        }
    }

    #[test]
    fn no_node_holds_the_identity_of_a_waypoint() {
        let wanted = identity("shop", "waypoint");
        let serving = snapshot(vec![pod("a", "waypoint", "node-1"), waypoint_pod()]);
        let mut declared = snapshot(vec![pod("a", "waypoint", "node-1")]);
        declared.waypoints.insert(
            gateway(),
            Arc::new(Waypoint {
                key: gateway(),
                identity: wanted.clone(),
                takes: WaypointFor::Service,
                endpoints: Vec::new(),
            }),
        );
        for snapshot in [serving, declared] {
            assert_eq!(
                entitle(&node("node-1"), &wanted, &snapshot),
                Err(NotEntitled::WaypointIdentity(wanted.clone()))
            );
        }
    }

    #[test]
    fn a_pod_holds_its_own_identity_only_and_only_as_a_waypoint() {
        let caller = |uid: &str, account: &str| Caller::Pod {
            uid: uid.into(),
            identity: identity("shop", account),
        };
        let finished = Workload {
            uid: "gone".into(),
            phase: Phase::Finished,
            ..waypoint_pod()
        };
        let snapshot = snapshot(vec![pod("a", "web", "node-1"), waypoint_pod(), finished]);
        for (caller, wanted, held) in [
            (caller("way", "waypoint"), "waypoint", true),
            (caller("way", "waypoint"), "web", false),
            (caller("way", "web"), "web", false),
            (caller("a", "web"), "web", false),
            (caller("nobody", "waypoint"), "waypoint", false),
            (caller("gone", "waypoint"), "waypoint", false),
        ] {
            let answer = entitle(&caller, &identity("shop", wanted), &snapshot);
            assert_eq!(answer.is_ok(), held, "{caller:?} {wanted}");
        }
    }

    #[test]
    fn a_mapped_subject_holds_what_its_mapping_names() {
        let caller = Caller::Mapped {
            subject: "ci".into(),
            identities: vec![identity("build", "runner")],
        };
        let snapshot = snapshot(vec![pod("a", "web", "node-1")]);
        assert_eq!(entitle(&caller, &identity("build", "runner"), &snapshot), Ok(()));
        assert!(matches!(
            entitle(&caller, &identity("shop", "web"), &snapshot),
            Err(NotEntitled::NotMapped { .. })
        ));
    }

    #[test]
    fn a_foreign_trust_domain_is_nobodys() {
        let foreign = Identity::new("elsewhere.org", "shop", "web").unwrap();
        let foreign_pod = Workload {
            identity: foreign.clone(),
            serves: Some(gateway()),
            ..pod("a", "web", "node-1")
        };
        let snapshot = snapshot(vec![foreign_pod]);
        let callers = [
            node("node-1"),
            Caller::Pod {
                uid: "a".into(),
                identity: foreign.clone(),
            },
            Caller::Mapped {
                subject: "ci".into(),
                identities: vec![foreign.clone()],
            },
        ];
        for caller in callers {
            assert!(matches!(
                entitle(&caller, &foreign, &snapshot),
                Err(NotEntitled::ForeignTrustDomain { .. })
            ));
        }
    }

    #[test]
    fn a_host_network_pod_has_no_identity_of_its_own() {
        let host = Workload {
            capture: Capture::HostNetwork,
            ..pod("h", "web", "node-1")
        };
        let elsewhere = Workload {
            node: "node-2".into(),
            ..host.clone()
        };
        let wanted = identity("shop", "web");
        let refused = entitle(&node("node-1"), &wanted, &snapshot(vec![host.clone()]));
        assert!(matches!(refused, Err(NotEntitled::HostNetwork { .. })), "{refused:?}");
        let refused = entitle(&node("node-1"), &wanted, &snapshot(vec![elsewhere]));
        assert!(
            matches!(refused, Err(NotEntitled::NoSuchPodOnNode { .. })),
            "{refused:?}"
        );
        // Beside an enrolled pod of the account it takes nothing away.
        let both = snapshot(vec![host, pod("a", "web", "node-1")]);
        assert_eq!(entitle(&node("node-1"), &wanted, &both), Ok(()));
    }

    #[test]
    fn what_was_looked_up_counts_beside_what_is_known() {
        let known = snapshot(vec![pod("a", "web", "node-1"), pod("old", "db", "node-1")]);
        let gone = Workload {
            phase: Phase::Finished,
            ..pod("old", "db", "node-1")
        };
        let mut found = snapshot(vec![pod("b", "late", "node-1"), gone]);
        let waypoint = Waypoint {
            key: gateway(),
            identity: identity("shop", "waypoint"),
            takes: WaypointFor::Service,
            endpoints: Vec::new(),
        };
        found.waypoints.insert(gateway(), Arc::new(waypoint));
        let both = extended(&known, &found);
        for (account, held) in [("web", true), ("late", true), ("db", false), ("waypoint", false)] {
            let answer = entitle(&node("node-1"), &identity("shop", account), &both);
            assert_eq!(answer.is_ok(), held, "{account}: {answer:?}");
        }
        assert_eq!(
            entitle(&node("node-1"), &identity("shop", "waypoint"), &both),
            Err(NotEntitled::WaypointIdentity(identity("shop", "waypoint")))
        );
        // What was known is as it was.
        assert!(known.workload("b").is_none());
    }

    proptest! {
        /// However the pods lie, a node never holds what none of its own pods is.
        #[test]
        fn a_node_never_holds_what_does_not_run_on_it(
            places in proptest::collection::vec((0_usize..3, 0_usize..3), 0..8),
            asked in 0_usize..3,
            account in 0_usize..3,
        ) {
            let name = |kind: &str, index: usize| format!("{kind}-{index}");
            let pods = places
                .iter()
                .enumerate()
                .map(|(index, (node, account))| pod(&name("pod", index), &name("sa", *account), &name("node", *node)))
                .collect();
            let held = entitle(&node(&name("node", asked)), &identity("shop", &name("sa", account)), &snapshot(pods));
            prop_assert_eq!(held.is_ok(), places.contains(&(asked, account)));
        }
    }
}
