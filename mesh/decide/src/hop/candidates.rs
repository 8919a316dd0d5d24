//! Which endpoints of a Service may be connected to now?

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    sync::Arc,
};

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

/// The endpoints of a Service that take connections to `port` now, near ones or far: ready (or all, if it publishes
/// those that are not), with a port behind it, and still who the Service says they are. Where there is none, those
/// on their way out that serve still.
///
/// # Errors
/// [`Refusal::UnknownAddress`] when there is none, but one may be explained any moment;
/// [`Refusal::NoEndpoint`] when there is none.
pub fn candidates(snapshot: &Snapshot, service: &Service, port: u16) -> Result<Vec<Candidate>, Refusal> {
    let looked = Look {
        snapshot,
        service,
        port,
    };
    let ready = looked.through(service.endpoints.iter(), Stage::Ready);
    if ready.is_ok() {
        return ready;
    }
    looked.through(service.endpoints.iter(), Stage::Leaving).or(ready)
}

/// Those of [`candidates`] that a connection to `addressed` goes to: of its family where the Service has such, as
/// kube-proxy has it. Who listens on IPv4 alone is not asked over IPv6, and a node without IPv6 is asked for none.
///
/// # Errors
/// As [`candidates`].
pub fn candidates_at(
    snapshot: &Snapshot,
    service: &Service,
    addressed: IpAddr,
    port: u16,
) -> Result<Vec<Candidate>, Refusal> {
    let mut found = candidates(snapshot, service, port)?;
    let v4 = addressed.to_canonical().is_ipv4();
    if service.endpoints.iter().any(|it| it.address.is_ipv4() == v4) {
        found.retain(|candidate| candidate.address.is_ipv4() == v4);
    }
    match found.is_empty() {
        true => Err(Refusal::NoEndpoint(service.key.clone())),
        false => Ok(found),
    }
}

/// One of [`candidates_at`], picked: of the nearest tier that has one which did not fail a moment ago. Two draws do as
/// a rule; only when one of them is of no use is every endpoint of the tier looked at, so that a connection to a
/// large Service costs no more than to a small one.
///
/// # Errors
/// As [`candidates`].
pub(super) fn pick_candidate(
    snapshot: &Snapshot,
    service: &Service,
    addressed: SocketAddr,
    source: &Workload,
    choice: &Choice<'_>,
) -> Result<Candidate, Refusal> {
    let look = Look {
        snapshot,
        service,
        port: addressed.port(),
    };
    let of_v4 = addressed.is_ipv4();
    let tiers = look.tiers(source);
    let mut failed = None;
    let mut refused = None;
    for stage in [Stage::Ready, Stage::Leaving] {
        if failed.is_some() {
            break;
        }
        for tier in tiers.iter().flatten() {
            match look.pick_in(&tier.of_family(service, of_v4), stage, choice) {
                Ok(picked) if !choice.avoid.contains(&picked.address) => return Ok(picked),
                Ok(picked) => drop(failed.get_or_insert(picked)),
                Err(refusal @ Refusal::UnknownAddress(_)) => drop(refused.get_or_insert(refusal)),
                Err(_) => {}
            }
        }
    }
    failed.ok_or_else(|| refused.unwrap_or_else(|| Refusal::NoEndpoint(service.key.clone())))
}

/// Why an endpoint is no candidate.
enum Useless {
    /// Not ready, without such a port, or gone.
    Now,
    /// It may be explained any moment.
    Unexplained(SocketAddr),
}

/// Endpoints for new connections, or, when there is none, those that serve to their end.
#[derive(Clone, Copy, PartialEq)]
enum Stage {
    Ready,
    Leaving,
}

/// Endpoints that are as near as one another, as indexes in order.
#[derive(Clone)]
enum Tier<'a> {
    Some(&'a [u32]),
    All(Range<usize>),
}

impl Tier<'_> {
    /// Those of one family, or nothing where the Service has others but none of it here; all where the Service has
    /// none of it at all. Endpoints of IPv4 come first.
    fn of_family(&self, service: &Service, of_v4: bool) -> Self {
        let endpoints = &service.endpoints;
        let first = endpoints.partition_point(|endpoint| endpoint.address.is_ipv4());
        let family = if of_v4 { 0..first } else { first..endpoints.len() };
        if family.is_empty() {
            return self.clone();
        }
        match self {
            Self::All(_) => Self::All(family),
            Self::Some(indexes) => {
                let (v4, v6) = indexes.split_at(indexes.partition_point(|index| (*index as usize) < first));
                Self::Some(if of_v4 { v4 } else { v6 })
            }
        }
    }
}

/// What stays the same while endpoints are looked at.
struct Look<'a> {
    snapshot: &'a Snapshot,
    service: &'a Service,
    port: u16,
}

impl<'a> Look<'a> {
    /// Nearest first.
    fn tiers(&self, source: &Workload) -> [Option<Tier<'a>>; 4] {
        let tiers = &self.service.tiers;
        if tiers.is_flat() {
            return [None, None, None, Some(self.all())];
        }
        let node = tiers.nodes.get(&source.node).map(|tier| Tier::Some(tier));
        if tiers.only_node {
            return [node, None, None, None];
        }
        let zone = self.snapshot.zone_of(source).and_then(|zone| tiers.zones.get(zone));
        let region = self.snapshot.region_of(source);
        let region = region.and_then(|region| tiers.regions.get(region));
        [
            node,
            zone.map(|tier| Tier::Some(tier)),
            region.map(|tier| Tier::Some(tier)),
            Some(self.all()),
        ]
    }

    fn all(&self) -> Tier<'a> {
        Tier::All(0..self.service.endpoints.len())
    }

    fn pick_in(&self, tier: &Tier<'_>, stage: Stage, choice: &Choice<'_>) -> Result<Candidate, Refusal> {
        let len = match tier {
            Tier::Some(indexes) => indexes.len(),
            Tier::All(range) => range.len(),
        };
        let endpoint = |at: usize| match tier {
            Tier::Some(indexes) => self.service.endpoints.get(*indexes.get(at)? as usize),
            Tier::All(range) => self.service.endpoints.get(range.start + at),
        };
        let (first, second) = draw(len, choice.random);
        let drawn = |at: usize| {
            let drawn = self.candidate(endpoint(at)?, stage).ok()?;
            (!choice.avoid.contains(&drawn.address)).then_some(drawn)
        };
        let address = |candidate: &Candidate| candidate.address;
        if let Some((one, two)) = drawn(first).zip(drawn(second)) {
            let two_wins = is_lighter(&two, &one, address, choice);
            return Ok(if two_wins { two } else { one });
        }
        let all = self.through((0..len).filter_map(endpoint), stage)?;
        let random = mixed(choice.random);
        pick(&all, address, &Choice { random, ..*choice })
            .cloned()
            .ok_or_else(|| Refusal::NoEndpoint(self.service.key.clone()))
    }

    fn through<'e>(
        &self,
        endpoints: impl Iterator<Item = &'e Endpoint>,
        stage: Stage,
    ) -> Result<Vec<Candidate>, Refusal> {
        let mut found = Vec::new();
        let mut unexplained = None;
        for endpoint in endpoints {
            match self.candidate(endpoint, stage) {
                Ok(candidate) => found.push(candidate),
                Err(Useless::Unexplained(address)) => drop(unexplained.get_or_insert(address)),
                Err(Useless::Now) => {}
            }
        }
        match (found.is_empty(), unexplained) {
            (false, _) => Ok(found),
            (true, Some(address)) => Err(Refusal::UnknownAddress(address)),
            (true, None) => Err(Refusal::NoEndpoint(self.service.key.clone())),
        }
    }

    fn candidate(&self, endpoint: &Endpoint, stage: Stage) -> Result<Candidate, Useless> {
        let usable = match stage {
            Stage::Ready => endpoint.ready || self.service.publish_not_ready,
            Stage::Leaving => endpoint.leaving,
        };
        let target = endpoint.target_port(self.port).filter(|_| usable).ok_or(Useless::Now)?;
        let address = SocketAddr::new(endpoint.address.to_canonical(), target);
        let workload = match behind(self.snapshot, endpoint) {
            Behind::Pod(workload) => Some(workload.clone()),
            Behind::Elsewhere => None,
            Behind::Unexplained => return Err(Useless::Unexplained(address)),
            Behind::Gone => return Err(Useless::Now),
        };
        Ok(Candidate { address, workload })
    }
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
