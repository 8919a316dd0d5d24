//! Connections to what an ExternalService describes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{Hop, Way, addressable, is_ours, source_address, taken};
use crate::{
    model::{
        Addressed, Decider, ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Refusal, Resolution,
        WaypointFor, Workload,
    },
    pick::{Choice, pick},
    snapshot::Snapshot,
    verdict::{admit, trial},
};

/// Where a connection to `addressed`, which `service` describes, goes on to from `source`: for its waypoint, which
/// knows already which ExternalService its client meant.
pub fn hop_to_external(
    snapshot: &Snapshot,
    source: &Workload,
    service: &Arc<ExternalService>,
    addressed: SocketAddr,
    choice: &Choice<'_>,
) -> Hop {
    let way = Way {
        snapshot,
        source,
        choice,
    };
    way.to_external(service, addressed)
        .unwrap_or_else(|| Hop::Refuse(Refusal::NoExternalPort(service.key.clone(), addressed.port())))
}

/// Where a connection of `source` goes once a name of `service` is resolved: one of `addresses`, of the families the
/// source itself has. An address of the mesh leads where it would lead had it been addressed: nothing reaches a pod
/// in plaintext, or around its waypoint, by another name.
pub fn hop_to_resolved(
    snapshot: &Snapshot,
    source: &Workload,
    service: &Arc<ExternalService>,
    addresses: &[SocketAddr],
    choice: &Choice<'_>,
) -> Hop {
    let speaks = |address: &&SocketAddr| source.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4());
    let of_use: Vec<SocketAddr> = addresses.iter().filter(speaks).copied().collect();
    let way = Way {
        snapshot,
        source,
        choice,
    };
    match pick(&of_use, |address| *address, choice) {
        Some(address) => way.to_outside(service, *address),
        None => {
            let why = "its name resolves to no address of a family this pod has".into();
            Hop::Refuse(Refusal::NoExternalEndpoint(service.key.clone(), why))
        }
    }
}

/// Whether what judges `service` lets `source` connect to `addressed` without a waypoint. It is judged by what was
/// addressed, as a waypoint would: where that leads may change with every answer of a name server. `Ok` holds what
/// allowed it, if a rule did.
///
/// # Errors
/// The refusal: [`Refusal::WaypointRequired`] where HTTP would have to tell.
pub fn admit_outside(
    service: &ExternalService,
    source: &Workload,
    addressed: SocketAddr,
) -> Result<Option<Decider>, Refusal> {
    let (client, addressed) = asked(source, addressed);
    admit(&service.policies, Some(&source.identity), client, addressed)
}

/// What [`admit_outside`] would refuse, were dry-run policies enforced, and does not refuse: by whom.
pub fn trial_outside(service: &ExternalService, source: &Workload, addressed: SocketAddr) -> Option<Decider> {
    let (client, addressed) = asked(source, addressed);
    trial(&service.policies, Some(&source.identity), client, addressed)
}

/// What judges a connection of `source` to `addressed` where it comes from, if `hop` is the way it takes: the
/// ExternalService that was addressed, unless its waypoint judges, and the one that describes where it is led outside;
/// each with what it is asked about.
pub fn judging_outside<'a>(
    snapshot: &'a Snapshot,
    source: &'a Workload,
    addressed: SocketAddr,
    hop: &'a Hop,
) -> impl Iterator<Item = (&'a Arc<ExternalService>, SocketAddr)> {
    let (leads, to) = match hop {
        Hop::External { service, to } => (Some(service), Some(*to)),
        Hop::Resolve { service, .. } => (Some(service), None),
        Hop::Plain { to, workload: None, .. } => (described(snapshot, source, addressed), Some(*to)),
        Hop::Plain { .. } | Hop::Tunnel { .. } | Hop::Waypoint { .. } => (described(snapshot, source, addressed), None),
        Hop::Passthrough | Hop::Hold(_) | Hop::Refuse(_) => (None, None),
    };
    let there = to.and_then(|to| Some((described(snapshot, source, to)?, to)));
    let there = there.filter(|(there, _)| leads.is_none_or(|leads| leads.key != there.key));
    let both = leads.map(|leads| (leads, addressed)).into_iter().chain(there);
    both.filter(|(service, _)| {
        let waypoint = service.waypoint.as_ref();
        taken(snapshot, source, waypoint, WaypointFor::Service).is_none() && !has_judged(source, service)
    })
}

/// The ExternalService that describes an address and port, if nothing of the mesh does.
fn described<'a>(snapshot: &'a Snapshot, source: &Workload, address: SocketAddr) -> Option<&'a Arc<ExternalService>> {
    let ip = address.ip().to_canonical();
    let service = snapshot.external.at(&source.namespace, ip)?;
    let ours = snapshot.service_at(ip).is_some() || snapshot.workload_at(ip).is_some() || is_ours(snapshot, ip);
    (!ours && service.port(address.port()).is_some()).then_some(service)
}

/// Whether the source is the waypoint that judges what goes to `service`.
fn has_judged(source: &Workload, service: &ExternalService) -> bool {
    source.serves.is_some() && source.serves == service.waypoint
}

fn asked(source: &Workload, addressed: SocketAddr) -> (IpAddr, SocketAddr) {
    let ip = addressed.ip().to_canonical();
    (source_address(source, ip), SocketAddr::new(ip, addressed.port()))
}

impl Way<'_> {
    /// `None`: the ExternalService says nothing about such a connection.
    pub(super) fn to_external(&self, service: &Arc<ExternalService>, addressed: SocketAddr) -> Option<Hop> {
        Some(match (self.passed(service, addressed)?, service.resolution) {
            (Err(elsewhere), _) => elsewhere,
            (Ok(_), Resolution::None) => self.to_outside(service, addressed),
            (Ok(port), Resolution::Static | Resolution::Dns) => self.to_endpoint(service, &port),
        })
    }

    /// What stands in the way of a connection that is led outside to `to`, by `service` or by a Service: what another
    /// ExternalService says of that address, so that nobody slips out of it by another name.
    pub(super) fn held_up(&self, service: Option<&Arc<ExternalService>>, to: SocketAddr) -> Option<Hop> {
        let there = self.snapshot.external.at(&self.source.namespace, to.ip())?;
        match service {
            Some(service) if service.key == there.key => None,
            _ => self.passed(there, to)?.err(),
        }
    }

    /// The port that a connection is for, once nothing holds it up: no waypoint that it must take, and no policy.
    /// `None`: the ExternalService says nothing about such a connection.
    fn passed(&self, service: &Arc<ExternalService>, addressed: SocketAddr) -> Option<Result<ExternalPort, Hop>> {
        if let Some(field) = &service.broken {
            let by = Decider {
                object: service.object(),
                field: field.clone(),
            };
            return Some(Err(Hop::Refuse(Refusal::BrokenDestination(by))));
        }
        let Some(port) = service.port(addressed.port()) else {
            let refusal = Refusal::NoExternalPort(service.key.clone(), addressed.port());
            return (service.resolution != Resolution::None).then_some(Err(Hop::Refuse(refusal)));
        };
        if let Some(waypoint) = self.taken(service.waypoint.as_ref(), WaypointFor::Service) {
            let through = self.through(waypoint, addressed, Some(Addressed::External(service.clone())));
            return Some(Err(through));
        }
        if has_judged(self.source, service) {
            return Some(Ok(port));
        }
        let admitted = admit_outside(service, self.source, addressed);
        Some(admitted.map(|_| port).map_err(Hop::Refuse))
    }

    /// To one of its endpoints: of the source's own zone first.
    fn to_endpoint(&self, service: &Arc<ExternalService>, port: &ExternalPort) -> Hop {
        // The address of a name is not known yet, so that all names are alike.
        let nowhere = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let address = |endpoint: &&ExternalEndpoint| match &endpoint.host {
            ExternalHost::Address(address) => SocketAddr::new(*address, endpoint.target(port)),
            ExternalHost::Name(_) => SocketAddr::new(nowhere, endpoint.target(port)),
        };
        let zone = self.snapshot.zone_of(self.source);
        let in_zone = |endpoint: &&ExternalEndpoint| zone.is_some() && endpoint.zone.as_ref() == zone;
        let all: Vec<&ExternalEndpoint> = service.endpoints.iter().collect();
        let near: Vec<&ExternalEndpoint> = all.iter().copied().filter(in_zone).collect();
        let fresh = pick(&near, address, self.choice).filter(|near| !self.choice.avoid.contains(&address(near)));
        let Some(picked) = fresh.or_else(|| pick(&all, address, self.choice)) else {
            return Hop::Refuse(Refusal::NoExternalEndpoint(service.key.clone(), "it has none".into()));
        };
        match &picked.host {
            ExternalHost::Address(_) => self.to_outside(service, address(picked)),
            ExternalHost::Name(name) => Hop::Resolve {
                service: service.clone(),
                host: name.clone(),
                port: picked.target(port),
            },
        }
    }

    /// To an address that an ExternalService leads to: outside the mesh, unless it is the mesh's own.
    fn to_outside(&self, service: &Arc<ExternalService>, to: SocketAddr) -> Hop {
        let to = SocketAddr::new(to.ip().to_canonical(), to.port());
        if let Err(refusal) = addressable(to) {
            return Hop::Refuse(refusal);
        }
        if let Some(known) = self.snapshot.service_at(to.ip()) {
            self.to_service(known, to)
        } else if let Some(workload) = self.snapshot.workload_at(to.ip()) {
            self.to_addressed_workload(workload, to)
        } else if is_ours(self.snapshot, to.ip()) {
            Hop::Hold(Refusal::UnknownAddress(to))
        } else {
            self.held_up(Some(service), to).unwrap_or_else(|| Hop::External {
                service: service.clone(),
                to,
            })
        }
    }
}
