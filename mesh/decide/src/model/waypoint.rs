//! Waypoints: L7 proxies that services and workloads are bound to.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::Serialize;

use super::Identity;

/// A waypoint's Gateway by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct WaypointKey {
    /// Namespace.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// A Gateway of class `weft-waypoint` and the pods that serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waypoint {
    /// Namespace and name of the Gateway.
    pub key: WaypointKey,
    /// Who its pods are: service account of the Gateway's own name in its namespace.
    pub identity: Identity,
    /// Which traffic it takes (label `weft.dev/waypoint-for`, default service).
    pub takes: WaypointFor,
    /// HBONE addresses of its ready pods, with their nodes; empty while none is ready.
    pub endpoints: Vec<WaypointEndpoint>,
}

/// One ready pod of a waypoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WaypointEndpoint {
    /// Pod UID.
    pub workload: Arc<str>,
    /// Where it accepts HBONE.
    pub address: SocketAddr,
    /// Its node.
    pub node: Arc<str>,
}

/// Which traffic a waypoint takes, by how it was addressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum WaypointFor {
    /// Traffic addressed to Services.
    #[default]
    Service,
    /// Traffic addressed to pods.
    Workload,
    /// Both.
    All,
    /// Neither.
    None,
}

impl fmt::Display for WaypointKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.namespace, self.name)
    }
}
