//! Workloads: what runs, and where.

use std::{net::IpAddr, sync::Arc};

use serde::Serialize;

use super::{Identity, Labels, PolicySet, ServiceKey, WaypointKey};

/// A pod as the mesh sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Workload {
    /// Pod UID, unique over time.
    pub uid: Arc<str>,
    /// Pod name.
    pub name: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
    /// Node it runs on.
    pub node: Arc<str>,
    /// Who it is.
    pub identity: Identity,
    /// Its addresses, up to one per family.
    pub addresses: Vec<IpAddr>,
    /// Pod labels, for selectors and telemetry.
    pub labels: Labels,
    /// Name of what made the pod (a Deployment, Job …), else the pod's own: telemetry's `workload`.
    pub owner: Arc<str>,
    /// Named container ports.
    pub ports: Vec<NamedPort>,
    /// TCP ports its kubelet probes or calls: reached from the node by the kernel alone (design 18).
    pub probed: Vec<u16>,
    /// Whether and how it speaks HBONE.
    pub capture: Capture,
    /// Where in its life it is.
    pub phase: Phase,
    /// The waypoint that pod-addressed traffic takes, if any.
    pub waypoint: Option<WaypointKey>,
    /// If it serves a waypoint itself, which.
    pub serves: Option<WaypointKey>,
    /// Services that select it.
    pub services: Vec<ServiceKey>,
    /// What NetworkPolicies ask of its connections, as far as we can read them.
    pub fence: Fence,
    /// Everything that judges inbound traffic. The same `Arc` as long as nothing of it changed (design 15).
    pub policies: Arc<PolicySet>,
}

/// One named container port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NamedPort {
    /// Name.
    pub name: Arc<str>,
    /// Number.
    pub port: u16,
}

/// Whether and how a workload speaks HBONE.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Capture {
    /// Captured by its node's ztunnel.
    Captured,
    /// To be captured, and its node has not said yet that it is: until then plain TCP, and only where its policies
    /// admit a client that proves nothing.
    Awaited,
    /// Serves HBONE on 15008 itself: a waypoint, or a pod annotated `weft.dev/tunnel: hbone`.
    Native,
    /// Not in the mesh: plain TCP.
    Outside,
    /// Shares its node's network: never captured, no identity.
    HostNetwork,
}

/// Where in its life a workload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Phase {
    /// Not ready for traffic yet.
    Starting,
    /// Running and ready.
    Ready,
    /// Asked to stop; serves what it has.
    Terminating,
    /// Succeeded or failed: its address may be another's by now.
    Finished,
}

/// Whether a NetworkPolicy selects a workload. What it admits is the network's to judge, so that connections of a
/// selected pod must be seen by the network (design 13).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub enum Fence {
    /// NetworkPolicies cannot be read: one may.
    #[default]
    Unread,
    /// None does.
    Absent,
    /// This one of its namespace does, by name; the first, if several do.
    By(Arc<str>),
}

impl Capture {
    /// Whether connections towards such a workload must be HBONE.
    pub fn speaks_hbone(self) -> bool {
        matches!(self, Self::Captured | Self::Native)
    }

    /// Whether its node captures it, or is about to.
    pub fn is_enrolled(self) -> bool {
        matches!(self, Self::Captured | Self::Awaited)
    }
}

impl Workload {
    /// Whether its addresses are its alone: not so on the host's network, and no longer once it finished.
    pub fn owns_addresses(&self) -> bool {
        self.capture != Capture::HostNetwork && self.phase != Phase::Finished
    }
}
