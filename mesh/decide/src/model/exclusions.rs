//! What a pod's outbound connections bypass the mesh for.

use ipnet::IpNet;
use serde::Serialize;

/// Destinations outside the mesh whose connections the pod makes past its ztunnel, in its packet filter alone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Exclusions {
    /// Networks, none inside another.
    pub networks: Vec<IpNet>,
    /// TCP ports.
    pub ports: Vec<u16>,
    /// The pod and Service ranges: what is addressed there never bypasses the mesh, whatever else is said. None inside
    /// another.
    pub kept: Vec<IpNet>,
}

impl Exclusions {
    /// Whether nothing is excluded.
    pub fn is_empty(&self) -> bool {
        self.networks.is_empty() && self.ports.is_empty()
    }
}
