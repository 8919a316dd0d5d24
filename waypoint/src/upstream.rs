//! HTTP connections to servers: kept per destination and protocol, never shared between two, bounded in
//! number, age and idleness.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use decide::model::{Refusal, Workload};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, sleep};

use crate::{
    body::Upload,
    reach::{Destination, Io, Reach, Reached},
};

/// Bounds of the connections kept.
#[derive(Debug, Clone)]
pub(crate) struct UpstreamOptions {
    /// Idle HTTP/1 connections kept to one destination.
    pub(crate) idle_each: usize,
    /// Idle HTTP/1 connections kept altogether.
    pub(crate) idle_all: usize,
    /// How long a connection stays without a request.
    pub(crate) idle: Duration,
    /// How old a connection may be when it is given another request.
    pub(crate) age: Duration,
    /// Headers of a response.
    pub(crate) headers: usize,
    /// Bytes of a response's head.
    pub(crate) head: usize,
    /// Bytes a server may send ahead on one stream of an HTTP/2 connection.
    pub(crate) stream_window: u32,
    /// Bytes it may send ahead on all of them together.
    pub(crate) connection_window: u32,
}

/// Connections to servers. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Upstreams {
    shared: Arc<Inner>,
}

struct Inner {
    options: UpstreamOptions,
    reach: Arc<dyn Reach>,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    http1: HashMap<Destination, Vec<Idle>>,
    http1_count: usize,
    http2: HashMap<Destination, Dialing>,
}

/// An HTTP/1 connection that waits for its next request.
struct Idle {
    requests: http1::SendRequest<Upload>,
    until: Instant,
    since: Instant,
}

/// An HTTP/2 connection, shared by its requests; one dial for all who wait.
type Dialing = Shared<BoxFuture<'static, Result<Multiplexed, Refusal>>>;

#[derive(Clone)]
struct Multiplexed {
    requests: http2::SendRequest<Upload>,
    until: Instant,
    used: Arc<Mutex<Instant>>,
}

/// A connection to send one request on.
pub(crate) enum Upstream {
    /// HTTP/1: ours alone until given back.
    Http1(Lease),
    /// HTTP/2.
    Http2 {
        /// The connection's requests.
        requests: http2::SendRequest<Upload>,
        /// Whether it carried a request before.
        reused: bool,
    },
}

/// An HTTP/1 connection that is ours alone.
pub(crate) struct Lease {
    pool: Upstreams,
    to: Destination,
    requests: http1::SendRequest<Upload>,
    until: Instant,
    reused: bool,
}

/// A request that got no response. It comes back if none of it was sent.
pub(crate) type Unsent = TrySendError<Request<Upload>>;

impl Upstreams {
    /// No connections yet. To be made inside the runtime that will use it.
    pub(crate) fn new(options: UpstreamOptions, reach: Arc<dyn Reach>) -> Self {
        let pool = Self {
            shared: Arc::new(Inner {
                options,
                reach,
                kept: Mutex::default(),
            }),
        };
        let (kept, rest) = (Arc::downgrade(&pool.shared), pool.shared.options.idle / 2);
        tokio::spawn(async move {
            loop {
                sleep(rest).await;
                let Some(shared) = kept.upgrade() else { return };
                shared.sweep();
            }
        });
        pool
    }

    /// An HTTP/1 connection; a new one if `fresh`.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) async fn http1(&self, own: &Workload, to: &Destination, fresh: bool) -> Result<Upstream, Refusal> {
        if !fresh && let Some(idle) = self.shared.take(to) {
            return Ok(Upstream::Http1(Lease {
                pool: self.clone(),
                to: to.clone(),
                requests: idle.requests,
                until: idle.until,
                reused: true,
            }));
        }
        let Reached { io, until } = self.shared.reach.reach(own, to, None).await?;
        let options = &self.shared.options;
        let (requests, connection) = http1::Builder::new()
            .max_headers(options.headers)
            .max_buf_size(options.head)
            .handshake::<_, Upload>(TokioIo::new(io))
            .await
            .map_err(|error| failed(to, &error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "an HTTP/1 connection to a server ended");
            }
        });
        Ok(Upstream::Http1(Lease {
            pool: self.clone(),
            to: to.clone(),
            requests,
            until: options.until(until),
            reused: false,
        }))
    }

    /// A place on an HTTP/2 connection; on a new one if `fresh`.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(crate) async fn http2(&self, own: &Arc<Workload>, to: &Destination, fresh: bool) -> Result<Upstream, Refusal> {
        let (dialing, reused) = {
            let mut kept = self.shared.lock();
            let usable = |dialing: &&Dialing| match dialing.peek() {
                Some(Ok(connection)) => !fresh && connection.is_usable(),
                Some(Err(_)) => false,
                None => true,
            };
            match kept.http2.get(to).filter(usable) {
                Some(dialing) => (dialing.clone(), dialing.peek().is_some()),
                None => {
                    let (shared, own, to) = (self.shared.clone(), own.clone(), to.clone());
                    let dialing = {
                        let to = to.clone();
                        async move { shared.dial_http2(&own, &to).await }.boxed().shared()
                    };
                    kept.http2.insert(to, dialing.clone());
                    (dialing, false)
                }
            }
        };
        let connection = dialing.await?;
        *connection.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(Upstream::Http2 {
            requests: connection.requests,
            reused,
        })
    }
}

impl Upstream {
    /// Whether the connection carried requests before, so that the server may have closed it meanwhile.
    pub(crate) fn is_reused(&self) -> bool {
        match self {
            Self::Http1(lease) => lease.reused,
            Self::Http2 { reused, .. } => *reused,
        }
    }

    /// Sends a request and waits for the response's head.
    pub(crate) async fn send(&mut self, request: Request<Upload>) -> Result<Response<Incoming>, Unsent> {
        match self {
            Self::Http1(lease) => lease.requests.try_send_request(request).await,
            Self::Http2 { requests, .. } => requests.try_send_request(request).await,
        }
    }

    /// The connection to be given back once the response has ended, if it is ours alone.
    pub(crate) fn into_lease(self) -> Option<Lease> {
        match self {
            Self::Http1(lease) => Some(lease),
            Self::Http2 { .. } => None,
        }
    }
}

impl Lease {
    /// The response has ended: the connection may carry another request, once it is done with this one.
    pub(crate) fn give_back(mut self) {
        if self.requests.is_closed() {
            return;
        }
        if self.requests.is_ready() {
            self.pool.shared.clone().keep(self);
            return;
        }
        // Still sending, or not polled yet since it finished reading.
        tokio::spawn(async move {
            let patience = self.pool.shared.options.idle;
            if let Ok(Ok(())) = tokio::time::timeout(patience, self.requests.ready()).await {
                self.pool.shared.clone().keep(self);
            }
        });
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The idle connection used last: the others may end for want of use.
    fn take(&self, to: &Destination) -> Option<Idle> {
        let mut kept = self.lock();
        let now = Instant::now();
        loop {
            let idle = kept.http1.get_mut(to)?.pop();
            let Some(idle) = idle else {
                kept.http1.remove(to);
                return None;
            };
            kept.http1_count -= 1;
            if idle.is_usable(now, &self.options) {
                return Some(idle);
            }
        }
    }

    fn keep(&self, lease: Lease) {
        let mut kept = self.lock();
        let now = Instant::now();
        if now >= lease.until || kept.http1_count >= self.options.idle_all {
            return;
        }
        let idle = kept.http1.entry(lease.to).or_default();
        if idle.len() >= self.options.idle_each {
            return;
        }
        idle.push(Idle {
            requests: lease.requests,
            until: lease.until,
            since: now,
        });
        kept.http1_count += 1;
    }

    fn sweep(&self) {
        let mut kept = self.lock();
        let now = Instant::now();
        kept.http1.retain(|_, idle| {
            idle.retain(|idle| idle.is_usable(now, &self.options));
            !idle.is_empty()
        });
        kept.http1_count = kept.http1.values().map(Vec::len).sum();
        // A connection without requests ends when its last handle is dropped; those in flight hold their own.
        kept.http2.retain(|_, dialing| match dialing.peek() {
            Some(Ok(connection)) => connection.is_usable() && connection.idle_for(now) < self.options.idle,
            Some(Err(_)) => false,
            None => true,
        });
    }

    async fn dial_http2(&self, own: &Workload, to: &Destination) -> Result<Multiplexed, Refusal> {
        let Reached { io, until } = self.reach.reach(own, to, None).await?;
        let (requests, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(self.options.stream_window)
            .initial_connection_window_size(self.options.connection_window)
            .max_header_list_size(u32::try_from(self.options.head).unwrap_or(u32::MAX))
            .handshake::<TokioIo<Box<dyn Io>>, Upload>(TokioIo::new(io))
            .await
            .map_err(|error| failed(to, &error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an HTTP/2 connection to a server ended");
            }
        });
        Ok(Multiplexed {
            requests,
            until: self.options.until(until),
            used: Arc::new(Mutex::new(Instant::now())),
        })
    }
}

impl UpstreamOptions {
    fn until(&self, until: Option<Instant>) -> Instant {
        let oldest = Instant::now() + self.age;
        until.map_or(oldest, |until| until.min(oldest))
    }
}

impl Idle {
    fn is_usable(&self, now: Instant, options: &UpstreamOptions) -> bool {
        !self.requests.is_closed() && now < self.until && now.duration_since(self.since) < options.idle
    }
}

impl Multiplexed {
    fn is_usable(&self) -> bool {
        !self.requests.is_closed() && Instant::now() < self.until
    }

    fn idle_for(&self, now: Instant) -> Duration {
        now.duration_since(*self.used.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn failed(to: &Destination, error: &hyper::Error) -> Refusal {
    Refusal::ConnectFailed(to.address, error.to_string().into())
}
