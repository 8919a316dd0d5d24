//! What becomes of a request that a waypoint was asked for: which endpoints may serve it, judged by every policy
//! set that counts (design 25), and how the one picked of them is reached.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    hop::{Bound, Candidate, Hop, candidates, hop, hop_to_candidate, stands_before},
    model::{Decider, PolicySet, Refusal, Service, WaypointKey, Workload},
    pick::{Choice, pick},
    route::Route,
    snapshot::Snapshot,
    verdict::{Client, Facts, Request, Verdict, verdict},
};

/// One connection or request at a waypoint.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The waypoint.
    pub waypoint: &'a WaypointKey,
    /// The authority it was asked for.
    pub authority: SocketAddr,
    /// What [`bound`](crate::hop::bound) says of it.
    pub bound: &'a Bound,
    /// Who asks.
    pub client: Client<'a>,
    /// The request, if it is HTTP.
    pub request: Option<Request<'a>>,
}

/// Where a request may go on to.
#[derive(Debug, Clone, PartialEq)]
pub struct Onward {
    /// The Service behind which the endpoints are, with its port; `None` when a workload was addressed.
    pub service: Option<(Arc<Service>, u16)>,
    /// Endpoints whose policy sets allow it; never empty.
    pub candidates: Vec<Candidate>,
    /// What allowed it, if a rule did.
    pub by: Option<Decider>,
}

/// The endpoints that may serve what was asked, after `route`: the Service's own where unrouted, else the chosen
/// backend's. An endpoint is a candidate only if the addressed Service's set, the backend's set and the endpoint's
/// own set allow it, the last two as far as this waypoint stands before them.
///
/// # Errors
/// The route's refusal; what a set refuses, when it refuses for every endpoint, [`Refusal::WaypointRequired`]
/// where a set can only judge HTTP and this is none; no endpoint.
pub fn forward(snapshot: &Snapshot, asked: &Asked<'_>, route: &Route) -> Result<Onward, Refusal> {
    let (service, mut found) = match asked.bound {
        Bound::Workload(workload, port) => {
            let candidate = Candidate {
                address: SocketAddr::new(asked.authority.ip().to_canonical(), *port),
                workload: Some(workload.clone()),
            };
            (None, vec![candidate])
        }
        Bound::Service(service, port) => {
            let (service, port) = backend(snapshot, service, *port, route)?;
            let found = candidates(snapshot, &service, port)?;
            (Some((service, port)), found)
        }
    };
    let mut by = None;
    let mut refused = None;
    found.retain(|candidate| {
        let sets = counting(asked, service.as_ref().map(|(service, _)| service), candidate);
        match judge(sets, asked, candidate.address) {
            Ok(rule) => {
                by = by.take().or(rule);
                true
            }
            Err(refusal) => {
                refused.get_or_insert(refusal);
                false
            }
        }
    });
    match refused.filter(|_| found.is_empty()) {
        Some(refusal) => Err(refusal),
        None => Ok(Onward {
            service,
            candidates: found,
            by,
        }),
    }
}

impl Onward {
    /// How one of the candidates is reached from the waypoint's own pod. A backend bound to another waypoint is
    /// reached through that, as by any client (design 25).
    pub fn hop(&self, snapshot: &Snapshot, source: &Workload, choice: &Choice<'_>) -> Hop {
        let Some(picked) = pick(&self.candidates, |candidate| candidate.address, choice) else {
            let refusal = self.service.as_ref().map_or(Refusal::NotConfigured, |(service, _)| {
                Refusal::NoEndpoint(service.key.clone())
            });
            return Hop::Refuse(refusal);
        };
        match &self.service {
            None => hop(snapshot, source, picked.address, choice),
            Some((service, port)) => {
                let another = service.waypoint.is_some() && service.waypoint != source.serves;
                match service.addresses.first().filter(|_| another) {
                    Some(address) => hop(snapshot, source, SocketAddr::new(*address, *port), choice),
                    None => hop_to_candidate(snapshot, source, service, picked, choice),
                }
            }
        }
    }
}

/// The Service and port that a route leads to.
fn backend(
    snapshot: &Snapshot,
    service: &Arc<Service>,
    port: u16,
    route: &Route,
) -> Result<(Arc<Service>, u16), Refusal> {
    let chosen = match route {
        Route::Unrouted => return Ok((service.clone(), port)),
        Route::Refused(refusal) => return Err(refusal.clone()),
        Route::Rule { route, rule, backend } => route.rules.get(*rule).and_then(|rule| rule.backends.get(*backend)),
    };
    let chosen = chosen.ok_or_else(|| Refusal::NoRoute(service.key.clone()))?;
    let service = snapshot
        .services
        .get(&chosen.service)
        .ok_or_else(|| Refusal::NoEndpoint(chosen.service.clone()))?;
    if service.ports.iter().any(|it| it.port == chosen.port) {
        Ok((service.clone(), chosen.port))
    } else {
        Err(Refusal::NoSuchPort(service.key.clone(), chosen.port))
    }
}

/// The policy sets that this waypoint must judge by.
fn counting<'a>(
    asked: &Asked<'a>,
    backend: Option<&'a Arc<Service>>,
    candidate: &'a Candidate,
) -> impl Iterator<Item = &'a PolicySet> {
    let addressed = match asked.bound {
        Bound::Service(service, _) => Some(service),
        Bound::Workload(..) => None,
    };
    let backend = backend.filter(|backend| {
        backend.waypoint.as_ref() == Some(asked.waypoint) && addressed.is_none_or(|it| it.key != backend.key)
    });
    let port = candidate.address.port();
    let workload = candidate.workload.as_ref();
    let workload = workload.filter(|workload| stands_before(asked.waypoint, workload, port));
    let services = addressed.into_iter().chain(backend).map(|service| &*service.policies);
    services.chain(workload.map(|workload| &*workload.policies))
}

/// Allowed only if every set allows; what allowed it is the first rule that was needed.
fn judge<'a>(
    sets: impl Iterator<Item = &'a PolicySet>,
    asked: &Asked<'_>,
    destination: SocketAddr,
) -> Result<Option<Decider>, Refusal> {
    let facts = Facts {
        client: asked.client,
        destination,
        request: asked.request,
    };
    let mut by = None;
    for set in sets {
        match verdict(set, &facts) {
            Verdict::Allow(rule) => by = by.or(rule),
            Verdict::Deny(rule) => return Err(Refusal::Denied(rule)),
            // With the request known nothing is left that could decide it: fail closed.
            Verdict::NeedsWaypoint(rule) if asked.request.is_some() => return Err(Refusal::Denied(rule)),
            Verdict::NeedsWaypoint(rule) => return Err(Refusal::WaypointRequired(rule)),
        }
    }
    Ok(by)
}

#[cfg(test)]
mod tests;
