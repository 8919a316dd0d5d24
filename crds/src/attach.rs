//! What a policy is about.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Fields this version does not know, kept as written so that they can be reported and deny.
pub type Unknown = BTreeMap<String, Value>;

/// Pods by their labels.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Selector {
    /// Labels a pod must have, all of them. None: every pod of the namespace.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "nullable" = true,
        "maxProperties" = 64,
        "additionalProperties" = {"type": "string", "maxLength": 63},
    ))]
    pub match_labels: BTreeMap<String, String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// An object of the policy's own namespace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API group: empty for a Service, `weft.dev` for an ExternalService, `gateway.networking.k8s.io` for a Gateway.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub group: String,
    /// Kind, such as `Service`.
    #[schemars(length(min = 1, max = 63))]
    pub kind: String,
    /// Name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}
