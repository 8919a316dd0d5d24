//! What every stream of one worker shares.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::{certs::Certificates, config::Reader, hbone::TunnelOptions, resolve::Resolver};
use decide::{
    model::{Identity, Refusal, WaypointKey, Workload},
    snapshot::Snapshot,
};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    reach::Reach,
    tale::Loads,
    upstream::{UpstreamOptions, Upstreams},
};

/// The bounds and timers of a waypoint.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Tunnels accepted at the same time, of all workers.
    pub(crate) max_tunnels: usize,
    /// Requests in flight at the same time, of all workers.
    pub(crate) max_requests: usize,
    /// Requests in flight on one HTTP/2 connection.
    pub(crate) max_streams: u32,
    /// Headers of one request.
    pub(crate) max_headers: usize,
    /// Bytes of one request's head.
    pub(crate) max_head: usize,
    /// How long a request's head may take.
    pub(crate) head_timeout: Duration,
    /// How long a client may say nothing before its bytes count as opaque.
    pub(crate) detect_timeout: Duration,
    /// How long a connection may be idle.
    pub(crate) idle: Duration,
    /// How long a stream waits for the first configuration and our first leaf.
    pub(crate) hold: Duration,
    /// How long a host outside the mesh may take to be resolved.
    pub(crate) resolve: Duration,
    /// How tunnels we accept are tuned.
    pub(crate) tunnel: TunnelOptions,
    /// Connections to servers.
    pub(crate) upstream: UpstreamOptions,
}

/// Who a waypoint is, and what it shares with the other workers.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Bounds and timers.
    pub(crate) settings: Settings,
    /// Which waypoint.
    pub(crate) key: WaypointKey,
    /// Namespace and name of our own pod.
    pub(crate) pod: (Arc<str>, Arc<str>),
    /// Our identity.
    pub(crate) identity: Identity,
    /// The configuration.
    pub(crate) reader: Reader,
    /// Our leaves.
    pub(crate) certificates: Certificates,
    /// Addresses of hosts outside the mesh.
    pub(crate) names: Resolver,
    /// Places for tunnels.
    pub(crate) tunnels: Arc<Semaphore>,
    /// Places for requests in flight.
    pub(crate) requests: Arc<Semaphore>,
    /// Cancelled when we are asked to stop.
    pub(crate) draining: CancellationToken,
}

/// A waypoint, as one worker runs it.
pub(crate) struct Waypoint {
    shared: Shared,
    /// Streams of bytes to servers.
    pub(crate) reach: Arc<dyn Reach>,
    /// HTTP connections to servers.
    pub(crate) upstreams: Upstreams,
    /// Requests in flight, by address.
    pub(crate) loads: Loads,
    own: Mutex<Own>,
}

/// The UID of our own pod, as far as it is known.
#[derive(Default)]
struct Own {
    uid: Option<Arc<str>>,
    looked_at: Option<u64>,
}

impl std::ops::Deref for Waypoint {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Waypoint {
    /// To be made inside the runtime that will run it.
    pub(crate) fn new(shared: Shared, reach: Arc<dyn Reach>) -> Arc<Self> {
        Arc::new(Self {
            upstreams: Upstreams::new(shared.settings.upstream.clone(), reach.clone()),
            shared,
            reach,
            loads: Loads::default(),
            own: Mutex::default(),
        })
    }

    /// Our own pod, known to serve this waypoint. Searched for at most once per snapshot.
    ///
    /// # Errors
    /// [`Refusal::NotConfigured`] while the configuration does not say so.
    pub(crate) fn own(&self, snapshot: &Snapshot) -> Result<Arc<Workload>, Refusal> {
        let ours = |workload: &&Arc<Workload>| {
            (&workload.namespace, &workload.name) == (&self.pod.0, &self.pod.1)
                && workload.serves.as_ref() == Some(&self.key)
                && workload.owns_addresses()
        };
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = own
            .uid
            .as_ref()
            .and_then(|uid| snapshot.workloads.get(uid))
            .filter(ours)
        {
            return Ok(found.clone());
        }
        if own.looked_at == Some(snapshot.version) {
            return Err(Refusal::NotConfigured);
        }
        let found = snapshot.workloads.values().find(ours).cloned();
        own.looked_at = Some(snapshot.version);
        own.uid = found.as_ref().map(|workload| workload.uid.clone());
        found.ok_or_else(|| {
            tracing::warn!(
                waypoint = %self.key,
                pod = %format!("{}/{}", self.pod.0, self.pod.1),
                "the configuration holds no such pod that serves this waypoint; label it gateway.networking.k8s.io/gateway-name"
            );
            Refusal::NotConfigured
        })
    }
}
