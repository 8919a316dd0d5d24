//! The gRPC listener: TLS, HTTP/2, and a bound on everything a stranger may do before and after it is known.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::{authority::proto::istio_certificate_service_server::IstioCertificateServiceServer, net::Acceptor};
use http::{Request, Response};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, body::Body, codegen::Service as _};

use crate::{
    csr::MOST_CSR_BYTES,
    service::{self, Service},
};

/// What strangers may do.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// Of them, from one address.
    pub per_address: usize,
    /// Requests at once on one connection.
    pub requests: u32,
    /// Time for the TLS handshake.
    pub handshake: Duration,
    /// Time for one request, its body's arrival included.
    pub request: Duration,
    /// How long a connection may be without a request.
    pub idle: Duration,
    /// How long everybody is still served after we were asked to stop: a Service learns a moment later of it.
    pub linger: Duration,
}

const MOST_HEADER_BYTES: u32 = 32 << 10;
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// What every connection needs.
struct Shared {
    tls: TlsAcceptor,
    grpc: IstioCertificateServiceServer<Service>,
    bounds: Bounds,
    stop: CancellationToken,
    open: Mutex<Open>,
}

/// Connections that are open.
#[derive(Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One open connection, counted while it lives.
struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

/// Requests of one connection: how many are under way, and when the last began or ended.
struct Activity {
    running: usize,
    at: Instant,
}

/// Accepts and serves until `stop` and a little longer; then asks every client to go elsewhere and waits `drain`
/// for what is under way.
pub async fn serve(
    mut acceptor: Acceptor,
    tls: Arc<ServerConfig>,
    service: Arc<Service>,
    bounds: Bounds,
    stop: CancellationToken,
    drain: Duration,
) {
    let stop = {
        let last = CancellationToken::new();
        let ends = last.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            sleep(bounds.linger).await;
            ends.cancel();
        });
        last
    };
    let grpc = IstioCertificateServiceServer::from_arc(service).max_decoding_message_size(4 * MOST_CSR_BYTES);
    let shared = Arc::new(Shared {
        tls: TlsAcceptor::from(tls),
        grpc,
        bounds,
        stop: stop.clone(),
        open: Mutex::default(),
    });
    let tasks = TaskTracker::new();
    loop {
        match stop.run_until_cancelled(acceptor.accept()).await {
            Some(Ok((socket, from))) => match shared.clone().admit(from.ip()) {
                Some(place) => drop(tasks.spawn(place.serve(socket, from))),
                None => metrics::counter!("weft_ca_connections_refused_total").increment(1),
            },
            Some(Err(error)) => {
                tracing::error!(%error, "the listening socket is unusable");
                break;
            }
            None => break,
        }
    }
    drop(acceptor);
    tasks.close();
    if timeout(drain, tasks.wait()).await.is_err() {
        tracing::warn!(
            connections = tasks.len(),
            ?drain,
            "connections were cut after the drain time"
        );
    }
}

impl Shared {
    fn admit(self: Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut open = self.lock();
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if open.all >= self.bounds.connections || of_address >= self.bounds.per_address {
            return None;
        }
        open.all += 1;
        open.by_address.insert(address, of_address + 1);
        drop(open);
        Some(Place { shared: self, address })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    async fn serve(self, socket: TcpStream, from: SocketAddr) {
        let _ = socket.set_nodelay(true);
        let handshake = self.shared.tls.accept(socket);
        match timeout(self.shared.bounds.handshake, handshake).await {
            Ok(Ok(stream)) => self.requests(stream, from).await,
            Ok(Err(error)) => tracing::debug!(%from, %error, "TLS failed"),
            Err(_) => tracing::debug!(%from, "TLS took too long"),
        }
    }

    async fn requests(&self, stream: TlsStream<TcpStream>, from: SocketAddr) {
        let (shared, bounds) = (&self.shared, self.shared.bounds);
        let activity = Arc::new(Mutex::new(Activity {
            running: 0,
            at: Instant::now(),
        }));
        let service = service_fn(|request| one(shared.clone(), activity.clone(), from, request));
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(bounds.requests)
            .max_header_list_size(MOST_HEADER_BYTES)
            .keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => return tracing::debug!(%from, ?ended, "connection ended"),
            () = shared.stop.cancelled() => {}
            () = idle(&activity, bounds.idle) => {}
        }
        connection.as_mut().graceful_shutdown();
        // Bounded again: a client that never closes is not waited for.
        let _ = timeout(bounds.request * 2, connection).await;
    }
}

async fn one(
    shared: Arc<Shared>,
    activity: Arc<Mutex<Activity>>,
    from: SocketAddr,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let count = |change: isize| {
        let mut activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
        activity.running = activity.running.saturating_add_signed(change);
        activity.at = Instant::now();
    };
    request.extensions_mut().insert(service::From(from));
    count(1);
    let answer = timeout(shared.bounds.request, shared.grpc.clone().call(request)).await;
    count(-1);
    Ok(match answer {
        Ok(Ok(response)) => response,
        Err(_) => Status::deadline_exceeded("the request took too long").into_http(),
    })
}

/// Returns when there was no request for `bound`.
async fn idle(activity: &Mutex<Activity>, bound: Duration) {
    loop {
        let quiet = {
            let activity = activity.lock().unwrap_or_else(PoisonError::into_inner);
            if activity.running == 0 {
                activity.at.elapsed()
            } else {
                Duration::ZERO
            }
        };
        match bound.checked_sub(quiet) {
            None | Some(Duration::ZERO) => return,
            Some(left) => sleep(left).await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.shared.lock();
        open.all -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connections: 4096,
            per_address: 64,
            requests: 64,
            handshake: Duration::from_secs(10),
            request: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            linger: Duration::ZERO,
        }
    }
}
