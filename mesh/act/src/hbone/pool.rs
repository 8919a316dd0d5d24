//! The tunnels we made, shared by the streams towards one peer (design 10).

use std::{
    collections::HashMap,
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use decide::model::{Identity, Refusal};
use futures_util::{
    FutureExt,
    future::{Shared, WeakShared},
};
use tokio::time::timeout;

use super::{
    Connect, Stream, TUNNELS, Transport, TunnelOptions,
    client::{ClientTunnel, ConnectError, Slot, connect as ask},
};
use crate::{
    certs::Leaf,
    net::Dialer,
    tls::{self, TlsError},
};

/// Tunnels lost under one CONNECT before its caller is told.
const MOST_LOST: usize = 3;

/// Everything that makes two tunnels different. Always compared as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// UID of the pod whose connections it carries.
    pub source: Arc<str>,
    /// Its address.
    pub source_address: IpAddr,
    /// Serial number of our own leaf.
    pub serial: Arc<str>,
    /// Who the peer must be.
    pub expected: Identity,
    /// UID of the destination pod.
    pub workload: Arc<str>,
    /// Where it accepts HBONE.
    pub address: SocketAddr,
    /// Which connection alone it is for; 0: any of them.
    pub apart: u64,
}

/// Where a tunnel leads, and as whom.
#[derive(Debug, Clone)]
pub struct Target {
    /// UID of the pod whose connections it carries.
    pub source: Arc<str>,
    /// Its address.
    pub source_address: IpAddr,
    /// Its leaf.
    pub leaf: Arc<Leaf>,
    /// Makes its sockets.
    pub dialer: Dialer,
    /// Who the peer must be.
    pub expected: Identity,
    /// UID of the destination pod.
    pub workload: Arc<str>,
    /// Where it accepts HBONE.
    pub address: SocketAddr,
}

/// Bounds of a pool.
#[derive(Debug, Clone)]
pub struct PoolOptions {
    /// Time for dial, handshake and CONNECT together, of each caller.
    pub deadline: Duration,
    /// Most tunnels, those being made included.
    pub tunnels: usize,
    /// Whether connections share tunnels. Without it each has one of its own, and a whole handshake: for measuring.
    pub shared: bool,
    /// How the tunnels are tuned.
    pub tunnel: TunnelOptions,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            tunnels: 1024,
            shared: true,
            tunnel: TunnelOptions::default(),
        }
    }
}

/// Tunnels by key, made when needed. One dial per key at a time, shared by whoever waits for it, given up
/// when nobody does. Cheap to clone; a tunnel nobody uses ends, and with the last clone all of them.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    options: PoolOptions,
    dials: AtomicU64,
    entries: Mutex<HashMap<Key, Entry>>,
}

#[derive(Debug, Default)]
struct Entry {
    tunnels: Vec<Arc<ClientTunnel>>,
    /// The dial under way, by its number.
    dialing: Option<(u64, WeakShared<Dialing>)>,
}

pub(super) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Dialing = BoxFuture<Result<(), Refusal>>;

/// What a caller gets at once.
enum Checkout {
    Tunnel(Arc<ClientTunnel>, Slot),
    Wait(Shared<Dialing>),
}

impl Pool {
    /// An empty pool.
    pub fn new(options: PoolOptions) -> Self {
        Self {
            shared: Arc::new(Inner {
                options,
                dials: AtomicU64::new(0),
                entries: Mutex::new(HashMap::new()),
            }),
        }
    }

    /// Opens a stream to `connect.authority` in a tunnel to `target`, which is made if there is none. Dropping
    /// the future gives up.
    ///
    /// # Errors
    /// Why not: the dial or handshake failed, the deadline passed, a bound is reached, or the peer refused
    /// ([`Refusal::RefusedByPeer`], with its own words).
    pub async fn open(&self, target: &Target, connect: &Connect) -> Result<Stream, Refusal> {
        let key = Key {
            apart: self.apart(),
            ..target.key()
        };
        self.open_by(&key, &|| Box::pin(dial(target.clone())), connect).await
    }

    /// What sets the next connection's tunnel apart from those of others.
    fn apart(&self) -> u64 {
        if self.shared.options.shared {
            return 0;
        }
        self.shared.dials.fetch_add(1, Relaxed) + 1
    }

    /// Tunnels open now.
    pub fn tunnels(&self) -> usize {
        self.shared.lock().values().map(|entry| entry.tunnels.len()).sum()
    }

    /// Takes out the tunnels of every key that is not wanted: streams in them live on, no new one comes.
    pub fn retain(&self, wanted: impl Fn(&Key) -> bool) {
        let entries = self.shared.lock();
        let gone = entries.iter().filter(|(key, _)| !wanted(key));
        let gone: Vec<_> = gone
            .flat_map(|(key, entry)| entry.tunnels.iter().map(move |tunnel| (key.clone(), tunnel.clone())))
            .collect();
        drop(entries);
        for (key, tunnel) in gone {
            self.shared.forget(&key, &tunnel);
        }
    }

    /// Whether nothing is left of any peer.
    #[cfg(test)]
    pub(super) fn is_forgotten(&self) -> bool {
        self.shared.lock().is_empty()
    }

    /// As [`Pool::open`], over whatever `dial` makes.
    pub(super) async fn open_by(
        &self,
        key: &Key,
        dial: &(dyn Fn() -> BoxFuture<Result<Transport, Refusal>> + Sync),
        connect: &Connect,
    ) -> Result<Stream, Refusal> {
        let deadline = self.shared.options.deadline;
        let reached = AtomicBool::new(false);
        timeout(deadline, async {
            let mut lost = 0;
            loop {
                match self.checkout(key, dial)? {
                    Checkout::Wait(dialing) => dialing.await?,
                    Checkout::Tunnel(tunnel, slot) => {
                        reached.store(true, Relaxed);
                        match ask(tunnel.shared(), slot, connect).await {
                            Ok(stream) => return Ok(stream),
                            Err(ConnectError::Refused(refusal)) => return Err(refusal),
                            Err(ConnectError::TunnelLost(refusal)) => {
                                self.shared.forget(key, &tunnel);
                                lost += 1;
                                if lost == MOST_LOST {
                                    return Err(refusal);
                                }
                            }
                        }
                    }
                }
            }
        })
        .await
        .unwrap_or_else(|_| Err(too_late(key.address, deadline, reached.load(Relaxed))))
    }

    fn checkout(
        &self,
        key: &Key,
        dial: &(dyn Fn() -> BoxFuture<Result<Transport, Refusal>> + Sync),
    ) -> Result<Checkout, Refusal> {
        let mut entries = self.shared.lock();
        let options = &self.shared.options;
        if let Some(entry) = entries.get(key) {
            let free = entry
                .tunnels
                .iter()
                .find_map(|tunnel| Some((tunnel.clone(), tunnel.reserve(options.tunnel.streams_used)?)));
            if let Some((tunnel, slot)) = free {
                return Ok(Checkout::Tunnel(tunnel, slot));
            }
            if let Some(dialing) = entry.dialing.as_ref().and_then(|(_, dialing)| dialing.upgrade()) {
                return Ok(Checkout::Wait(dialing));
            }
        }
        let made: usize = entries
            .values()
            .map(|entry| entry.tunnels.len() + usize::from(entry.dialing.is_some()))
            .sum();
        if made >= options.tunnels {
            return Err(TUNNELS.reached(options.tunnels));
        }
        let entry = entries.entry(key.clone()).or_default();
        let surplus = !entry.tunnels.is_empty();
        let number = self.shared.dials.fetch_add(1, Relaxed);
        let attempt = Attempt {
            pool: Arc::downgrade(&self.shared),
            key: key.clone(),
            number,
        };
        let dialing = make(attempt, surplus, dial()).boxed().shared();
        entry.dialing = dialing.downgrade().map(|dialing| (number, dialing));
        Ok(Checkout::Wait(dialing))
    }
}

/// Makes a tunnel and puts it into the pool.
async fn make(attempt: Attempt, surplus: bool, dial: BoxFuture<Result<Transport, Refusal>>) -> Result<(), Refusal> {
    let Some(options) = attempt.pool.upgrade().map(|pool| pool.options.clone()) else {
        return Err(Refusal::Draining);
    };
    let address = attempt.key.address;
    let made = timeout(options.deadline, async {
        let transport = dial.await?;
        Ok(ClientTunnel::over(transport, surplus, &options.tunnel))
    });
    let (tunnel, driver) = made
        .await
        .unwrap_or_else(|_| Err(too_late(address, options.deadline, false)))?;
    let tunnel = Arc::new(tunnel);
    let Some(pool) = attempt.pool.upgrade() else {
        return Err(Refusal::Draining);
    };
    pool.lock()
        .entry(attempt.key.clone())
        .or_default()
        .tunnels
        .push(tunnel.clone());
    let (pool, key, tunnel) = (attempt.pool.clone(), attempt.key.clone(), Arc::downgrade(&tunnel));
    tokio::spawn(async move {
        let retired = || match (pool.upgrade(), tunnel.upgrade()) {
            (Some(pool), Some(tunnel)) => pool.retire(&key, &tunnel),
            _ => true,
        };
        let why = driver.run(retired).await;
        tracing::debug!(target: "tunnel", address = %key.address, serial = %key.serial, %why, "tunnel ended");
        if let (Some(pool), Some(tunnel)) = (pool.upgrade(), tunnel.upgrade()) {
            pool.forget(&key, &tunnel);
        }
    });
    Ok(())
}

/// A dial under way. When it is over, whichever way, or nobody waits for it, the pool no longer lists it.
struct Attempt {
    pool: Weak<Inner>,
    key: Key,
    number: u64,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            let mut entries = pool.lock();
            if let Some(entry) = entries.get_mut(&self.key) {
                entry.dialing.take_if(|(number, _)| *number == self.number);
                if entry.tunnels.is_empty() && entry.dialing.is_none() {
                    entries.remove(&self.key);
                }
            }
        }
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a tunnel out of the pool: streams in it live on, no new one comes.
    fn forget(&self, key: &Key, tunnel: &Arc<ClientTunnel>) {
        tunnel.close();
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(key) {
            entry.tunnels.retain(|other| !Arc::ptr_eq(other, tunnel));
            if entry.tunnels.is_empty() && entry.dialing.is_none() {
                entries.remove(key);
            }
        }
    }

    /// As [`Inner::forget`], if nobody has a stream in it. Streams are reserved under the same lock.
    fn retire(&self, key: &Key, tunnel: &Arc<ClientTunnel>) -> bool {
        let entries = self.lock();
        let empty = tunnel.state.is_empty();
        if empty {
            tunnel.close();
        }
        drop(entries);
        if empty {
            self.forget(key, tunnel);
        }
        empty
    }
}

impl Target {
    fn key(&self) -> Key {
        Key {
            source: self.source.clone(),
            source_address: self.source_address,
            serial: self.leaf.serial.clone(),
            expected: self.expected.clone(),
            workload: self.workload.clone(),
            address: self.address,
            apart: 0,
        }
    }
}

async fn dial(target: Target) -> Result<Transport, Refusal> {
    let failed = |why: String| Refusal::ConnectFailed(target.address, why.into());
    let socket = target
        .dialer
        .connect(target.address)
        .await
        .map_err(|error| failed(error.to_string()))?;
    let (channel, peer) = tls::connect(&target.leaf, socket, &target.expected)
        .await
        .map_err(|error| match error {
            TlsError::Io(why) => failed(why.to_string()),
            TlsError::Handshake(why) => Refusal::PeerNotVerified(why),
        })?;
    tracing::info!(
        target: "tunnel",
        direction = "outbound",
        source = %target.source,
        address = %target.address,
        identity = %target.leaf.identity,
        serial = %target.leaf.serial,
        peer = %peer.identity(),
        peer_serial = %peer.serial(),
        "tunnel established"
    );
    Ok(Transport::secured(channel, peer.not_after().min(target.leaf.not_after)))
}

/// `reached`: a tunnel was there, and only its answer was not.
fn too_late(address: SocketAddr, deadline: Duration, reached: bool) -> Refusal {
    let late = format!("dial, handshake and CONNECT to {address} took longer than {deadline:?}");
    let port = address.port();
    let cause = if reached {
        format!(
            "the tunnel that was there brought no answer; the likely cause is a pod that takes no connections, or a \
             NetworkPolicy made since then that does not admit TCP port {port} to it"
        )
    } else {
        format!(
            "no tunnel was made; a NetworkPolicy that does not admit TCP port {port} to the pod is the likely cause"
        )
    };
    Refusal::DeadlineExceeded(format!("{late}: {cause}").into())
}
