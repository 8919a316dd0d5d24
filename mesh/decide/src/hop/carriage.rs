//! How does what goes to another captured pod get there: in memory, or over the wire (design 13)?

use std::fmt;

use crate::{
    model::{Capture, Fence, SameNode, Workload},
    snapshot::Snapshot,
};

/// How the bytes of a [`super::Hop::Tunnel`] get to its pod. The verdict is the same either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carriage {
    /// The node's ztunnel hands the connection from one pod to the other itself, while both hold a leaf: nothing
    /// of it leaves the process.
    InMemory,
    /// HBONE over the pods' interfaces, and why.
    Wire(Wire),
}

/// Why a connection takes the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// The pods are on two nodes, or where one of them is is not known.
    OtherNode,
    /// One of them is not captured by its node's ztunnel, but serves HBONE itself.
    NotCaptured,
    /// MeshConfig asks for it.
    Configured,
    /// NetworkPolicies cannot be read: one might select either.
    Unread,
    /// A NetworkPolicy selects one of them, as `namespace/name`: the network must see the connection to judge it.
    Fenced(String),
}

/// How a connection from one pod gets to another. Anything not known for certain means the wire.
pub fn carriage(snapshot: &Snapshot, source: &Workload, destination: &Workload) -> Carriage {
    let here = |pod: &Workload| pod.capture == Capture::Captured && pod.owns_addresses();
    Carriage::Wire(if source.node.is_empty() || source.node != destination.node {
        Wire::OtherNode
    } else if !here(source) || !here(destination) {
        Wire::NotCaptured
    } else if snapshot.mesh.same_node == SameNode::Wire {
        Wire::Configured
    } else {
        match (&source.fence, &destination.fence) {
            (Fence::By(name), _) => Wire::Fenced(format!("{}/{name}", source.namespace)),
            (_, Fence::By(name)) => Wire::Fenced(format!("{}/{name}", destination.namespace)),
            (Fence::Unread, _) | (_, Fence::Unread) => Wire::Unread,
            (Fence::Absent, Fence::Absent) => return Carriage::InMemory,
        }
    })
}

impl fmt::Display for Wire {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherNode => out.write_str("the pods are on two nodes"),
            Self::NotCaptured => out.write_str("one of the pods serves HBONE itself"),
            Self::Configured => out.write_str("MeshConfig says sameNode: Wire"),
            Self::Unread => out.write_str("NetworkPolicies cannot be read, and one might select either pod"),
            Self::Fenced(policy) => write!(out, "NetworkPolicy {policy} selects one of the pods"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        model::{MeshSettings, Phase},
        snapshot::testing::{pod, snapshot},
    };

    fn open(name: &str, address: &str) -> Workload {
        Workload {
            fence: Fence::Absent,
            ..pod("demo", name, address)
        }
    }

    #[test]
    fn two_captured_pods_of_one_node_meet_in_memory_unless_anything_speaks_against_it() {
        let (client, server) = (open("client", "10.1.0.1"), open("server", "10.1.0.2"));
        let mut snapshot = snapshot(&[&client, &server], &[], &[]);
        assert_eq!(carriage(&snapshot, &client, &server), Carriage::InMemory);
        let fenced = || Fence::By("strict".into());
        for (change, why) in [
            ((|pod| pod.node = "other".into()) as fn(&mut Workload), Wire::OtherNode),
            (|pod| pod.capture = Capture::Native, Wire::NotCaptured),
            (|pod| pod.capture = Capture::Awaited, Wire::NotCaptured),
            (|pod| pod.phase = Phase::Finished, Wire::NotCaptured),
            (|pod| pod.fence = Fence::Unread, Wire::Unread),
        ] {
            for (mut one, other) in [(client.clone(), &server), (server.clone(), &client)] {
                change(&mut one);
                assert_eq!(carriage(&snapshot, &one, other), Carriage::Wire(why.clone()));
                assert_eq!(carriage(&snapshot, other, &one), Carriage::Wire(why.clone()));
            }
        }
        let mut strict = server.clone();
        strict.fence = fenced();
        let by = Carriage::Wire(Wire::Fenced("demo/strict".into()));
        assert_eq!(carriage(&snapshot, &client, &strict), by);
        assert_eq!(carriage(&snapshot, &strict, &client), by);
        snapshot.mesh = Arc::new(MeshSettings {
            same_node: SameNode::Wire,
            ..MeshSettings::default()
        });
        assert_eq!(carriage(&snapshot, &client, &server), Carriage::Wire(Wire::Configured));
    }

    #[test]
    fn pods_whose_node_is_not_known_are_on_no_node_together() {
        let nowhere = |name: &str, address: &str| Workload {
            node: "".into(),
            ..open(name, address)
        };
        let (client, server) = (nowhere("client", "10.1.0.1"), nowhere("server", "10.1.0.2"));
        let snapshot = snapshot(&[&client, &server], &[], &[]);
        assert_eq!(carriage(&snapshot, &client, &server), Carriage::Wire(Wire::OtherNode));
    }
}
