//! Settings of the whole mesh, from `MeshConfig` and the process' flags.

use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;

/// Settings of the whole mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeshSettings {
    /// Trust domain of every identity this mesh issues.
    pub trust_domain: Arc<str>,
    /// The namespace whose policies without selector bind every namespace.
    pub root_namespace: Arc<str>,
    /// What happens to destinations the mesh does not know.
    pub outbound: OutboundPolicy,
    /// How two captured pods of one node talk.
    pub same_node: SameNode,
    /// What happens to datagrams towards a captured pod.
    pub datagrams: Datagrams,
    /// Addresses given to pods: one of them that no object explains is held, then refused (design 5).
    pub pod_ranges: Vec<IpNet>,
    /// Addresses given to Services; as `pod_ranges`.
    pub service_ranges: Vec<IpNet>,
    /// Whether each node tells which of its pods are captured (annotation `weft.dev/capture: captured`). Where none
    /// does, labels alone say it. A property of the configuration's source, not of a MeshConfig.
    pub capture_is_told: bool,
}

/// What happens to a destination outside pod and service ranges that no object explains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum OutboundPolicy {
    /// Passed through unchanged.
    #[default]
    AllowAny,
    /// Refused.
    RegistryOnly,
}

/// How two captured pods of one node talk (design 13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum SameNode {
    /// Handed over in memory, where nothing but the two proxies' own node sees the connection anyway: see
    /// [`crate::hop::carriage`].
    #[default]
    Auto,
    /// Always HBONE over the pods' interfaces.
    Wire,
}

/// What happens to datagrams (UDP, SCTP and the like) towards a captured pod. They pass outside the mesh: nobody
/// proves to be anybody (design 19).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum Datagrams {
    /// Dropped under STRICT, and where a policy names the port; else they pass, counted.
    #[default]
    Protect,
    /// They pass, counted.
    Allow,
}

impl Default for MeshSettings {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            root_namespace: "weft-system".into(),
            outbound: OutboundPolicy::default(),
            same_node: SameNode::default(),
            datagrams: Datagrams::default(),
            pod_ranges: Vec::new(),
            service_ranges: Vec::new(),
            capture_is_told: false,
        }
    }
}
