//! Destinations outside the mesh.

use std::collections::BTreeMap;

use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::{Unknown, rule};

/// A destination outside the mesh: by which names and addresses pods know it, and where it really is.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "ExternalService",
    namespaced,
    derive = "PartialEq",
    shortname = "exs",
    category = "weft",
    doc = "A destination outside the mesh. It counts for the pods of its own namespace; with visibility Mesh in the mesh's root namespace, for all. Of two with one address or host, the mesh-wide one wins, then the oldest.",
    printcolumn(name = "Hosts", json_path = ".spec.hosts", type_ = "string"),
    printcolumn(name = "Resolution", json_path = ".spec.resolution", type_ = "string"),
    printcolumn(name = "Visibility", json_path = ".spec.visibility", type_ = "string"),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = rule::EXTERNAL_ENDPOINTS.kube(),
    validation = rule::EXTERNAL_RESOLVABLE.kube(),
)]
pub struct ExternalServiceSpec {
    /// Names by which pods know it, such as `api.example.com`; `*.example.com` is every name below, at any depth.
    #[schemars(
        length(min = 1, max = 32),
        inner(
            length(min = 1, max = 253),
            regex(pattern = r"^(\*\.)?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$")
        )
    )]
    pub hosts: Vec<String>,
    /// Addresses and networks by which its connections are recognised, such as `240.0.0.7` or `192.0.2.0/24`. With
    /// resolution Static or DNS, single addresses are virtual: the mesh answers its hosts with them, and nothing
    /// need exist there. Without any, no connection is recognised as going to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(max = 64),
        inner(length(min = 2, max = 64), regex(pattern = r"^[0-9a-fA-F:.]+(/[0-9]{1,3})?$"))
    )]
    pub addresses: Option<Vec<String>>,
    /// Its TCP ports. Absent: every port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub ports: Option<Vec<ExternalPort>>,
    /// Where its connections go.
    #[serde(default)]
    pub resolution: Resolution,
    /// Where it is, for resolution Static and DNS. With DNS and without endpoints, its hosts themselves are resolved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub endpoints: Option<Vec<ExternalEndpoint>>,
    /// Whose connections it is for.
    #[serde(default)]
    pub visibility: Visibility,
    /// Fields this version does not know: connections to it are then refused.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One port of an ExternalService.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalPort {
    /// The port pods address.
    #[schemars(schema_with = "port")]
    pub number: u16,
    /// Its name, by which endpoints give it a port of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// Transport protocol.
    #[serde(default)]
    pub protocol: ExternalProtocol,
    /// What is spoken over it, such as `http`, `http2`, `grpc` or `tls`; absent: what the name starts with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub app_protocol: Option<String>,
    /// The port of its endpoints; absent: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "port")]
    pub target_port: Option<u16>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One place where an ExternalService is.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalEndpoint {
    /// An IP address; with resolution DNS, a host name too.
    #[schemars(
        length(min = 1, max = 253),
        regex(
            pattern = r"^([0-9a-fA-F:.]*:[0-9a-fA-F:.]*|[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*)$"
        )
    )]
    pub address: String,
    /// Ports of this endpoint by the names of the service's ports, where they differ from `targetPort`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend(
        "nullable" = true,
        "maxProperties" = 64,
        "additionalProperties" = {"type": "integer", "minimum": 1, "maximum": 65535},
    ))]
    pub ports: BTreeMap<String, u16>,
    /// Its zone: connections from that zone prefer it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Where connections go. None: to the address they were made to. Static: to one of the endpoints. DNS: to an
/// address that the endpoints' names, or without endpoints the hosts, resolve to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Resolution {
    /// To the address they were made to.
    #[default]
    None,
    /// To one of the endpoints.
    Static,
    /// To what a name resolves to.
    #[serde(rename = "DNS")]
    Dns,
}

/// Whose connections it is for. Namespace: those of its own namespace's pods. Mesh: everybody's; this counts in the
/// mesh's root namespace alone, so that no tenant takes what another sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Visibility {
    /// Those of its own namespace's pods.
    #[default]
    Namespace,
    /// Everybody's.
    Mesh,
}

/// Transport protocol: TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExternalProtocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
}

/// A port: without the format of a Rust type, which no API server knows.
fn port(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 1, "maximum": 65535})
}
