//! Which endpoints of a Service may be connected to now?

use std::{net::SocketAddr, sync::Arc};

use super::is_ours;
use crate::{
    model::{Capture, Endpoint, Phase, Refusal, Service, Workload},
    pick::{Choice, draw, is_lighter, mixed, pick},
    snapshot::Snapshot,
};

/// An endpoint that may be connected to.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its address and the target port.
    pub address: SocketAddr,
    /// The workload there, if a pod.
    pub workload: Option<Arc<Workload>>,
}

/// What stands behind an endpoint.
enum Behind<'a> {
    Pod(&'a Arc<Workload>),
    /// No pod: an address outside the mesh.
    Elsewhere,
    /// A pod we have not been told of, or an address of the mesh that nothing explains.
    Unexplained,
    /// A pod that no longer owns the address: somebody else may answer there.
    Gone,
}

/// The endpoints of a Service that take connections to `port` now: ready (or all, if it publishes those that are
/// not), with a port behind it, and still who the Service says they are.
///
/// # Errors
/// [`Refusal::UnknownAddress`] when there is none, but one may be explained any moment;
/// [`Refusal::NoEndpoint`] when there is none.
pub fn candidates(snapshot: &Snapshot, service: &Service, port: u16) -> Result<Vec<Candidate>, Refusal> {
    let mut found = Vec::new();
    let mut unexplained = None;
    for endpoint in service.endpoints.iter() {
        match candidate(snapshot, service, endpoint, port) {
            Ok(candidate) => found.push(candidate),
            Err(Useless::Unexplained(address)) => drop(unexplained.get_or_insert(address)),
            Err(Useless::Now) => {}
        }
    }
    match (found.is_empty(), unexplained) {
        (false, _) => Ok(found),
        (true, Some(address)) => Err(Refusal::UnknownAddress(address)),
        (true, None) => Err(Refusal::NoEndpoint(service.key.clone())),
    }
}

/// One of [`candidates`], picked. Two draws do as a rule; only when one of them is of no use is every endpoint
/// looked at, so that a connection to a large Service costs no more than to a small one.
///
/// # Errors
/// As [`candidates`].
pub(super) fn pick_candidate(
    snapshot: &Snapshot,
    service: &Service,
    port: u16,
    choice: &Choice<'_>,
) -> Result<Candidate, Refusal> {
    let (first, second) = draw(service.endpoints.len(), choice.random);
    let drawn = |index: usize| {
        let drawn = candidate(snapshot, service, service.endpoints.get(index)?, port).ok()?;
        (!choice.avoid.contains(&drawn.address)).then_some(drawn)
    };
    let address = |candidate: &Candidate| candidate.address;
    if let Some((one, two)) = drawn(first).zip(drawn(second)) {
        return Ok(if is_lighter(&two, &one, address, choice) {
            two
        } else {
            one
        });
    }
    let all = candidates(snapshot, service, port)?;
    let random = mixed(choice.random);
    pick(&all, address, &Choice { random, ..*choice })
        .cloned()
        .ok_or_else(|| Refusal::NoEndpoint(service.key.clone()))
}

/// Why an endpoint is no candidate.
enum Useless {
    /// Not ready, without such a port, or gone.
    Now,
    /// It may be explained any moment.
    Unexplained(SocketAddr),
}

fn candidate(snapshot: &Snapshot, service: &Service, endpoint: &Endpoint, port: u16) -> Result<Candidate, Useless> {
    let usable = endpoint.ready || service.publish_not_ready;
    let target = endpoint.target_port(port).filter(|_| usable).ok_or(Useless::Now)?;
    let address = SocketAddr::new(endpoint.address.to_canonical(), target);
    let workload = match behind(snapshot, endpoint) {
        Behind::Pod(workload) => Some(workload.clone()),
        Behind::Elsewhere => None,
        Behind::Unexplained => return Err(Useless::Unexplained(address)),
        Behind::Gone => return Err(Useless::Now),
    };
    Ok(Candidate { address, workload })
}

fn behind<'a>(snapshot: &'a Snapshot, endpoint: &Endpoint) -> Behind<'a> {
    let address = endpoint.address.to_canonical();
    let owner = snapshot.workload_at(address);
    match &endpoint.workload {
        None => match owner {
            Some(owner) => Behind::Pod(owner),
            None if is_ours(snapshot, address) => Behind::Unexplained,
            None => Behind::Elsewhere,
        },
        Some(uid) => match snapshot.workload(uid) {
            None => Behind::Unexplained,
            Some(workload) if workload.phase == Phase::Finished => Behind::Gone,
            Some(workload) if workload.capture == Capture::HostNetwork => Behind::Pod(workload),
            Some(workload) if owner.is_some_and(|owner| owner.uid == workload.uid) => Behind::Pod(workload),
            Some(_) => Behind::Gone,
        },
    }
}
