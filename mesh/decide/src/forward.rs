//! What becomes of a request that a waypoint was asked for: which endpoints may serve it, judged by every policy
//! set that counts (design 25), and how the one picked of them is reached.

use std::{net::SocketAddr, sync::Arc};

use crate::{
    hop::{Bound, Candidate, Hop, candidates_at, hop, hop_to_candidate, hop_to_external, stands_before},
    model::{Decider, ExternalService, PolicySet, Refusal, Service, WaypointKey, Workload},
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
    /// The Service behind which the endpoints are, with its port; `None` when none was addressed.
    pub service: Option<(Arc<Service>, u16)>,
    /// The ExternalService that was addressed, if one was: its address is the one candidate.
    pub external: Option<Arc<ExternalService>>,
    /// Endpoints whose policy sets allow it; never empty.
    pub candidates: Vec<Candidate>,
    /// What allowed it, if a rule did.
    pub by: Option<Decider>,
}

/// The endpoints that may serve what was asked, after `route`: the Service's own where unrouted, else the chosen
/// backend's; of them those that [`judge`] allows.
///
/// # Errors
/// The route's refusal; what a set refuses, when it refuses for every endpoint, [`Refusal::WaypointRequired`]
/// where a set can only judge HTTP and this is none; no endpoint.
pub fn forward(snapshot: &Snapshot, asked: &Asked<'_>, route: &Route) -> Result<Onward, Refusal> {
    let mut external = None;
    let (service, mut found) = match asked.bound {
        Bound::Workload(workload, port) => {
            let candidate = Candidate {
                address: SocketAddr::new(asked.authority.ip().to_canonical(), *port),
                workload: Some(workload.clone()),
            };
            (None, vec![candidate])
        }
        Bound::External(service, port) => {
            external = Some(service.clone());
            let candidate = Candidate {
                address: SocketAddr::new(asked.authority.ip().to_canonical(), *port),
                workload: None,
            };
            (None, vec![candidate])
        }
        Bound::Service(service, port) => {
            let (service, port) = backend(snapshot, service, *port, route)?;
            let found = candidates_at(snapshot, &service, asked.authority.ip(), port)?;
            (Some((service, port)), found)
        }
    };
    let mut by = None;
    let mut refused = None;
    found.retain(|candidate| {
        let refusal = match judge(asked, service.as_ref().map(|(service, _)| &**service), candidate) {
            Verdict::Allow(rule) => {
                by = by.take().or(rule);
                return true;
            }
            Verdict::NeedsWaypoint(rule) if asked.request.is_none() => Refusal::WaypointRequired(rule),
            // With the request known nothing is left that could decide it: fail closed.
            Verdict::NeedsWaypoint(rule) | Verdict::Deny(rule) => Refusal::Denied(rule),
        };
        refused.get_or_insert(refusal);
        false
    });
    match refused.filter(|_| found.is_empty()) {
        Some(refusal) => Err(refusal),
        None => Ok(Onward {
            service,
            external,
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
        if let Some(external) = &self.external {
            return hop_to_external(snapshot, source, external, picked.address, choice);
        }
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

/// Whether a waypoint lets what was asked go on to one endpoint of `service` (`None`: the workload that was
/// addressed). What counts is the endpoint's own set, as far as this waypoint stands before it (it holds the
/// policies of its Services too); and the addressed Service's set, where the endpoint is none of its own.
pub fn judge(asked: &Asked<'_>, service: Option<&Service>, candidate: &Candidate) -> Verdict {
    let facts = Facts {
        client: asked.client,
        destination: candidate.address,
        request: asked.request,
    };
    let mut answer = Verdict::Allow(None);
    for set in sets(asked, service, candidate) {
        answer = match (answer, verdict(set, &facts)) {
            (Verdict::Allow(by), Verdict::Allow(rule)) => Verdict::Allow(by.or(rule)),
            (_, deny @ Verdict::Deny(_)) | (deny @ Verdict::Deny(_), _) => deny,
            (_, open @ Verdict::NeedsWaypoint(_)) | (open @ Verdict::NeedsWaypoint(_), _) => open,
        };
    }
    answer
}

/// The sets that [`judge`] judges by: each must allow.
pub fn sets<'a>(
    asked: &Asked<'a>,
    service: Option<&'a Service>,
    candidate: &'a Candidate,
) -> impl Iterator<Item = &'a PolicySet> {
    let own = own_set(asked, service, candidate);
    own.into_iter().chain(addressed_set(asked, service, candidate))
}

fn own_set<'a>(asked: &Asked<'a>, service: Option<&'a Service>, candidate: &'a Candidate) -> Option<&'a PolicySet> {
    let bound = service.is_some_and(|service| service.waypoint.as_ref() == Some(asked.waypoint));
    match &candidate.workload {
        Some(workload) => {
            let before = bound || stands_before(asked.waypoint, workload, candidate.address.port());
            before.then_some(&*workload.policies)
        }
        None => service.filter(|_| bound).map(|service| &*service.policies),
    }
}

fn addressed_set<'a>(
    asked: &Asked<'a>,
    service: Option<&'a Service>,
    candidate: &'a Candidate,
) -> Option<&'a PolicySet> {
    let (addressed, port) = match asked.bound {
        Bound::Service(addressed, port) => (addressed, port),
        // Nobody else judges what goes there.
        Bound::External(addressed, _) => return Some(&addressed.policies),
        Bound::Workload(..) => return None,
    };
    let (ip, target) = (candidate.address.ip(), candidate.address.port());
    // The ports matter: an endpoint's own set holds its Service's policies on that Service's target ports alone.
    let its_own = addressed
        .endpoints
        .iter()
        .any(|endpoint| endpoint.address.to_canonical() == ip && endpoint.target_port(*port) == Some(target));
    let judged_already = match &candidate.workload {
        Some(_) => its_own,
        None => service.is_some_and(|service| service.key == addressed.key),
    };
    (!judged_already).then_some(&*addressed.policies)
}

#[cfg(test)]
mod tests;
