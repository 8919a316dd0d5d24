//! What is told of one request, from its head to the last byte of its response. Told exactly once: when dropped.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use act::telemetry::{FlowLabels, Party, RequestRecord};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};

use crate::{activity::InFlight, choose::Chosen};

/// One request. What it occupies is free once it is told.
pub(crate) struct Tale {
    /// What is known so far.
    pub(crate) record: RequestRecord,
    /// Bytes of the request's body so far.
    pub(crate) sent: Arc<AtomicU64>,
    /// Bytes of the response's body so far.
    pub(crate) received: u64,
    started: Instant,
    load: Option<Load>,
    _in_flight: InFlight,
    _place: Option<OwnedSemaphorePermit>,
}

/// Requests in flight towards each address.
#[derive(Debug, Clone, Default)]
pub(crate) struct Loads {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// One request in flight.
struct Load {
    loads: Loads,
    address: IpAddr,
}

impl Tale {
    /// The tale of a request that arrived at `started`.
    pub(crate) fn new(
        record: RequestRecord,
        started: Instant,
        in_flight: InFlight,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        Self {
            record,
            sent: Arc::default(),
            received: 0,
            started,
            load: None,
            _in_flight: in_flight,
            _place: place,
        }
    }

    /// It goes there.
    pub(crate) fn goes(&mut self, chosen: &Chosen, loads: &Loads) {
        self.load = Some(loads.one(chosen.endpoint.ip()));
        self.record.route.clone_from(&chosen.route);
        let labels: &mut FlowLabels = &mut self.record.labels;
        labels.allowed_by = chosen.judged.allowed_by.clone().map(Box::new);
        labels.would_deny = chosen.judged.would_deny.clone().map(Box::new);
        labels.destination = Party {
            workload: chosen.workload.clone(),
            identity: chosen.destination.tunnel.as_ref().map(|tunnel| tunnel.expected.clone()),
            address: Some(chosen.endpoint),
        };
    }

    /// The endpoint it went to.
    pub(crate) fn endpoint(&self) -> SocketAddr {
        let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
        self.record.labels.destination.address.unwrap_or(nowhere)
    }
}

impl Drop for Tale {
    fn drop(&mut self) {
        let mut record = self.record.clone();
        record.bytes = (self.sent.load(Relaxed), self.received);
        record.duration = self.started.elapsed();
        record.record();
    }
}

impl Loads {
    /// Requests in flight towards an address.
    pub(crate) fn of(&self, address: IpAddr) -> u32 {
        self.lock().get(&address).copied().unwrap_or_default()
    }

    fn one(&self, address: IpAddr) -> Load {
        *self.lock().entry(address).or_default() += 1;
        Load {
            loads: self.clone(),
            address,
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut counts = self.loads.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}
