//! How objects are named in the story.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    hop::Candidate,
    model::{Backend, Capture, Workload},
};

/// `namespace/name`, as every sentence here names a pod.
pub(super) fn full_name(pod: &Arc<Workload>) -> String {
    format!("{}/{}", pod.namespace, pod.name)
}

/// Which part of the mesh speaks for a workload.
pub(super) fn proxy_of(workload: &Workload) -> String {
    match (&workload.serves, workload.capture) {
        (Some(waypoint), _) => format!("waypoint {waypoint}"),
        (None, Capture::Captured | Capture::Awaited) => format!("ztunnel on {}", workload.node),
        (None, _) => format!("pod {}/{}", workload.namespace, workload.name),
    }
}

/// A pod and its address, or the address alone.
pub(super) fn named(address: SocketAddr, workload: Option<&Arc<Workload>>) -> String {
    match workload {
        Some(workload) => format!("pod {} at {address}", full_name(workload)),
        None => address.to_string(),
    }
}

/// Every candidate, the one that is followed first.
pub(super) fn listed(candidates: &[Candidate], first: SocketAddr) -> String {
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by_key(|candidate| candidate.address != first);
    let names: Vec<_> = ordered
        .iter()
        .map(|it| named(it.address, it.workload.as_ref()))
        .collect();
    names.join(", ")
}

/// `90 of 100 to demo/web-v1:80, 10 of 100 to demo/web-v2:80; followed here: demo/web-v1:80`
pub(super) fn shares(backends: &[Backend], chosen: usize) -> String {
    let to = |backend: &Backend| format!("{}:{}", backend.service, backend.port);
    let this = backends.get(chosen).map(&to).unwrap_or_default();
    if backends.len() < 2 {
        return format!("to {this}");
    }
    let total: u64 = backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let each: Vec<_> = backends
        .iter()
        .map(|backend| format!("{} of {total} to {}", backend.weight, to(backend)))
        .collect();
    format!("{}; followed here: {this}", each.join(", "))
}
