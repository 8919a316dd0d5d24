//! Services and the endpoints behind them.

use std::{collections::HashMap, fmt, net::IpAddr, sync::Arc};

use serde::Serialize;

use super::{HttpRoute, PolicySet, WaypointKey};

/// A Service by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ServiceKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// A Kubernetes Service as the mesh sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Namespace and name.
    pub key: ServiceKey,
    /// Cluster IPs, up to one per family; empty when headless.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Everything behind it, ready or not, by address: those of IPv4 first.
    pub endpoints: Arc<[Endpoint]>,
    /// Whether endpoints that are not ready get traffic.
    pub publish_not_ready: bool,
    /// Which endpoints a connection prefers, by where it comes from.
    pub tiers: Arc<Tiers>,
    /// The waypoint that Service-addressed traffic takes, if any (design 28).
    pub waypoint: Option<WaypointKey>,
    /// What a waypoint judges requests to this Service by: policies that target it, or its waypoint.
    pub policies: Arc<PolicySet>,
    /// Routes attached to it, oldest first (then by namespace and name), producer and consumer alike.
    pub routes: Arc<[Arc<HttpRoute>]>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServicePort {
    /// Port name; empty when unnamed.
    pub name: Arc<str>,
    /// The port clients address.
    pub port: u16,
    /// `appProtocol`, or the port name's prefix (`http`, `http2`, `grpc`, `tcp`), in lower case, if either tells.
    pub app_protocol: Option<Arc<str>>,
}

/// One address behind a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// UID of the workload at this address, if a pod.
    pub workload: Option<Arc<str>>,
    /// Its address.
    pub address: IpAddr,
    /// Node it runs on, if known.
    pub node: Option<Arc<str>>,
    /// Pairs of service port and the port of this endpoint behind it.
    pub ports: Box<[(u16, u16)]>,
    /// Whether it is ready for new connections.
    pub ready: bool,
    /// Whether it is on its way out and serves still: for when no other endpoint is ready.
    pub leaving: bool,
}

/// Which endpoints of a Service a connection prefers, as indexes into them: made when the Service changes, so that a
/// connection looks up and compares nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Tiers {
    /// Preferred from a node.
    pub nodes: HashMap<Arc<str>, Box<[u32]>>,
    /// Preferred from a zone, where the node has none that is of use.
    pub zones: HashMap<Arc<str>, Box<[u32]>>,
    /// Preferred from a region, where the zone has none that is of use.
    pub regions: HashMap<Arc<str>, Box<[u32]>>,
    /// Whether nothing beyond the node counts (`internalTrafficPolicy: Local`).
    pub only_node: bool,
}

impl Tiers {
    /// Whether every endpoint is as near as any other.
    pub fn is_flat(&self) -> bool {
        self.nodes.is_empty() && self.zones.is_empty() && self.regions.is_empty() && !self.only_node
    }
}

impl Endpoint {
    /// The port of this endpoint behind a service port.
    pub fn target_port(&self, service_port: u16) -> Option<u16> {
        self.ports
            .iter()
            .find(|(port, _)| *port == service_port)
            .map(|(_, target)| *target)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
