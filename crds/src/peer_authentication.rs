//! Whether plaintext is accepted.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Selector, Unknown, rule};

/// Whether the pods it binds accept plaintext beside mutual TLS. The most specific wins: selector, then
/// namespace, then the root namespace; of two alike, the oldest.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "PeerAuthentication",
    namespaced,
    derive = "PartialEq",
    shortname = "peerauth",
    category = "weft",
    doc = "Whether the pods it binds accept plaintext beside mutual TLS. In the mesh's root namespace without selector it binds every namespace.",
    printcolumn(
        name = "Mode",
        json_path = ".spec.mtls.mode",
        type_ = "string",
        description = "Whether plaintext is accepted"
    ),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
pub struct PeerAuthenticationSpec {
    /// The pods of this namespace it binds, by label. Absent: every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// For every port that `portLevelMtls` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtls: Option<Mtls>,
    /// For single ports of the pod (not of a Service).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("nullable" = true, "maxProperties" = 64))]
    #[x_kube(validation = rule::PORTS.kube())]
    pub port_level_mtls: BTreeMap<String, Mtls>,
    /// Fields this version does not know: the pods it binds then accept mutual TLS only.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whether plaintext is accepted.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Mtls {
    /// UNSET: as the next less specific policy says, in the end PERMISSIVE. PERMISSIVE: plaintext and mutual
    /// TLS. STRICT: mutual TLS only.
    #[serde(default)]
    #[schemars(extend("nullable" = true))]
    pub mode: Mode,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whether plaintext is accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Mode {
    /// As the next less specific policy says.
    #[default]
    Unset,
    /// Plaintext and mutual TLS.
    Permissive,
    /// Mutual TLS only.
    Strict,
}
