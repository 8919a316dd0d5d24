//! The way itself: the decisions in the order in which the proxies take them.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use super::{
    Explanation, Step, asked,
    waypoint::AtWaypoint,
    words::{full_name, listed, named, proxy_of},
};
use crate::{
    hop::{Carriage, Hop, Wire, candidates_at, carriage, hop, source_address},
    model::{Capture, Decider, Identity, Refusal, ServiceKey, Workload, ports},
    pick::Choice,
    snapshot::Snapshot,
    verdict::{admit, trial},
};

fn idle(_: IpAddr) -> u32 {
    0
}

/// The first candidate of all.
pub(super) const FIRST: Choice<'static> = Choice {
    random: 0,
    load: &idle,
    avoid: &[],
};

/// How the story ends: one sentence, for either.
pub(super) enum End {
    Arrives(String),
    Refused(String),
}

/// The story so far.
pub(super) struct Way<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) request: Option<&'a asked::Request>,
    steps: Vec<Step>,
    /// How many waypoints were passed.
    pub(super) waypoints: u32,
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
            let so = match pod.capture {
                Capture::Awaited => "not captured yet",
                _ => "not in the mesh",
            };
            let client = format!("pod {} ({so})", full_name(pod));
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
    pub(super) fn step(&mut self, at: &str, decision: &str, answer: String, by: Option<Decider>) {
        self.steps.push(Step {
            at: at.into(),
            decision: decision.into(),
            answer: answer.into(),
            by,
        });
    }

    /// A step that no object decided.
    pub(super) fn tell(&mut self, at: &str, decision: &str, answer: String) {
        self.step(at, decision, answer, None);
    }

    pub(super) fn refuse(&mut self, at: &str, decision: &str, refusal: &Refusal, how: &str) -> End {
        self.step(at, decision, refusal.to_string(), refusal.decider().cloned());
        End::Refused(format!("{refusal}; {at} {how}"))
    }

    /// The source judges nothing but what goes outside.
    fn refused(&mut self, at: &str, refusal: &Refusal) -> End {
        let decision = match refusal {
            Refusal::Denied(_) => "verdict",
            _ => "hop",
        };
        self.refuse(at, decision, refusal, "refuses the connection")
    }

    /// What the source does, and what comes of it.
    pub(super) fn follow(&mut self, source: &Arc<Workload>, asked_for: SocketAddr, next: Hop) -> End {
        let at = proxy_of(source);
        self.judged_outside(&at, source, asked_for, &next);
        match next {
            Hop::Hold(refusal) => self.refuse(
                &at,
                "hop",
                &refusal,
                "holds the connection for a while, then refuses it",
            ),
            Hop::Refuse(refusal) => self.refused(&at, &refusal),
            Hop::Passthrough => {
                self.tell(
                    &at,
                    "hop",
                    format!("{asked_for} is outside the mesh: passed through as addressed"),
                );
                End::Arrives(format!("{asked_for} is connected to as it is, outside the mesh"))
            }
            Hop::External { service, to } => self.outside(&at, &service, to),
            Hop::Resolve { service, host, port } => self.resolved(&at, &service, &host, port),
            Hop::Plain { to, workload, service } => {
                let there = named(to, workload.as_ref());
                let among = self.among(service.as_ref(), asked_for, to);
                self.tell(
                    &at,
                    "hop",
                    format!("plain TCP to {there}, which speaks no HBONE{among}"),
                );
                End::Arrives(format!(
                    "plain TCP reaches {there}, where nothing of the mesh judges it"
                ))
            }
            Hop::Tunnel { to, workload, service } => self.reach_pod(source, asked_for, to, &workload, service.as_ref()),
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
                self.tell(&at, "hop", sentence);
                self.tell(
                    &at,
                    "verify",
                    format!("the waypoint must prove to be {}", waypoint.identity),
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

    /// The Service behind which an endpoint was picked, and which others might have been.
    fn among(&self, service: Option<&ServiceKey>, asked_for: SocketAddr, to: SocketAddr) -> String {
        let Some(key) = service else { return String::new() };
        let addressed = self.snapshot.service_at(asked_for.ip()).filter(|it| it.key == *key);
        let found =
            addressed.and_then(|service| candidates_at(self.snapshot, service, asked_for.ip(), asked_for.port()).ok());
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

    /// To a pod that is captured, or serves HBONE itself.
    fn reach_pod(
        &mut self,
        source: &Workload,
        asked_for: SocketAddr,
        to: SocketAddr,
        workload: &Arc<Workload>,
        service: Option<&ServiceKey>,
    ) -> End {
        let how = match carriage(self.snapshot, source, workload) {
            Carriage::InMemory => "same node, in memory,",
            Carriage::Wire(_) => "HBONE",
        };
        let there = named(to, Some(workload));
        let among = self.among(service, asked_for, to);
        self.tell(&proxy_of(source), "hop", format!("{how} to {there}{among}"));
        self.arrive(source, to, workload)
    }

    /// At the destination of a tunnel.
    fn arrive(&mut self, source: &Workload, to: SocketAddr, workload: &Arc<Workload>) -> End {
        if to.port() == ports::PROOF {
            let there = named(to, Some(workload));
            return End::Arrives(format!(
                "the ztunnel of {there} answers by itself, and the pod hears of nothing"
            ));
        }
        let (at_source, there) = (proxy_of(source), named(to, Some(workload)));
        let how = carriage(self.snapshot, source, workload);
        if let Carriage::Wire(why @ (Wire::Configured | Wire::Unread | Wire::Fenced(_))) = &how {
            self.tell(&at_source, "same node", format!("over the wire: {why}"));
        }
        let at = proxy_of(workload);
        match &how {
            Carriage::InMemory => {
                let sentence = format!(
                    "holds valid leaves of both: {} and {}",
                    source.identity, workload.identity
                );
                self.tell(&at_source, "verify", sentence);
            }
            Carriage::Wire(_) => {
                let sentence = format!("{there} must prove to be {}", workload.identity);
                self.tell(&at_source, "verify", sentence);
                let sentence = format!("the client must prove to be {}", source.identity);
                self.tell(&at, "verify", sentence);
            }
        }
        if workload.capture == Capture::Native {
            self.tell(
                &at,
                "verdict",
                format!("{there} serves HBONE itself and judges by itself"),
            );
            return End::Arrives(format!("mutual TLS reaches {there} as {}", source.identity));
        }
        let address = source_address(source, to.ip());
        match self.admitted(&at, workload, Some(&source.identity), address, to) {
            Ok(()) if how == Carriage::InMemory => {
                End::Arrives(format!("{there} is reached inside the node as {}", source.identity))
            }
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
        if let Some(by) = trial(set, peer, client, to) {
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

    /// From a client outside the mesh: plain TCP, carried by the cluster's own network.
    fn plain(&mut self, client: &str, address: IpAddr, asked_for: SocketAddr) -> End {
        if !self.snapshot.complete {
            return self.refuse(client, "hop", &Refusal::NotConfigured, "is told nothing certain yet");
        }
        let network = "the cluster's network";
        let (to, workload) = match self.snapshot.service_at(asked_for.ip()) {
            None => (asked_for, self.snapshot.workload_at(asked_for.ip()).cloned()),
            Some(service) => match candidates_at(self.snapshot, service, asked_for.ip(), asked_for.port()) {
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
        self.tell(
            client,
            "hop",
            format!("no proxy on this side: plain TCP to {there}{among}"),
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
        if !workload.capture.is_enrolled() {
            self.tell(&at, "verdict", format!("nothing of the mesh stands before {there}"));
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
