//! What may a waypoint be asked for? Only what this snapshot binds to it.

use std::{net::SocketAddr, sync::Arc};

use super::{addressable, stands_before};
use crate::{
    model::{Refusal, Service, WaypointKey, Workload},
    snapshot::Snapshot,
};

/// What a waypoint was asked for, proven to be bound to it.
#[derive(Debug, Clone, PartialEq)]
pub enum Bound {
    /// A port of a Service bound to it.
    Service(Arc<Service>, u16),
    /// A port of a workload bound to it, or selected by a Service bound to it that targets this port.
    Workload(Arc<Workload>, u16),
}

/// What `authority` means to a waypoint.
///
/// # Errors
/// [`Refusal::NotBound`] for everything that is not bound to it, itself and loopback included;
/// [`Refusal::NotConfigured`] before the first lists are complete.
pub fn bound(snapshot: &Snapshot, waypoint: &WaypointKey, authority: SocketAddr) -> Result<Bound, Refusal> {
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
    let workload = snapshot.workload_at(asked.ip()).ok_or_else(not_bound)?;
    // No waypoint is asked for a waypoint's pod, its own above all: that would be a circle.
    if workload.serves.is_none() && stands_before(waypoint, workload, asked.port()) {
        Ok(Bound::Workload(workload.clone(), asked.port()))
    } else {
        Err(not_bound())
    }
}
