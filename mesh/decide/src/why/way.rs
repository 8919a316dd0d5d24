//! The way itself: the decisions in the order in which the proxies take them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Explanation, Step,
    asked::{self, full_name},
};
use crate::{
    forward::{Asked, Onward, forward},
    hop::{Bound, Candidate, Hop, bound, candidates, hop, source_address},
    model::{Backend, Capture, Decider, Identity, Refusal, SameNode, ServiceKey, Waypoint, Workload, ports},
    pick::Choice,
    route::{Route, attached, route},
    snapshot::Snapshot,
    verdict::{Client, Facts, admit, dry_run},
};

/// A request that leads from waypoint to waypoint more often than this goes in a circle.
const MOST_WAYPOINTS: u32 = 4;

fn idle(_: IpAddr) -> u32 {
    0
}

/// The first candidate of all.
const FIRST: Choice<'static> = Choice {
    random: 0,
    load: &idle,
    avoid: &[],
};

/// How the story ends: one sentence, for either.
enum End {
    Arrives(String),
    Refused(String),
}

/// Who is asked for what, at a waypoint.
struct AtWaypoint<'a> {
    waypoint: &'a Arc<Waypoint>,
    pod: &'a str,
    authority: SocketAddr,
    caller: &'a Workload,
}

/// The story so far.
struct Way<'a> {
    snapshot: &'a Snapshot,
    request: Option<&'a asked::Request>,
    steps: Vec<Step>,
    waypoints: u32,
}

/// Tells the whole way from a client to an address.
pub(super) fn explain(
    snapshot: &Snapshot,
    from: &asked::Client,
    to: SocketAddr,
    request: Option<&asked::Request>,
) -> Explanation {
    let mut way = Way {
        snapshot,
        request,
        steps: Vec::new(),
        waypoints: 0,
    };
    let end = match from {
        asked::Client::Pod(pod) if pod.capture.speaks_hbone() => {
            let first = hop(snapshot, pod, to, &FIRST);
            way.follow(pod, to, first)
        }
        asked::Client::Pod(pod) => {
            let client = format!("pod {} (not in the mesh)", full_name(pod));
            way.plain(&client, source_address(pod, to.ip()), to)
        }
        asked::Client::Address(address) => way.plain(&format!("{address} (not in the mesh)"), *address, to),
    };
    let (allowed, outcome) = match end {
        End::Arrives(outcome) => (true, outcome),
        End::Refused(outcome) => (false, outcome),
    };
    Explanation {
        steps: way.steps,
        allowed,
        outcome: outcome.into(),
    }
}

impl Way<'_> {
    fn step(&mut self, at: &str, decision: &str, answer: String, by: Option<Decider>) {
        self.steps.push(Step {
            at: at.into(),
            decision: decision.into(),
            answer: answer.into(),
            by,
        });
    }

    fn refuse(&mut self, at: &str, decision: &str, refusal: &Refusal, how: &str) -> End {
        self.step(at, decision, refusal.to_string(), refusal.decider().cloned());
        End::Refused(format!("{refusal}; {at} {how}"))
    }

    /// What the source does, and what comes of it.
    fn follow(&mut self, source: &Arc<Workload>, asked_for: SocketAddr, next: Hop) -> End {
        let at = proxy_of(source);
        match next {
            Hop::Hold(refusal) => self.refuse(
                &at,
                "hop",
                &refusal,
                "holds the connection for a while, then refuses it",
            ),
            Hop::Refuse(refusal) => self.refuse(&at, "hop", &refusal, "refuses the connection"),
            Hop::Passthrough => {
                self.step(
                    &at,
                    "hop",
                    format!("{asked_for} is outside the mesh: passed through as addressed"),
                    None,
                );
                End::Arrives(format!("{asked_for} is connected to as it is, outside the mesh"))
            }
            Hop::Plain { to, workload, service } => {
                let there = named(to, workload.as_ref());
                let among = self.among(service.as_ref(), asked_for, to);
                self.step(
                    &at,
                    "hop",
                    format!("plain TCP to {there}, which speaks no HBONE{among}"),
                    None,
                );
                End::Arrives(format!(
                    "plain TCP reaches {there}, where nothing of the mesh judges it"
                ))
            }
            Hop::Tunnel { to, workload, service } => {
                let there = named(to, Some(&workload));
                let among = self.among(service.as_ref(), asked_for, to);
                let how = self.carried(source, &workload);
                self.step(&at, "hop", format!("{how} to {there}{among}"), None);
                self.arrive(source, to, &workload)
            }
            Hop::Waypoint {
                waypoint,
                endpoint,
                authority,
                ..
            } => {
                let sentence = format!(
                    "through waypoint {} at {}, asked for {authority}",
                    waypoint.key, endpoint.address
                );
                self.step(&at, "hop", sentence, None);
                self.step(
                    &at,
                    "verify",
                    format!("the waypoint must prove to be {}", waypoint.identity),
                    None,
                );
                self.through(&AtWaypoint {
                    waypoint: &waypoint,
                    pod: &endpoint.workload,
                    authority,
                    caller: source,
                })
            }
        }
    }

    /// How two pods talk (design 13).
    fn carried(&self, source: &Workload, destination: &Workload) -> &'static str {
        let both_captured = source.capture == Capture::Captured && destination.capture == Capture::Captured;
        if both_captured && source.node == destination.node && self.snapshot.mesh.same_node == SameNode::Auto {
            "inside the node, in memory while both leaves are valid, else HBONE"
        } else {
            "HBONE"
        }
    }

    /// The Service behind which an endpoint was picked, and which others might have been.
    fn among(&self, service: Option<&ServiceKey>, asked_for: SocketAddr, to: SocketAddr) -> String {
        let Some(key) = service else { return String::new() };
        let addressed = self.snapshot.service_at(asked_for.ip()).filter(|it| it.key == *key);
        let found = addressed.and_then(|service| candidates(self.snapshot, service, asked_for.port()).ok());
        match found {
            Some(found) if found.len() > 1 => {
                format!(
                    ", one of {} endpoints of Service {key}: {}",
                    found.len(),
                    listed(&found, to)
                )
            }
            _ => format!(", of Service {key}"),
        }
    }

    /// At the destination of a tunnel.
    fn arrive(&mut self, source: &Workload, to: SocketAddr, workload: &Arc<Workload>) -> End {
        let (at_source, there) = (proxy_of(source), named(to, Some(workload)));
        self.step(
            &at_source,
            "verify",
            format!("{there} must prove to be {}", workload.identity),
            None,
        );
        let at = proxy_of(workload);
        self.step(
            &at,
            "verify",
            format!("the client must prove to be {}", source.identity),
            None,
        );
        if workload.capture == Capture::Native {
            self.step(
                &at,
                "verdict",
                format!("{there} serves HBONE itself and judges by itself"),
                None,
            );
            return End::Arrives(format!("mutual TLS reaches {there} as {}", source.identity));
        }
        let address = source_address(source, to.ip());
        match self.admitted(&at, workload, Some(&source.identity), address, to) {
            Ok(()) => End::Arrives(format!("mutual TLS reaches {there} as {}", source.identity)),
            Err(end) => end,
        }
    }

    /// What the destination's ztunnel decides.
    fn admitted(
        &mut self,
        at: &str,
        workload: &Workload,
        peer: Option<&Identity>,
        client: IpAddr,
        to: SocketAddr,
    ) -> Result<(), End> {
        let set = &workload.policies;
        let facts = Facts {
            client: Client::Known { peer, address: client },
            destination: to,
            request: None,
        };
        if let Some(by) = dry_run(set, &facts) {
            self.step(at, "dry run", format!("{by} would deny it, were it enforced"), Some(by));
        }
        match admit(set, peer, client, to) {
            Ok(by) => {
                let waypoint = set
                    .waypoints
                    .iter()
                    .find(|it| Some(&it.identity) == peer && it.covers(to.port()));
                let answer = match (&by, waypoint) {
                    (Some(by), _) => format!("allowed by {by}"),
                    (None, Some(waypoint)) => format!("allowed: waypoint {} has judged the client", waypoint.key),
                    (None, None) => format!("allowed: no policy restricts port {}", to.port()),
                };
                self.step(at, "verdict", answer, by);
                Ok(())
            }
            Err(refusal) => Err(self.refuse(at, "verdict", &refusal, "refuses the connection")),
        }
    }

    /// At a waypoint.
    fn through(&mut self, asked: &AtWaypoint<'_>) -> End {
        let at = format!("waypoint {}", asked.waypoint.key);
        self.waypoints += 1;
        if self.waypoints > MOST_WAYPOINTS {
            let sentence = format!("{at} was passed on the way already: the routes lead in a circle");
            self.step(&at, "hop", sentence.clone(), None);
            return End::Refused(sentence);
        }
        self.step(
            &at,
            "verify",
            format!("the client must prove to be {}", asked.caller.identity),
            None,
        );
        let bound = match bound(self.snapshot, &asked.waypoint.key, asked.authority) {
            Ok(bound) => bound,
            Err(refusal) => return self.refuse(&at, "bound", &refusal, "refuses before it dials"),
        };
        let what = match &bound {
            Bound::Service(service, port) => format!("Service {} port {port}", service.key),
            Bound::Workload(workload, port) => format!("pod {} port {port}", full_name(workload)),
        };
        self.step(
            &at,
            "bound",
            format!("{} is {what}, which is bound to this waypoint", asked.authority),
            None,
        );
        let route = match self.routed(&at, &bound, asked.caller) {
            Ok(route) => route,
            Err(end) => return end,
        };
        match self.judged(&at, asked, &bound, &route) {
            Ok(onward) => self.onward(&at, asked, &onward),
            Err(end) => end,
        }
    }

    fn routed(&mut self, at: &str, bound: &Bound, caller: &Workload) -> Result<Route, End> {
        let Bound::Service(service, port) = bound else {
            return Ok(Route::Unrouted);
        };
        let namespace = Some(caller.identity.namespace());
        let mut routes = attached(service, *port, namespace).peekable();
        let Some(request) = self.request else {
            return match routes.next() {
                None => Ok(Route::Unrouted),
                Some(first) => {
                    let by = Decider {
                        object: first.object.clone(),
                        field: "spec.rules".into(),
                    };
                    Err(self.depends(at, "route", by))
                }
            };
        };
        let found = route(service, *port, namespace, &request.head(), 0);
        match &found {
            Route::Unrouted => {
                self.step(
                    at,
                    "route",
                    format!("no HTTPRoute is attached to port {port}: to the Service itself"),
                    None,
                );
            }
            Route::Refused(refusal) => {
                let how = format!("answers {}", refusal.status());
                return Err(self.refuse(at, "route", refusal, &how));
            }
            Route::Rule { route, rule, backend } => {
                let backends = route.rules.get(*rule).map_or(&[][..], |rule| &rule.backends);
                let by = Decider {
                    object: route.object.clone(),
                    field: format!("spec.rules[{rule}]").into(),
                };
                self.step(at, "route", shares(backends, *backend), Some(by));
            }
        }
        Ok(found)
    }

    fn judged(&mut self, at: &str, asked: &AtWaypoint<'_>, bound: &Bound, route: &Route) -> Result<Onward, End> {
        let request = self.request;
        let question = Asked {
            waypoint: &asked.waypoint.key,
            authority: asked.authority,
            bound,
            client: Client::Known {
                peer: Some(&asked.caller.identity),
                address: source_address(asked.caller, asked.authority.ip()),
            },
            request: request.map(asked::Request::head),
        };
        match forward(self.snapshot, &question, route) {
            Ok(onward) => {
                let answer = match &onward.by {
                    Some(by) => format!("allowed by {by}"),
                    None => "allowed: no policy restricts this".into(),
                };
                self.step(at, "verdict", answer, onward.by.clone());
                Ok(onward)
            }
            Err(Refusal::WaypointRequired(by)) if request.is_none() => Err(self.depends(at, "verdict", by)),
            Err(refusal) => {
                let how = format!("answers {}", refusal.status());
                Err(self.refuse(at, "verdict", &refusal, &how))
            }
        }
    }

    fn onward(&mut self, at: &str, asked: &AtWaypoint<'_>, onward: &Onward) -> End {
        let Some(pod) = self.snapshot.workload(asked.pod) else {
            return self.refuse(
                at,
                "hop",
                &Refusal::WaypointUnavailable(asked.waypoint.key.clone()),
                "has no pod that is known",
            );
        };
        if let (Some((service, _)), Some(first)) = (&onward.service, onward.candidates.first()) {
            let ready = match onward.candidates.len() {
                1 => "the endpoint that may serve it".to_owned(),
                count => format!("one of {count} endpoints that may serve it"),
            };
            let sentence = format!(
                "{ready}, of Service {}: {}",
                service.key,
                listed(&onward.candidates, first.address)
            );
            self.step(at, "pick", sentence, None);
        }
        let next = onward.hop(self.snapshot, pod, &FIRST);
        let picked = onward.candidates.first().map_or(asked.authority, |first| first.address);
        self.follow(pod, picked, next)
    }

    fn depends(&mut self, at: &str, decision: &str, by: Decider) -> End {
        self.step(
            at,
            decision,
            format!("depends on the request: {by} needs HTTP to decide"),
            Some(by),
        );
        End::Refused("depends on the request: give METHOD PATH".into())
    }

    /// From a client outside the mesh: plain TCP, carried by the cluster's own network.
    fn plain(&mut self, client: &str, address: IpAddr, asked_for: SocketAddr) -> End {
        if !self.snapshot.complete {
            return self.refuse(client, "hop", &Refusal::NotConfigured, "is told nothing certain yet");
        }
        let network = "the cluster's network";
        let (to, workload) = match self.snapshot.service_at(asked_for.ip()) {
            None => (asked_for, self.snapshot.workload_at(asked_for.ip()).cloned()),
            Some(service) => match candidates(self.snapshot, service, asked_for.port()) {
                Ok(found) => match found.into_iter().next() {
                    Some(first) => (first.address, first.workload),
                    None => return End::Refused(Refusal::NoEndpoint(service.key.clone()).to_string()),
                },
                Err(refusal) => return self.refuse(network, "hop", &refusal, "reaches nothing"),
            },
        };
        let there = named(to, workload.as_ref());
        let service = self.snapshot.service_at(asked_for.ip()).map(|service| &service.key);
        let among = self.among(service, asked_for, to);
        self.step(
            client,
            "hop",
            format!("no proxy on this side: plain TCP to {there}{among}"),
            None,
        );
        let Some(workload) = workload else {
            return End::Arrives(format!("plain TCP goes to {there}, which is nothing of the mesh"));
        };
        let at = proxy_of(&workload);
        if workload.capture.speaks_hbone() && ports::is_ours(to.port()) {
            return self.refuse(
                &at,
                "verdict",
                &Refusal::ReservedPort(to.port()),
                "takes nothing there without a verified identity",
            );
        }
        if workload.capture != Capture::Captured {
            self.step(
                &at,
                "verdict",
                format!("nothing of the mesh stands before {there}"),
                None,
            );
            return End::Arrives(format!(
                "plain TCP reaches {there}, where nothing of the mesh judges it"
            ));
        }
        match self.admitted(&at, &workload, None, address, to) {
            Ok(()) => End::Arrives(format!("plain TCP reaches {there}, from nobody known")),
            Err(end) => end,
        }
    }
}

/// Which part of the mesh speaks for a workload.
fn proxy_of(workload: &Workload) -> String {
    match (&workload.serves, workload.capture) {
        (Some(waypoint), _) => format!("waypoint {waypoint}"),
        (None, Capture::Captured) => format!("ztunnel on {}", workload.node),
        (None, _) => format!("pod {}/{}", workload.namespace, workload.name),
    }
}

fn named(address: SocketAddr, workload: Option<&Arc<Workload>>) -> String {
    match workload {
        Some(workload) => format!("pod {} at {address}", full_name(workload)),
        None => address.to_string(),
    }
}

/// Every candidate, the one that is followed first.
fn listed(candidates: &[Candidate], first: SocketAddr) -> String {
    let mut ordered: Vec<&Candidate> = candidates.iter().collect();
    ordered.sort_by_key(|candidate| candidate.address != first);
    let names: Vec<_> = ordered
        .iter()
        .map(|it| named(it.address, it.workload.as_ref()))
        .collect();
    names.join(", ")
}

/// `90 of 100 to demo/web-v1:80, 10 of 100 to demo/web-v2:80; this one to demo/web-v1:80`
fn shares(backends: &[Backend], chosen: usize) -> String {
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
