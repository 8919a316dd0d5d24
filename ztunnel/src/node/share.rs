//! How a pod's connections are shared among the workers: each gets its own [`Traffic`], made when first needed.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use act::{
    net::{original_destination, reset},
    process::{NotTaken, Workers},
    telemetry::{Connection, FlowLabels, Party, Reporter},
};
use decide::model::{Refusal, ports};
use futures_util::future::Either;
use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::neighbours::Neighbours;
use crate::traffic::{
    LiveConnection, Neighbour, Pod, Traffic,
    bounds::{CONNECTIONS, QUEUE},
};

/// Live connections on the home worker from which a pod counts as busy, and the others help.
const BUSY: usize = 4;

/// One pod's connections on all workers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Share {
    inner: Arc<Inner>,
}

struct Inner {
    pod: Pod,
    neighbours: Neighbours,
    workers: Workers,
    home: usize,
    seats: Box<[OnceLock<Traffic>]>,
    turn: AtomicUsize,
    at_home: AtomicUsize,
    most: usize,
    places: Arc<Semaphore>,
    /// Cancelled when what still lives is to end at once.
    ended: CancellationToken,
}

type Boxed = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Counts a connection on the home worker while it lives.
struct AtHome(Arc<Inner>);

impl Share {
    /// A pod's share of every worker; `home` is the one that accepts. Its connections are bounded by the pod's options.
    pub(super) fn new(pod: Pod, neighbours: Neighbours, workers: Workers, home: usize) -> Self {
        let most = pod.options.connections;
        let seats = (0..workers.count()).map(|_| OnceLock::new()).collect();
        Self {
            inner: Arc::new(Inner {
                pod,
                neighbours,
                home: home % workers.count(),
                workers,
                seats,
                turn: AtomicUsize::new(home),
                at_home: AtomicUsize::new(0),
                most,
                places: Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))),
                ended: CancellationToken::new(),
            }),
        }
    }

    pub(super) fn home(&self) -> usize {
        self.inner.home
    }

    pub(super) fn workers(&self) -> &Workers {
        &self.inner.workers
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    /// How many connections are open.
    pub(super) fn open(&self) -> usize {
        self.inner.most - self.inner.places.available_permits()
    }

    /// The pod as another on the same worker reaches it; `None` when its connections are too many already. To be
    /// called on that worker.
    pub(super) fn neighbour(&self, worker: usize) -> Option<Neighbour> {
        Some(Neighbour {
            place: Some(self.inner.places.clone().try_acquire_owned().ok()?),
            traffic: self.inner.seat(worker)?.clone(),
            ended: self.inner.ended.clone(),
        })
    }

    /// Every connection that lives now.
    pub(super) fn live(&self) -> Vec<LiveConnection> {
        let seats = self.inner.seats.iter().filter_map(OnceLock::get);
        seats.flat_map(Traffic::live).collect()
    }

    /// Gives a freshly accepted socket to a worker, or refuses it. `port` is the listener's.
    pub(super) fn give(&self, port: u16, socket: TcpStream, from: SocketAddr) {
        let Ok(place) = self.inner.places.clone().try_acquire_owned() else {
            let refusal = CONNECTIONS.reached(self.inner.most);
            Connection::refused(labels(port, from, original_destination(&socket).ok()), &refusal);
            return reset(socket);
        };
        let worker = self.choose(port);
        if let Err(why) = self.hand_over(worker, port, socket, place) {
            let refusal = match why {
                NotTaken::Full(_) => QUEUE.reached(self.inner.workers.queue()),
                NotTaken::Stopped(_) => Refusal::Draining,
            };
            Connection::refused(labels(port, from, None), &refusal);
        }
    }

    /// A tunnel carries many streams and lives long: tunnels are dealt out in turn. Other connections stay at
    /// home, where they share tunnels, until that worker is busy.
    fn choose(&self, port: u16) -> usize {
        let inner = &self.inner;
        if port != ports::HBONE && inner.at_home.load(Relaxed) < BUSY {
            return inner.home;
        }
        inner.turn.fetch_add(1, Relaxed) % inner.workers.count()
    }

    /// A socket that is not taken is closed.
    fn hand_over(
        &self,
        worker: usize,
        port: u16,
        socket: TcpStream,
        place: OwnedSemaphorePermit,
    ) -> Result<(), NotTaken> {
        let inner = self.inner.clone();
        let at_home = (worker == inner.home).then(|| AtHome::new(&inner));
        self.inner.workers.spawn(worker, move || {
            let socket = adopt(socket, worker == inner.home);
            let traffic = inner.seat(worker).cloned();
            async move {
                let _counted = (place, at_home);
                let (Some(traffic), Some(socket)) = (traffic, socket) else {
                    return;
                };
                tokio::select! {
                    biased;
                    () = inner.ended.cancelled() => {}
                    () = serve(traffic, port, socket) => {}
                }
            }
        })
    }

    /// Asks every peer to make no more streams, and waits until no connection is left. Stop accepting before.
    pub(super) async fn drain(&self) {
        let mut drained = Vec::new();
        for (worker, _) in self
            .inner
            .seats
            .iter()
            .enumerate()
            .filter(|(_, seat)| seat.get().is_some())
        {
            let inner = self.inner.clone();
            let (tell, told) = oneshot::channel::<()>();
            let taken = self.inner.workers.spawn(worker, move || async move {
                if let Some(traffic) = inner.seat(worker) {
                    tokio::select! {
                        () = traffic.drain() => {}
                        () = inner.ended.cancelled() => {}
                    }
                }
                drop(tell);
            });
            if taken.is_ok() {
                drained.push(told);
            }
        }
        for told in drained {
            let _ = told.await;
        }
        let everything = u32::try_from(self.inner.most).unwrap_or(u32::MAX);
        let _ = self.inner.places.acquire_many(everything).await;
    }

    /// Ends everything that still lives, at once.
    pub(super) fn end(&self) {
        self.inner.ended.cancel();
    }
}

impl Inner {
    /// A worker's own traffic; to be called on that worker.
    fn seat(&self, worker: usize) -> Option<&Traffic> {
        let pod = || Pod {
            neighbours: self.neighbours.on(worker),
            ..self.pod.clone()
        };
        Some(self.seats.get(worker)?.get_or_init(|| Traffic::new(pod())))
    }
}

impl AtHome {
    fn new(inner: &Arc<Inner>) -> Self {
        inner.at_home.fetch_add(1, Relaxed);
        Self(inner.clone())
    }
}

impl Drop for AtHome {
    fn drop(&mut self) {
        self.0.at_home.fetch_sub(1, Relaxed);
    }
}

/// One connection's life, by the listener that took it. Boxed are those of which there are few: what most are, a task has
/// room for.
fn serve(traffic: Traffic, port: u16, socket: TcpStream) -> impl Future<Output = ()> {
    match port {
        ports::OUTBOUND => Either::Left(traffic.outbound(socket)),
        ports::INBOUND_PLAINTEXT => Either::Right(Box::pin(async move { traffic.plaintext(socket).await }) as Boxed),
        _ => Either::Right(Box::pin(async move { traffic.hbone(socket).await }) as Boxed),
    }
}

/// A socket accepted on another worker is polled by this one from now on.
fn adopt(socket: TcpStream, here: bool) -> Option<TcpStream> {
    if here {
        return Some(socket);
    }
    TcpStream::from_std(socket.into_std().ok()?).ok()
}

/// What can be told of a connection that nobody has looked at.
fn labels(port: u16, from: SocketAddr, to: Option<SocketAddr>) -> FlowLabels {
    let party = |address| Party {
        address,
        ..Party::default()
    };
    let reporter = match port {
        ports::OUTBOUND => Reporter::Source,
        _ => Reporter::Destination,
    };
    FlowLabels {
        source: party(Some(from)),
        destination: party(to),
        ..FlowLabels::new(reporter)
    }
}
