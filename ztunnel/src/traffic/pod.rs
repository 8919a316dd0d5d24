//! A pod's share in one worker.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use act::{
    certs::Certificates,
    config::Reader,
    hbone::{Budget, Patience, Pool, PoolOptions, TunnelOptions},
    net::{Dialer, reset},
    telemetry::{Connection, FlowLabels},
};
use decide::model::{Refusal, ports};
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{
    LiveConnection, TrafficOptions,
    bounds::CONNECTIONS,
    failures::Failures,
    handshakes::Handshakes,
    live::{Live, rejudge},
    loads::Loads,
    near::Neighbours,
};

/// Tells where the client of an accepted socket meant to go: [`act::net::original_destination`].
pub type Origin = Arc<dyn Fn(&TcpStream) -> io::Result<SocketAddr> + Send + Sync>;

/// What a captured pod's connections need.
#[derive(Clone)]
pub struct Pod {
    /// Its UID.
    pub uid: Arc<str>,
    /// What should be.
    pub reader: Reader,
    /// Who we are. Somebody else holds the pod's identity for as long as the pod is here.
    pub certificates: Certificates,
    /// Makes sockets in its network namespace.
    pub dialer: Dialer,
    /// Where redirected connections meant to go.
    pub origin: Origin,
    /// The other pods of this node, on this worker.
    pub neighbours: Neighbours,
    /// What its connections may hold, on all workers.
    pub budget: Budget,
    /// Connections whose peers have not proven who they are, on all workers.
    pub handshakes: Handshakes,
    /// Bounds and timers.
    pub options: Arc<TrafficOptions>,
}

/// The connections of one captured pod on one worker. Cheap to clone; every running connection holds a clone.
#[derive(Clone)]
pub struct Traffic {
    shared: Arc<Shared>,
}

struct Shared {
    pod: Pod,
    pool: Pool,
    live: Live,
    loads: Loads,
    failures: Failures,
    holding: Semaphore,
    places: Arc<Semaphore>,
    patience: Patience,
    tunnel: TunnelOptions,
    draining: CancellationToken,
    rejudging: AbortHandle,
    sweeping: AbortHandle,
}

/// How long after a change tunnels towards pods that are gone are taken out: many changes are one sweep.
const SWEEP: Duration = Duration::from_secs(1);

impl Traffic {
    /// A pod without connections yet. Call it on the worker: its runtime judges again what lives when the
    /// configuration changes.
    pub fn new(pod: Pod) -> Self {
        let live = Live::default();
        let rejudging = tokio::spawn(rejudge(pod.reader.clone(), pod.uid.clone(), live.clone()));
        let options = &pod.options;
        let tunnel = TunnelOptions {
            budget: pod.budget.clone(),
            ..options.pool.tunnel.clone()
        };
        let pool = Pool::new(PoolOptions {
            tunnel: tunnel.clone(),
            ..options.pool.clone()
        });
        let sweeping = tokio::spawn(sweep(pod.reader.clone(), pool.clone()));
        Self {
            shared: Arc::new(Shared {
                pool,
                live,
                loads: Loads::default(),
                failures: Failures::new(options.failures),
                holding: Semaphore::new(options.held),
                places: Arc::new(Semaphore::new(options.connections)),
                patience: Patience {
                    budget: pod.budget.clone(),
                    ..options.patience.clone()
                },
                tunnel,
                draining: CancellationToken::new(),
                rejudging: rejudging.abort_handle(),
                sweeping: sweeping.abort_handle(),
                pod,
            }),
        }
    }

    /// Asks every peer to make no more streams (GOAWAY), then waits until no connection is left. Bound it
    /// outside; stop accepting before.
    pub async fn drain(&self) {
        self.shared.draining.cancel();
        self.shared.live.empty().await;
    }

    /// Every connection that lives now.
    pub fn live(&self) -> Vec<LiveConnection> {
        self.shared.live.list()
    }

    /// Tunnels this pod has open towards others.
    pub fn tunnels(&self) -> usize {
        self.shared.pool.tunnels()
    }

    pub(super) fn pod(&self) -> &Pod {
        &self.shared.pod
    }

    pub(super) fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    pub(super) fn registry(&self) -> &Live {
        &self.shared.live
    }

    pub(super) fn loads(&self) -> &Loads {
        &self.shared.loads
    }

    pub(super) fn failures(&self) -> &Failures {
        &self.shared.failures
    }

    pub(super) fn holding(&self) -> &Semaphore {
        &self.shared.holding
    }

    pub(super) fn handshakes(&self) -> &Handshakes {
        &self.shared.pod.handshakes
    }

    /// How long a connection may stay silent, and what it may use.
    pub(super) fn patience(&self) -> &Patience {
        &self.shared.patience
    }

    /// How the tunnels that it accepts are tuned.
    pub(super) fn tunnel(&self) -> &TunnelOptions {
        &self.shared.tunnel
    }

    pub(super) fn draining(&self) -> &CancellationToken {
        &self.shared.draining
    }

    /// A place for one more connection.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`], or that nobody may address the mesh's own ports.
    pub(super) fn place(&self, destination: SocketAddr) -> Result<OwnedSemaphorePermit, Refusal> {
        if ports::is_ours(destination.port()) {
            return Err(Refusal::ReservedPort(destination.port()));
        }
        self.room()
    }

    /// A place for one more connection, wherever it leads.
    ///
    /// # Errors
    /// [`Refusal::Overloaded`].
    pub(super) fn room(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.shared
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| CONNECTIONS.reached(self.shared.pod.options.connections))
    }

    /// Both ends of a fresh socket, which is tuned: who connects, and where to. `None` if it is gone already.
    pub(super) fn ends(&self, socket: &TcpStream) -> Option<(SocketAddr, SocketAddr)> {
        let pod = self.pod();
        pod.dialer.options.apply(socket).ok()?;
        let client = socket.peer_addr().ok()?;
        let client = SocketAddr::new(client.ip().to_canonical(), client.port());
        Some((client, (pod.origin)(socket).ok()?))
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.rejudging.abort();
        self.sweeping.abort();
    }
}

/// Takes tunnels out of the pool when the pod they lead to is gone, or its address is another's, for ever. None would
/// be used again, since a tunnel is found by its pod's UID: this has them end, and their peers hear of it.
async fn sweep(mut reader: Reader, pool: Pool) {
    loop {
        reader.changed().await;
        sleep(SWEEP).await;
        if pool.tunnels() == 0 {
            continue;
        }
        let snapshot = reader.load();
        pool.retain(|key| {
            let pod = snapshot.workload(&key.workload);
            pod.is_some_and(|pod| pod.owns_addresses() && pod.addresses.contains(&key.address.ip()))
        });
    }
}

/// Tells of a refusal, and resets the connection.
pub(super) fn refuse(socket: TcpStream, labels: FlowLabels, refusal: &Refusal) {
    Connection::refused(labels, refusal);
    reset(socket);
}
