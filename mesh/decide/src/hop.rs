//! Where does this connection go? The L4 decision at its source, and what a waypoint may be asked for.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    model::{Refusal, Service, ServiceKey, Waypoint, WaypointEndpoint, WaypointKey, Workload},
    pick::Choice,
    snapshot::Snapshot,
};

/// The next step of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Hop {
    /// Out of the mesh, as addressed.
    Passthrough,
    /// Plain TCP to a destination that speaks no HBONE.
    Plain {
        /// Where.
        to: SocketAddr,
        /// The workload there, if a pod.
        workload: Option<Arc<Workload>>,
        /// The Service that was addressed, if one was.
        service: Option<ServiceKey>,
    },
    /// HBONE to the pod itself: dial `to.ip():15008`, CONNECT to `to`, expect `workload.identity`.
    Tunnel {
        /// Pod address and target port: the CONNECT authority.
        to: SocketAddr,
        /// The workload there.
        workload: Arc<Workload>,
        /// The Service that was addressed, if one was.
        service: Option<ServiceKey>,
    },
    /// HBONE to a waypoint: dial `endpoint.address`, CONNECT to `authority`, expect `waypoint.identity`.
    Waypoint {
        /// Which.
        waypoint: Arc<Waypoint>,
        /// Its pod that was picked.
        endpoint: WaypointEndpoint,
        /// What was addressed: Service address and port, or pod address and port.
        authority: SocketAddr,
        /// The Service that was addressed, if one was.
        service: Option<ServiceKey>,
    },
    /// Not explained yet: ask again at the next change, within the hold time; then refuse with this.
    Hold(Refusal),
    /// No.
    Refuse(Refusal),
}

/// What a waypoint was asked for, proven to be bound to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A port of a Service bound to it.
    Service(Arc<Service>, u16),
    /// A port of a workload bound to it, or selected by a Service bound to it that targets this port.
    Workload(Arc<Workload>, u16),
}

/// Where a connection of `source` to `destination` goes.
pub fn hop(snapshot: &Snapshot, source: &Workload, destination: SocketAddr, choice: &Choice<'_>) -> Hop {
    let _ = (snapshot, source, destination, choice);
    todo!()
}

/// What `authority` means to a waypoint.
///
/// # Errors
/// [`Refusal::NotBound`] for everything that is not bound to it, itself and loopback included;
/// [`Refusal::NotConfigured`] before the first lists are complete.
pub fn bound(snapshot: &Snapshot, waypoint: &WaypointKey, authority: SocketAddr) -> Result<Bound, Refusal> {
    let _ = (snapshot, waypoint, authority);
    todo!()
}
