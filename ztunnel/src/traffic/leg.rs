//! The next leg of an outbound connection, and going it.

use std::{net::SocketAddr, sync::Arc};

use act::{
    hbone::{Connect, Stream, Target, Traceparent, baggage},
    telemetry::{FlowLabels, Party, Reporter, Security},
};
use decide::{
    hop::{Carriage, Hop, carriage, judging_outside},
    model::{Addressed, Identity, Refusal, ServiceKey, Workload, ports},
    snapshot::Snapshot,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{
    Traffic,
    live::Asked,
    near::{Arrived, Wanted},
    proof,
};

/// The next leg, as `hop` decided it.
pub(super) struct Leg {
    /// What the choice of endpoints calls this one.
    pub(super) endpoint: SocketAddr,
    /// What is told of it.
    pub(super) labels: FlowLabels,
    /// What judges it here, if something outside was addressed.
    pub(super) judging: Box<[Asked]>,
    tunnel: Option<Through>,
}

/// What a tunnel is asked for, and of whom.
struct Through {
    /// Where HBONE is accepted.
    address: SocketAddr,
    expected: Identity,
    workload: Arc<str>,
    authority: SocketAddr,
    waypoint: bool,
    /// In memory, if it can be.
    near: bool,
    trace: Traceparent,
}

/// What leads to the destination.
pub(super) enum Way {
    /// A stream in a tunnel.
    Tunnel(Stream),
    /// A plain connection.
    Plain(TcpStream),
    /// A connection to the application of a pod of this node.
    Near(Box<Arrived>),
}

impl Leg {
    /// The leg that `hop` means; everything that is none goes straight to `addressed`.
    pub(super) fn new(
        snapshot: &Snapshot,
        source: &Arc<Workload>,
        hop: Hop,
        client: SocketAddr,
        addressed: SocketAddr,
    ) -> Self {
        let plain = |endpoint, workload, service| (endpoint, workload, service, None);
        let named = |service: Option<ServiceKey>| service.map(Addressed::Service);
        let judging = judging_outside(snapshot, source, addressed, &hop);
        let judging = judging.map(|(service, asked)| (service.key.clone(), asked)).collect();
        let (endpoint, workload, service, tunnel) = match hop {
            Hop::Tunnel { to, workload, service } => {
                let through = Through {
                    address: SocketAddr::new(to.ip(), ports::HBONE),
                    expected: workload.identity.clone(),
                    workload: workload.uid.clone(),
                    authority: to,
                    waypoint: false,
                    // A proof is asked of the wire.
                    near: !proof::is_meant(to) && carriage(snapshot, source, &workload) == Carriage::InMemory,
                    trace: new_trace(),
                };
                (to, Some(workload), named(service), Some(through))
            }
            Hop::Waypoint {
                waypoint,
                endpoint,
                authority,
                service,
            } => {
                let through = Through {
                    address: endpoint.address,
                    expected: waypoint.identity.clone(),
                    workload: endpoint.workload.clone(),
                    authority,
                    waypoint: true,
                    near: false,
                    trace: new_trace(),
                };
                let workload = snapshot.workload(&endpoint.workload).cloned();
                (endpoint.address, workload, service, Some(through))
            }
            Hop::Plain { to, workload, service } => plain(to, workload, named(service)),
            Hop::External { service, to } => plain(to, None, Some(Addressed::External(service))),
            Hop::Passthrough | Hop::Resolve { .. } | Hop::Hold(_) | Hop::Refuse(_) => plain(addressed, None, None),
        };
        let destination = Party {
            identity: tunnel.as_ref().map(|tunnel: &Through| tunnel.expected.clone()),
            workload,
            address: Some(endpoint),
        };
        let security = tunnel.as_ref().map_or(Security::None, |_| Security::MutualTls);
        Self {
            endpoint,
            labels: FlowLabels {
                destination,
                service,
                security,
                trace: tunnel.as_ref().map(|tunnel| tunnel.trace.trace()),
                ..departure(Some(source), client, addressed)
            },
            judging,
            tunnel,
        }
    }

    /// Whether it leads to a waypoint.
    pub(super) fn is_waypoint(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|through| through.waypoint)
    }

    /// Where a tunnel is dialled, if it takes one.
    pub(super) fn dialled(&self) -> Option<SocketAddr> {
        Some(self.tunnel.as_ref()?.address)
    }
}

impl Traffic {
    /// Goes the leg. What is to be reached by HBONE is never reached otherwise.
    ///
    /// # Errors
    /// Why it cannot be gone.
    pub(super) async fn follow(
        &self,
        leg: &mut Leg,
        source: &Workload,
        client: SocketAddr,
        since: Instant,
    ) -> Result<Way, Refusal> {
        let pod = self.pod();
        let Some(through) = &leg.tunnel else {
            let to = leg.endpoint;
            return match timeout(pod.options.connect, pod.dialer.connect(to)).await {
                Ok(Ok(server)) => Ok(Way::Plain(server)),
                Ok(Err(error)) => Err(Refusal::ConnectFailed(to, error.to_string().into())),
                Err(_) => Err(Refusal::DeadlineExceeded(
                    format!("connecting to {to} took longer than {:?}", pod.options.connect).into(),
                )),
            };
        };
        let leaf = self.leaf(&source.identity, since).await?;
        if through.near {
            let wanted = Wanted {
                workload: &through.workload,
                expected: &through.expected,
                to: through.authority,
                service: leg.labels.service.as_ref(),
                trace: leg.labels.trace,
            };
            if let Some(arrived) = self.hand_over(&leaf, source, client, &wanted).await {
                leg.labels.security = Security::SameNode;
                return arrived.map(|arrived| Way::Near(arrived.into()));
            }
        }
        let target = Target {
            source: pod.uid.clone(),
            source_address: client.ip(),
            leaf,
            dialer: pod.dialer.clone(),
            expected: through.expected.clone(),
            workload: through.workload.clone(),
            address: through.address,
        };
        let connect = Connect {
            authority: through.authority,
            client,
            host: leg.labels.service.as_ref().and_then(host),
            baggage: baggage(source),
            traceparent: Some(through.trace),
        };
        self.pool().open(&target, &connect).await.map(Way::Tunnel)
    }
}

/// What is told of a connection of which only its two ends are known.
pub(super) fn departure(source: Option<&Arc<Workload>>, client: SocketAddr, to: SocketAddr) -> FlowLabels {
    FlowLabels {
        source: Party {
            workload: source.cloned(),
            identity: source.map(|source| source.identity.clone()),
            address: Some(client),
        },
        destination: Party {
            address: Some(to),
            ..Party::default()
        },
        ..FlowLabels::new(Reporter::Source)
    }
}

/// A trace of its own for each connection: what its bytes say of traces is not read here.
fn new_trace() -> Traceparent {
    Traceparent::new(fastrand::u128(..), fastrand::u64(..))
}

/// What the other side is told was addressed; what is outside the mesh, a waypoint knows by its address.
fn host(addressed: &Addressed) -> Option<Arc<str>> {
    match addressed {
        Addressed::Service(service) => Some(format!("{}.{}.svc.cluster.local", service.name, service.namespace).into()),
        Addressed::External(_) => None,
    }
}
