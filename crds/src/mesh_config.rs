//! Settings of the whole mesh.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Unknown, rule};

/// Settings of the whole mesh. What is absent is as each process was started.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "MeshConfig",
    derive = "PartialEq",
    shortname = "mc",
    category = "weft",
    doc = "Settings of the whole mesh. There is one, named default.",
    validation = rule::SINGLETON.kube(),
    printcolumn(name = "Trust domain", json_path = ".spec.trustDomain", type_ = "string"),
    printcolumn(name = "Outbound", json_path = ".spec.outbound", type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct MeshConfigSpec {
    /// Trust domain of every identity of this mesh: the host part of `spiffe://cluster.local/ns/shop/sa/web`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$"), length(min = 1, max = 255))]
    pub trust_domain: Option<String>,
    /// The namespace whose policies without selector bind every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), length(min = 1, max = 63))]
    pub root_namespace: Option<String>,
    /// Destinations the mesh does not know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbound: Option<Outbound>,
    /// How two captured pods of one node talk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_node: Option<SameNode>,
    /// UDP, SCTP and the like towards captured pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<Datagrams>,
    /// Networks pods have their addresses from, such as `10.244.0.0/16`. One of these addresses that no object
    /// explains is held, then refused, never passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(max = 64), regex(pattern = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"))
    )]
    pub pod_cidrs: Option<Vec<String>>,
    /// Networks Services have their addresses from. As `podCidrs`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(max = 64), regex(pattern = r"^[0-9a-fA-F:.]+/[0-9]{1,3}$"))
    )]
    pub service_cidrs: Option<Vec<String>>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Destinations outside the pod and service ranges that the mesh does not know: AllowAny passes them through
/// unchanged, RegistryOnly refuses them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Outbound {
    /// Passed through unchanged.
    AllowAny,
    /// Refused.
    RegistryOnly,
}

/// How two captured pods of one node talk. Wire: always encrypted, over the pods' interfaces. Auto: the node's proxy
/// hands their connections over in memory, judged by the same policies, unless a NetworkPolicy selects either pod or
/// NetworkPolicies cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SameNode {
    /// In memory where nothing speaks against it.
    Auto,
    /// Always over the pods' interfaces, encrypted.
    Wire,
}

/// UDP, SCTP and the like towards captured pods, which pass outside the mesh and prove nobody's identity. Protect:
/// they are dropped under STRICT, and where a policy names the port. Allow: they pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Datagrams {
    /// Dropped under STRICT, and where a policy names the port.
    Protect,
    /// They pass.
    Allow,
}
