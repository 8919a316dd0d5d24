//! Connections to what an ExternalService describes.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use super::{Hop, Way, addressable, is_ours};
use crate::{
    model::{
        Addressed, Decider, ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Refusal, Resolution,
        WaypointFor, Workload,
    },
    pick::{Choice, pick},
    snapshot::Snapshot,
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

impl Way<'_> {
    /// `None`: the ExternalService says nothing about such a connection.
    pub(super) fn to_external(&self, service: &Arc<ExternalService>, addressed: SocketAddr) -> Option<Hop> {
        if let Some(field) = &service.broken {
            let by = Decider {
                object: service.object(),
                field: field.clone(),
            };
            return Some(Hop::Refuse(Refusal::BrokenDestination(by)));
        }
        let Some(port) = service.port(addressed.port()) else {
            let refusal = Refusal::NoExternalPort(service.key.clone(), addressed.port());
            return (service.resolution != Resolution::None).then_some(Hop::Refuse(refusal));
        };
        if let Some(waypoint) = self.taken(service.waypoint.as_ref(), WaypointFor::Service) {
            return Some(self.through(waypoint, addressed, Some(Addressed::External(service.clone()))));
        }
        Some(match service.resolution {
            Resolution::None => self.to_outside(service, addressed),
            Resolution::Static | Resolution::Dns => self.to_endpoint(service, &port),
        })
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
            Hop::External {
                service: service.clone(),
                to,
            }
        }
    }
}
