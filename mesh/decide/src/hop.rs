//! Where does this connection go? The L4 decision at its source, and what a waypoint may be asked for.

mod bound;
mod candidates;
mod carriage;
mod external;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use bound::{Bound, bound};
pub use candidates::{Candidate, candidates, candidates_at};
pub use carriage::{Carriage, Wire, carriage};
pub use external::{admit_outside, hop_to_external, hop_to_resolved, judging_outside, trial_outside};

use self::candidates::pick_candidate;
use crate::{
    model::{
        Addressed, BoundWaypoint, Capture, ExternalService, OutboundPolicy, Refusal, Service, ServiceKey, Waypoint,
        WaypointEndpoint, WaypointFor, WaypointKey, Workload, ports,
    },
    pick::{Choice, pick},
    snapshot::Snapshot,
    verdict::{Client, Facts, Verdict, admit, verdict},
};

/// The next step of a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum Hop {
    /// Out of the mesh, as addressed.
    Passthrough,
    /// Out of the mesh, to where an ExternalService leads.
    External {
        /// Which.
        service: Arc<ExternalService>,
        /// Where.
        to: SocketAddr,
    },
    /// Out of the mesh, to a name that is to be resolved first: then [`hop_to_resolved`] decides.
    Resolve {
        /// The ExternalService that was addressed.
        service: Arc<ExternalService>,
        /// Name to resolve.
        host: Arc<str>,
        /// Port to connect to.
        port: u16,
    },
    /// Plain TCP to a destination that speaks no HBONE.
    Plain {
        /// Where.
        to: SocketAddr,
        /// The workload there, if a pod.
        workload: Option<Arc<Workload>>,
        /// The Service that was addressed, if one was.
        service: Option<ServiceKey>,
    },
    /// HBONE to the pod itself: dial `to.ip():15008`, CONNECT to `to`, expect `workload.identity`.
    Tunnel {
        /// Pod address and target port: the CONNECT authority.
        to: SocketAddr,
        /// The workload there.
        workload: Arc<Workload>,
        /// The Service that was addressed, if one was.
        service: Option<ServiceKey>,
    },
    /// HBONE to a waypoint: dial `endpoint.address`, CONNECT to `authority`, expect `waypoint.identity`.
    Waypoint {
        /// Which.
        waypoint: Arc<Waypoint>,
        /// Its pod that was picked.
        endpoint: WaypointEndpoint,
        /// What was addressed: address and port of a Service, of a pod, or of something outside the mesh.
        authority: SocketAddr,
        /// What that is by name, if it has one.
        service: Option<Addressed>,
    },
    /// Not explained yet: ask again at the next change, within the hold time; then refuse with this.
    Hold(Refusal),
    /// No.
    Refuse(Refusal),
}

/// Where a connection of `source` to `destination` goes.
pub fn hop(snapshot: &Snapshot, source: &Workload, destination: SocketAddr, choice: &Choice<'_>) -> Hop {
    if !snapshot.complete {
        return Hop::Hold(Refusal::NotConfigured);
    }
    let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
    if destination.port() == ports::PROOF {
        return proof(snapshot, destination);
    }
    if let Err(refusal) = addressable(destination) {
        return Hop::Refuse(refusal);
    }
    let way = Way {
        snapshot,
        source,
        choice,
    };
    if let Some(service) = snapshot.service_at(destination.ip()) {
        way.to_service(service, destination)
    } else if let Some(workload) = snapshot.workload_at(destination.ip()) {
        way.to_addressed_workload(workload, destination)
    } else if is_ours(snapshot, destination.ip()) {
        Hop::Hold(Refusal::UnknownAddress(destination))
    } else {
        let external = snapshot.external.at(&source.namespace, destination.ip());
        external
            .and_then(|service| way.to_external(service, destination))
            .or_else(|| endpoint_outside(snapshot, destination))
            .unwrap_or_else(|| unknown(snapshot, destination))
    }
}

/// Towards an endpoint outside the mesh of a Service that is addressed by its endpoints.
fn endpoint_outside(snapshot: &Snapshot, to: SocketAddr) -> Option<Hop> {
    let service = snapshot.endpoints_outside.get(&to)?;
    Some(Hop::Plain {
        to,
        workload: None,
        service: Some(service.clone()),
    })
}

/// Towards what nobody described.
fn unknown(snapshot: &Snapshot, destination: SocketAddr) -> Hop {
    match snapshot.mesh.outbound {
        OutboundPolicy::AllowAny => Hop::Passthrough,
        OutboundPolicy::RegistryOnly => Hop::Refuse(Refusal::OutsideRegistry(destination)),
    }
}

/// Where a connection of `source` goes once `candidate` of a Service is picked: for who picks by themselves, as
/// a waypoint does.
pub fn hop_to_candidate(
    snapshot: &Snapshot,
    source: &Workload,
    service: &Service,
    candidate: &Candidate,
    choice: &Choice<'_>,
) -> Hop {
    let way = Way {
        snapshot,
        source,
        choice,
    };
    way.to_candidate(service, None, candidate)
}

/// The way of a proof: by HBONE to the pod itself, past waypoints and policies, since its ztunnel answers and no
/// application hears of it.
fn proof(snapshot: &Snapshot, to: SocketAddr) -> Hop {
    match snapshot.workload_at(to.ip()) {
        Some(workload) if workload.capture == Capture::Captured => Hop::Tunnel {
            to,
            workload: workload.clone(),
            service: None,
        },
        _ => Hop::Refuse(Refusal::ReservedPort(to.port())),
    }
}

/// Whether anything in the mesh may be addressed so at all.
fn addressable(address: SocketAddr) -> Result<(), Refusal> {
    let ip = address.ip();
    if ports::is_ours(address.port()) {
        Err(Refusal::ReservedPort(address.port()))
    } else if address.port() == 0 || !is_unicast(ip) || ip.is_loopback() {
        Err(Refusal::Malformed(
            format!("{address} is no address of another pod").into(),
        ))
    } else {
        Ok(())
    }
}

fn is_unicast(ip: IpAddr) -> bool {
    !ip.is_unspecified() && !ip.is_multicast() && !matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// Whether the address belongs to the mesh, so that some object must explain it.
fn is_ours(snapshot: &Snapshot, ip: IpAddr) -> bool {
    let mesh = &snapshot.mesh;
    mesh.pod_ranges
        .iter()
        .chain(&mesh.service_ranges)
        .any(|range| range.contains(&ip))
}

/// What stays the same on the way of one connection.
struct Way<'a> {
    snapshot: &'a Snapshot,
    source: &'a Workload,
    choice: &'a Choice<'a>,
}

impl Way<'_> {
    fn to_service(&self, service: &Arc<Service>, addressed: SocketAddr) -> Hop {
        let key = &service.key;
        if !service.ports.iter().any(|port| port.port == addressed.port()) {
            return Hop::Refuse(Refusal::NoSuchPort(key.clone(), addressed.port()));
        }
        if let Some(waypoint) = self.taken(service.waypoint.as_ref(), WaypointFor::Service) {
            return self.through(waypoint, addressed, Some(Addressed::Service(key.clone())));
        }
        match pick_candidate(self.snapshot, service, addressed, self.source, self.choice) {
            Ok(picked) => self.to_candidate(service, Some(addressed), &picked),
            Err(refusal @ Refusal::UnknownAddress(_)) => Hop::Hold(refusal),
            Err(refusal) => Hop::Refuse(refusal),
        }
    }

    fn to_candidate(&self, service: &Service, addressed: Option<SocketAddr>, candidate: &Candidate) -> Hop {
        let to = candidate.address;
        match (&candidate.workload, addressable(to)) {
            (_, Err(refusal)) => Hop::Refuse(refusal),
            (Some(workload), Ok(())) => self.to_workload(workload, to, Some(service), addressed),
            (None, Ok(())) => self.held_up(None, to).unwrap_or_else(|| Hop::Plain {
                to,
                workload: None,
                service: Some(service.key.clone()),
            }),
        }
    }

    fn to_addressed_workload(&self, workload: &Arc<Workload>, addressed: SocketAddr) -> Hop {
        match self.taken(workload.waypoint.as_ref(), WaypointFor::Workload) {
            Some(waypoint) if !self.stands_before(workload, addressed.port()) => {
                self.through(waypoint, addressed, None)
            }
            _ => self.to_workload(workload, addressed, None, None),
        }
    }

    /// To one pod, whose own destination must be able to judge the connection: else through a waypoint.
    fn to_workload(
        &self,
        workload: &Arc<Workload>,
        to: SocketAddr,
        service: Option<&Service>,
        addressed: Option<SocketAddr>,
    ) -> Hop {
        let service_key = service.map(|service| service.key.clone());
        if !self.stands_before(workload, to.port()) {
            let facts = Facts {
                client: Client::Known {
                    peer: Some(&self.source.identity),
                    address: source_address(self.source, to.ip()),
                },
                destination: to,
                request: None,
            };
            if let Verdict::NeedsWaypoint(by) = verdict(&workload.policies, &facts) {
                let before = || workload.policies.waypoints.iter().filter(|it| it.covers(to.port()));
                let Some(waypoint) = before().find(|it| self.is_ready(&it.key)).or_else(|| before().next()) else {
                    return Hop::Refuse(Refusal::WaypointRequired(by));
                };
                // The waypoint knows the Service's address only if the Service is bound to it too.
                let authority = addressed
                    .filter(|_| service.is_some_and(|service| service.waypoint.as_ref() == Some(&waypoint.key)))
                    .unwrap_or(to);
                return self.through(&waypoint.key, authority, service_key.map(Addressed::Service));
            }
        }
        if workload.capture.speaks_hbone() {
            return Hop::Tunnel {
                to,
                workload: workload.clone(),
                service: service_key,
            };
        }
        match self.awaits(workload, to) {
            Err(refusal) => Hop::Hold(refusal),
            Ok(()) => Hop::Plain {
                to,
                workload: Some(workload.clone()),
                service: service_key,
            },
        }
    }

    /// A pod that is not captured yet gets plain TCP only where its policies admit a client that proves nothing:
    /// else the connection waits for its capture, which judges it.
    fn awaits(&self, workload: &Workload, to: SocketAddr) -> Result<(), Refusal> {
        if workload.capture != Capture::Awaited {
            return Ok(());
        }
        admit(&workload.policies, None, source_address(self.source, to.ip()), to).map(drop)
    }

    fn taken<'k>(&self, key: Option<&'k WaypointKey>, addressed: WaypointFor) -> Option<&'k WaypointKey> {
        taken(self.snapshot, self.source, key, addressed)
    }

    fn through(&self, key: &WaypointKey, authority: SocketAddr, service: Option<Addressed>) -> Hop {
        let found = self.snapshot.waypoints.get(key).and_then(|waypoint| {
            let endpoint = pick(&waypoint.endpoints, |endpoint| endpoint.address, self.choice)?;
            Some((waypoint.clone(), endpoint.clone()))
        });
        match found {
            Some((waypoint, endpoint)) => Hop::Waypoint {
                waypoint,
                endpoint,
                authority,
                service,
            },
            None => Hop::Refuse(Refusal::WaypointUnavailable(key.clone())),
        }
    }

    /// Whether the source is itself a waypoint in front of this port: it has judged already.
    fn stands_before(&self, workload: &Workload, port: u16) -> bool {
        self.source
            .serves
            .as_ref()
            .is_some_and(|key| stands_before(key, workload, port))
    }

    fn is_ready(&self, key: &WaypointKey) -> bool {
        self.snapshot
            .waypoints
            .get(key)
            .is_some_and(|waypoint| !waypoint.endpoints.is_empty())
    }
}

/// The waypoint that traffic of `source` addressed this way takes; none when the source serves it itself.
fn taken<'k>(
    snapshot: &Snapshot,
    source: &Workload,
    key: Option<&'k WaypointKey>,
    addressed: WaypointFor,
) -> Option<&'k WaypointKey> {
    let key = key.filter(|key| source.serves.as_ref() != Some(key))?;
    match snapshot.waypoints.get(key) {
        // Bound to a waypoint nobody knows: what it takes is unknown too, so nothing goes around it.
        None => Some(key),
        Some(waypoint) => (waypoint.takes == WaypointFor::All || waypoint.takes == addressed).then_some(key),
    }
}

/// Whether a waypoint stands before this port of a workload: bound to it, or to a Service that selects it.
pub fn stands_before(waypoint: &WaypointKey, workload: &Workload, port: u16) -> bool {
    let covers = |bound: &BoundWaypoint| bound.key == *waypoint && bound.covers(port);
    workload.waypoint.as_ref() == Some(waypoint) || workload.policies.waypoints.iter().any(covers)
}

/// The source's address in the destination's family, as the destination will see it.
pub(crate) fn source_address(source: &Workload, destination: IpAddr) -> IpAddr {
    let same_family = |ip: &&IpAddr| ip.is_ipv4() == destination.is_ipv4();
    let unspecified = if destination.is_ipv4() {
        IpAddr::from([0u8; 4])
    } else {
        IpAddr::from([0u8; 16])
    };
    source
        .addresses
        .iter()
        .find(same_family)
        .copied()
        .unwrap_or(unspecified)
}

#[cfg(test)]
mod tests;
