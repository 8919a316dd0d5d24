//! How traffic to a Service is treated, beyond what Gateway API's own fields say.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{TargetRef, Unknown, rule};

/// How waypoints treat traffic to the Services it is attached to. Only what no field of Gateway API says
/// stands here: the time a whole request may take is `timeouts.request` of an HTTPRoute.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "TrafficPolicy",
    plural = "trafficpolicies",
    namespaced,
    derive = "PartialEq",
    shortname = "tp",
    category = "weft",
    doc = "How waypoints treat traffic to the Services it is attached to, beyond what Gateway API's own fields say. Of two on one Service, the oldest wins.",
    printcolumn(
        name = "Connect",
        json_path = ".spec.timeouts.connect",
        type_ = "string",
        description = "For a connection to be established"
    ),
    printcolumn(
        name = "Idle",
        json_path = ".spec.timeouts.idle",
        type_ = "string",
        description = "After which an idle connection is closed"
    ),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct TrafficPolicySpec {
    /// The Services of this namespace it is attached to.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(validation = rule::TRAFFIC_TARGET.kube())]
    pub target_refs: Vec<TargetRef>,
    /// Time limits of connections from a waypoint to the Service's endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeouts: Option<Timeouts>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Time limits, as Gateway API writes durations: `500ms`, `30s`, `1h30m`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Timeouts {
    /// For a connection to an endpoint to be established, its handshake included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub connect: Option<String>,
    /// After which a connection without a request on it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"))]
    pub idle: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}
