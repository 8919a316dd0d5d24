//! What exists in the mesh, after translation: identities, workloads, services, waypoints, policies,
//! routes, and the words for what went wrong. Plain values, shared by `Arc`; nothing here decides.

mod addressed;
mod exclusions;
mod external;
mod identity;
mod labels;
mod locality;
mod mesh;
mod policy;
mod problem;
mod refusal;
mod route;
mod service;
mod waypoint;
mod workload;

pub use addressed::Addressed;
pub use exclusions::Exclusions;
pub use external::{
    EXTERNAL_SERVICE, ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Resolution, Visibility,
};
pub use identity::{Identity, NotAnIdentity};
pub use labels::Labels;
pub use locality::Locality;
pub(crate) use locality::{REGION, ZONE};
pub use mesh::{Datagrams, MeshSettings, OutboundPolicy, SameNode};
pub use policy::{
    Action, AppliedPolicy, BoundWaypoint, Condition, ConditionKey, IpMatch, MtlsMode, MtlsRules, Operation, Policy,
    PolicySet, PortMatch, Rule, Source, StringMatch,
};
pub use problem::{ObjectRef, Place, Problem};
pub use refusal::{Decider, Refusal};
pub use route::{Backend, HeaderMatch, HttpRoute, PathMatch, Pattern, RouteMatch, RouteRule, ValueMatch};
pub use service::{Endpoint, Service, ServiceKey, ServicePort, Tiers};
pub use waypoint::{Waypoint, WaypointEndpoint, WaypointFor, WaypointKey};
pub use workload::{Capture, Fence, NamedPort, Phase, Workload};

/// Ports of the mesh inside a pod's network namespace (`wire.md`, the field's convention).
pub mod ports {
    /// Where a captured pod's outbound TCP is redirected to.
    pub const OUTBOUND: u16 = 15001;
    /// Where plaintext TCP towards a captured pod is redirected to.
    pub const INBOUND_PLAINTEXT: u16 = 15006;
    /// HBONE: HTTP/2 CONNECT over mutual TLS.
    pub const HBONE: u16 = 15008;
    /// Where a captured pod's DNS queries are taken to, while the mesh has names of its own to answer.
    pub const DNS: u16 = 15053;
    /// Admin, on loopback only.
    pub const ADMIN: u16 = 15000;
    /// Prometheus metrics.
    pub const METRICS: u16 = 15020;
    /// Readiness (`/healthz/ready`).
    pub const READY: u16 = 15021;

    /// Where the ztunnel of a captured pod answers instead of the pod, to prove the way to it. Nothing listens there.
    pub const PROOF: u16 = 15022;

    /// Ports no authority may name: a proxy asked to dial one of them would talk to itself.
    pub fn is_ours(port: u16) -> bool {
        matches!(port, OUTBOUND | INBOUND_PLAINTEXT | HBONE | PROOF)
    }
}

/// Mark on every socket of ours, so that no rule redirects it (`wire.md` §1.1).
pub const SO_MARK: u32 = 0x539;
