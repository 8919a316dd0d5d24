//! What may a waypoint be asked for? Only what this snapshot binds to it.

use std::{net::SocketAddr, sync::Arc};

use super::{addressable, is_ours, stands_before};
use crate::{
    model::{Addressed, ExternalService, Refusal, Service, WaypointKey, Workload},
    snapshot::Snapshot,
};

/// What a waypoint was asked for, proven to be bound to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A port of a Service bound to it.
    Service(Arc<Service>, u16),
    /// A port of a workload bound to it, or selected by a Service bound to it that targets this port.
    Workload(Arc<Workload>, u16),
    /// A port of an ExternalService bound to it.
    External(Arc<ExternalService>, u16),
}

impl Bound {
    /// What it is by name, for telemetry.
    pub fn addressed(&self) -> Option<Addressed> {
        match self {
            Self::Service(service, _) => Some(Addressed::Service(service.key.clone())),
            Self::External(service, _) => Some(Addressed::External(service.clone())),
            Self::Workload(..) => None,
        }
    }
}

/// What `authority` means to a waypoint, asked by a client of `namespace`: what is outside the mesh is whatever the
/// client's own namespace, or the mesh, says of it.
///
/// # Errors
/// [`Refusal::NotBound`] for everything that is not bound to it, itself and loopback included;
/// [`Refusal::NotConfigured`] before the first lists are complete.
pub fn bound(
    snapshot: &Snapshot,
    waypoint: &WaypointKey,
    namespace: &str,
    authority: SocketAddr,
) -> Result<Bound, Refusal> {
    if !snapshot.complete {
        return Err(Refusal::NotConfigured);
    }
    let not_bound = || Refusal::NotBound(authority);
    let asked = SocketAddr::new(authority.ip().to_canonical(), authority.port());
    addressable(asked).map_err(|_| not_bound())?;
    if let Some(service) = snapshot.service_at(asked.ip()) {
        let ours = service.waypoint.as_ref() == Some(waypoint);
        let has_port = service.ports.iter().any(|port| port.port == asked.port());
        return if ours && has_port {
            Ok(Bound::Service(service.clone(), asked.port()))
        } else {
            Err(not_bound())
        };
    }
    let Some(workload) = snapshot.workload_at(asked.ip()) else {
        return external(snapshot, waypoint, namespace, asked).ok_or_else(not_bound);
    };
    // No waypoint is asked for a waypoint's pod, its own above all: that would be a circle.
    if workload.serves.is_none() && stands_before(waypoint, workload, asked.port()) {
        Ok(Bound::Workload(workload.clone(), asked.port()))
    } else {
        Err(not_bound())
    }
}

fn external(snapshot: &Snapshot, waypoint: &WaypointKey, namespace: &str, asked: SocketAddr) -> Option<Bound> {
    if snapshot.external.is_empty() || is_ours(snapshot, asked.ip()) {
        return None;
    }
    let service = snapshot.external.at(&namespace.into(), asked.ip())?;
    let ours = service.waypoint.as_ref() == Some(waypoint) && service.port(asked.port()).is_some();
    ours.then(|| Bound::External(service.clone(), asked.port()))
}
