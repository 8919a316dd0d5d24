//! Where does this request (or opaque connection) go, and may it? Asks the decisions, in order: route, the
//! candidates behind it, the policies of each candidate picked, and the hop to it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use decide::{
    forward,
    hop::{Bound, Candidate, Hop, candidates_at, hop, hop_to_candidate, hop_to_external},
    model::{Decider, ExternalService, Identity, PolicySet, Refusal, Service, WaypointKey, Workload, ports},
    pick::{Choice, pick},
    route::{Route, route},
    snapshot::Snapshot,
    verdict::{Client, Facts, Request, Verdict, dry_run, verdict},
};

use crate::{
    outside::Unresolved,
    reach::{Destination, Tunnel},
};

/// Everything that is known of who asks for what.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    /// What is, now.
    pub(crate) snapshot: &'a Snapshot,
    /// Our own pod.
    pub(crate) own: &'a Workload,
    /// Which waypoint we are.
    pub(crate) key: &'a WaypointKey,
    /// What the tunnel's stream was opened for.
    pub(crate) authority: SocketAddr,
    /// And what that is bound to.
    pub(crate) bound: &'a Bound,
    /// The client.
    pub(crate) client: &'a Identity,
    /// Its address.
    pub(crate) address: IpAddr,
    /// The request; `None` for opaque bytes.
    pub(crate) request: Option<Request<'a>>,
}

/// Where it goes, or what must be asked first.
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is made, once a request"
)]
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Choosing {
    /// There.
    Chosen(Chosen),
    /// To a host outside the mesh that is to be resolved.
    Unresolved(Unresolved),
}

/// Where it goes.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Chosen {
    /// How to get there.
    pub(crate) destination: Destination,
    /// The endpoint that was picked: its address and target port.
    pub(crate) endpoint: SocketAddr,
    /// The workload there, if a pod.
    pub(crate) workload: Option<Arc<Workload>>,
    /// Whether that is of the mesh: who is not is told nothing of who asks.
    pub(crate) inside: bool,
    /// What the policies said.
    pub(crate) judged: Judged,
    /// The route's rule, if one applied.
    pub(crate) route: Option<Decider>,
    /// The longest the request may take.
    pub(crate) timeout: Option<Duration>,
}

/// What the policies said of what they let through.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Judged {
    /// The rule that allowed it, if one was needed.
    pub(crate) allowed_by: Option<Decider>,
    /// The rule that would have refused it, were its policy no dry run.
    pub(crate) would_deny: Option<Decider>,
}

impl Asked<'_> {
    /// Where it goes: `routing` chooses among weighted backends, `choice` among endpoints.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn choose(&self, routing: u64, choice: &Choice<'_>) -> Result<Choosing, Refusal> {
        match self.bound {
            Bound::External(service, _) => self.toward_external(service, choice),
            Bound::Workload(workload, port) => self.toward_workload(workload, *port, choice).map(Choosing::Chosen),
            Bound::Service(service, port) => self
                .toward_routed(service, *port, routing, choice)
                .map(Choosing::Chosen),
        }
    }

    fn toward_routed(
        &self,
        service: &Arc<Service>,
        port: u16,
        routing: u64,
        choice: &Choice<'_>,
    ) -> Result<Chosen, Refusal> {
        let Some(request) = &self.request else {
            return self.toward_service(service, port, choice);
        };
        match route(service, port, Some(self.client.namespace()), request, routing) {
            Route::Unrouted => self.toward_service(service, port, choice),
            Route::Refused(refusal) => Err(refusal),
            Route::Rule { route, rule, backend } => {
                let by = Decider {
                    object: route.object.clone(),
                    field: format!("spec.rules[{rule}]").into(),
                };
                let gone = |what: String| Refusal::BrokenRoute(by.clone(), what.into());
                let rule = route
                    .rules
                    .get(rule)
                    .ok_or_else(|| gone("it has no such rule".into()))?;
                let backend = rule
                    .backends
                    .get(backend)
                    .ok_or_else(|| gone("it has no such backend".into()))?;
                let service = self
                    .snapshot
                    .services
                    .get(&backend.service)
                    .ok_or_else(|| gone(format!("Service {} does not exist", backend.service)))?;
                let chosen = self.toward_service(service, backend.port, choice)?;
                Ok(Chosen {
                    route: Some(by),
                    timeout: rule.request_timeout,
                    ..chosen
                })
            }
        }
    }

    /// Whether what was chosen for an opaque connection would still be allowed.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn recheck(&self, chosen: &Chosen) -> Result<(), Refusal> {
        let uid = chosen.workload.as_ref().map(|workload| &workload.uid);
        let candidate = Candidate {
            address: chosen.endpoint,
            workload: uid.and_then(|uid| self.snapshot.workloads.get(uid)).cloned(),
        };
        match self.bound {
            Bound::Service(service, _) => self.judge(service, &candidate).map(drop),
            Bound::Workload(workload, _) => self.judge_by(&workload.policies, chosen.endpoint).map(drop),
            Bound::External(service, _) => self.judge_by(&service.policies, self.authority).map(drop),
        }
    }

    /// To what an ExternalService leads to. It is judged by what was addressed: where that leads may change with
    /// every answer of a name server.
    fn toward_external(&self, service: &Arc<ExternalService>, choice: &Choice<'_>) -> Result<Choosing, Refusal> {
        let judged = self.judge_by(&service.policies, self.authority)?;
        let hop = hop_to_external(self.snapshot, self.own, service, self.authority, choice);
        if let Hop::Resolve { service, host, port } = hop {
            return Ok(Choosing::Unresolved(Unresolved {
                service,
                host,
                port,
                judged,
            }));
        }
        let chosen = outward(&hop, self.authority)?;
        Ok(Choosing::Chosen(Chosen { judged, ..chosen }))
    }

    fn toward_workload(&self, workload: &Arc<Workload>, port: u16, choice: &Choice<'_>) -> Result<Chosen, Refusal> {
        let to = SocketAddr::new(self.authority.ip().to_canonical(), port);
        let judged = self.judge_by(&workload.policies, to)?;
        let chosen = along(&hop(self.snapshot, self.own, to, choice), to)?;
        Ok(Chosen { judged, ..chosen })
    }

    fn toward_service(&self, service: &Arc<Service>, port: u16, choice: &Choice<'_>) -> Result<Chosen, Refusal> {
        if let (Some(other), Some(address)) = (&service.waypoint, service.addresses.first())
            && other != self.key
        {
            // Towards what is not bound to us we are a client like any other: it has its own waypoint.
            let to = SocketAddr::new(*address, port);
            let gate = Candidate {
                address: to,
                workload: None,
            };
            let judged = self.judge(service, &gate)?;
            let chosen = along(&hop(self.snapshot, self.own, to, choice), to)?;
            return Ok(Chosen { judged, ..chosen });
        }
        let mut left = candidates_at(self.snapshot, service, self.authority.ip(), port)?;
        let mut refused = None;
        while let Some(picked) = pick(&left, |candidate| candidate.address, choice).cloned() {
            let allowed = self.judge(service, &picked).and_then(|judged| {
                let hop = hop_to_candidate(self.snapshot, self.own, service, &picked, choice);
                Ok(Chosen {
                    judged,
                    workload: picked.workload.clone(),
                    ..along(&hop, picked.address)?
                })
            });
            match allowed {
                Ok(chosen) => return Ok(chosen),
                Err(refusal) => refused.get_or_insert(refusal),
            };
            left.retain(|candidate| candidate.address != picked.address);
        }
        Err(refused.unwrap_or_else(|| Refusal::NoEndpoint(service.key.clone())))
    }

    /// Judges one candidate of a Service by every set that counts.
    fn judge(&self, service: &Service, candidate: &Candidate) -> Result<Judged, Refusal> {
        let asked = forward::Asked {
            waypoint: self.key,
            authority: self.authority,
            bound: self.bound,
            client: self.client(),
            request: self.request,
        };
        forward::sets(&asked, Some(service), candidate).try_fold(Judged::default(), |judged, set| {
            let also = self.judge_by(set, candidate.address)?;
            Ok(Judged {
                allowed_by: judged.allowed_by.or(also.allowed_by),
                would_deny: judged.would_deny.or(also.would_deny),
            })
        })
    }

    fn client(&self) -> Client<'_> {
        Client::Known {
            peer: Some(self.client),
            address: self.address,
        }
    }

    fn judge_by(&self, set: &PolicySet, destination: SocketAddr) -> Result<Judged, Refusal> {
        let facts = Facts {
            client: self.client(),
            destination,
            request: self.request,
        };
        match verdict(set, &facts) {
            Verdict::Allow(allowed_by) => Ok(Judged {
                allowed_by,
                would_deny: dry_run(set, &facts),
            }),
            // Opaque bytes that a rule would have to read: nobody can say that it does not concern them.
            Verdict::Deny(by) | Verdict::NeedsWaypoint(by) => Err(Refusal::Denied(by)),
        }
    }
}

/// The hop of a connection to an ExternalService as a destination; the endpoint is where it leads.
pub(crate) fn outward(hop: &Hop, addressed: SocketAddr) -> Result<Chosen, Refusal> {
    let endpoint = match hop {
        Hop::External { to, .. } | Hop::Tunnel { to, .. } | Hop::Plain { to, .. } => *to,
        Hop::Waypoint { authority, .. } => *authority,
        Hop::Passthrough | Hop::Resolve { .. } | Hop::Hold(_) | Hop::Refuse(_) => addressed,
    };
    along(hop, endpoint)
}

/// The hop as a destination.
fn along(hop: &Hop, endpoint: SocketAddr) -> Result<Chosen, Refusal> {
    let (destination, workload) = match hop {
        Hop::Tunnel { to, workload, .. } => {
            let tunnel = Tunnel {
                dial: SocketAddr::new(to.ip(), ports::HBONE),
                expected: workload.identity.clone(),
                workload: workload.uid.clone(),
            };
            (direct(*to, Some(tunnel)), Some(workload.clone()))
        }
        Hop::Waypoint {
            waypoint,
            endpoint,
            authority,
            ..
        } => {
            let tunnel = Tunnel {
                dial: endpoint.address,
                expected: waypoint.identity.clone(),
                workload: endpoint.workload.clone(),
            };
            (direct(*authority, Some(tunnel)), None)
        }
        Hop::Plain { to, workload, .. } => (direct(*to, None), workload.clone()),
        Hop::Passthrough => (direct(endpoint, None), None),
        Hop::External { to, .. } => (direct(*to, None), None),
        Hop::Resolve { service, .. } => {
            let why = "it leads to a name that is not resolved".into();
            return Err(Refusal::NoExternalEndpoint(service.key.clone(), why));
        }
        Hop::Hold(refusal) | Hop::Refuse(refusal) => return Err(refusal.clone()),
    };
    Ok(Chosen {
        destination,
        endpoint,
        workload,
        inside: !matches!(hop, Hop::External { .. } | Hop::Passthrough),
        judged: Judged::default(),
        route: None,
        timeout: None,
    })
}

fn direct(address: SocketAddr, tunnel: Option<Tunnel>) -> Destination {
    Destination { address, tunnel }
}
