//! May this caller hold that identity? (design 22)

use std::sync::Arc;

use crate::{model::Identity, snapshot::Snapshot};

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

/// Whether `caller` may hold `wanted`, by the pods of the snapshot.
///
/// # Errors
/// Why not.
pub fn entitle(caller: &Caller, wanted: &Identity, snapshot: &Snapshot) -> Result<(), NotEntitled> {
    let _ = (caller, wanted, snapshot);
    todo!()
}
