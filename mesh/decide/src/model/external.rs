//! Destinations outside the mesh that somebody described: `ExternalService`.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use serde::Serialize;

use super::{ObjectRef, PolicySet, ServiceKey, WaypointKey};

/// Kind of the object.
pub const EXTERNAL_SERVICE: &str = "ExternalService";

/// A destination outside the mesh.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExternalService {
    /// Namespace and name of the object.
    pub key: ServiceKey,
    /// Names by which pods know it, in lower case; `*.` before one stands for every name below it.
    pub hosts: Vec<Arc<str>>,
    /// What its connections are recognised by; a single address is a network of its own.
    pub networks: Vec<IpNet>,
    /// Its ports; empty: every port.
    pub ports: Vec<ExternalPort>,
    /// Where its connections go.
    pub resolution: Resolution,
    /// Where it is; empty where its connections go to the address they were made to.
    pub endpoints: Arc<[ExternalEndpoint]>,
    /// Whose connections it is for.
    pub visibility: Visibility,
    /// The waypoint its connections take, if any.
    pub waypoint: Option<WaypointKey>,
    /// What judges its connections and requests: policies that target it, or its waypoint. The waypoint judges; where
    /// there is none, the source's ztunnel.
    pub policies: Arc<PolicySet>,
    /// The field that cannot be read, if one cannot: its connections are refused, for nobody knows what was meant.
    pub broken: Option<Arc<str>>,
}

/// One port of an [`ExternalService`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalPort {
    /// The port pods address.
    pub number: u16,
    /// Its name; empty when unnamed.
    pub name: Arc<str>,
    /// What is spoken over it, in lower case, if the object tells.
    pub app_protocol: Option<Arc<str>>,
    /// The port of the endpoints, where they have none of their own.
    pub target: u16,
}

/// One place where an [`ExternalService`] is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExternalEndpoint {
    /// An address, or a name to resolve.
    pub host: ExternalHost,
    /// Pairs of a port of the service and the port of this endpoint behind it; for others, that port's own target.
    pub ports: Box<[(u16, u16)]>,
    /// Its zone, if told.
    pub zone: Option<Arc<str>>,
}

/// An address, or a name that resolves to some.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum ExternalHost {
    /// An address.
    Address(IpAddr),
    /// A name, in lower case, without a dot at its end.
    Name(Arc<str>),
}

/// Where connections to an [`ExternalService`] go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Resolution {
    /// To the address they were made to.
    None,
    /// To one of the endpoints.
    Static,
    /// To what the names of the endpoints resolve to.
    Dns,
}

/// Whose connections an [`ExternalService`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Visibility {
    /// Those of its own namespace's pods.
    Namespace,
    /// Everybody's.
    Mesh,
}

impl ExternalService {
    /// The object.
    pub fn object(&self) -> ObjectRef {
        ObjectRef {
            kind: EXTERNAL_SERVICE.into(),
            namespace: self.key.namespace.clone(),
            name: self.key.name.clone(),
        }
    }

    /// The namespace whose pods it is for; `None`: everybody.
    pub fn scope(&self) -> Option<&Arc<str>> {
        match self.visibility {
            Visibility::Namespace => Some(&self.key.namespace),
            Visibility::Mesh => None,
        }
    }

    /// The host that telemetry calls it by: the first that stands for itself alone, else the first, else its own name.
    pub fn known_as(&self) -> &Arc<str> {
        let single = self.hosts.iter().find(|host| !host.starts_with('*'));
        single.or_else(|| self.hosts.first()).unwrap_or(&self.key.name)
    }

    /// What the mesh answers its hosts with: its single addresses, where connections do not go to the address they
    /// were made to. None: its hosts are for whoever else knows them to answer.
    pub fn answers(&self) -> impl Iterator<Item = IpAddr> {
        let virtual_ones = self.resolution != Resolution::None;
        let single = self.networks.iter().filter(move |it| virtual_ones && is_single(it));
        single.map(|network| network.addr())
    }

    /// Its port of this number; of one that takes every port, that port itself.
    pub fn port(&self, number: u16) -> Option<ExternalPort> {
        if self.ports.is_empty() {
            return Some(ExternalPort {
                number,
                name: "".into(),
                app_protocol: None,
                target: number,
            });
        }
        self.ports.iter().find(|port| port.number == number).cloned()
    }
}

impl ExternalEndpoint {
    /// The port of this endpoint behind a port of the service.
    pub fn target(&self, port: &ExternalPort) -> u16 {
        let own = self.ports.iter().find(|(number, _)| *number == port.number);
        own.map_or(port.target, |(_, target)| *target)
    }
}

fn is_single(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}
