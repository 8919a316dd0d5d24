//! The listeners, each bounded in connections and time.

use std::{
    convert::Infallible, fs, io, net::SocketAddr, os::unix::fs::FileTypeExt, path::Path, sync::Arc, time::Duration,
};

use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_util::sync::CancellationToken;

use super::{
    Admin, AdminOptions,
    respond::{self, Scope},
};
use crate::process::Failure;

/// Connections served at once on each listener.
const MOST_CONNECTIONS: usize = 64;
/// The longest a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest a connection may last: scrapers come back.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(120);
/// How long an accept loop rests after a failed accept (EMFILE and its like).
const ACCEPT_REST: Duration = Duration::from_millis(100);

impl Admin {
    /// Opens every listener, then serves in tasks of their own until `shutdown`.
    ///
    /// # Errors
    /// One plain sentence when an address or path cannot be had.
    pub async fn serve(self, options: &AdminOptions, shutdown: &CancellationToken) -> Result<(), Failure> {
        let admin = Arc::new(self);
        if !options.admin.ip().is_loopback() {
            tracing::warn!(address = %options.admin, "admin endpoints are not on loopback: everybody who reaches them sees everything");
        }
        let tcp = [
            (options.admin, Scope::Admin),
            (options.metrics, Scope::Metrics),
            (options.ready, Scope::Ready),
        ];
        for (address, scope) in tcp {
            let listener = bind(address, scope).await?;
            tokio::spawn(accept_tcp(listener, admin.clone(), scope, shutdown.clone()));
        }
        if let Some(path) = &options.admin_socket {
            let listener = bind_unix(path)?;
            tokio::spawn(accept_unix(listener, admin, shutdown.clone()));
        }
        tokio::spawn(upkeep(shutdown.clone()));
        Ok(())
    }
}

async fn bind(address: SocketAddr, scope: Scope) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure(format!(
            "{address} cannot be listened on ({error}); choose another address with {}",
            scope.flag()
        ))
    })
}

fn bind_unix(path: &Path) -> Result<UnixListener, Failure> {
    // A socket left by a process that died is ours to replace; anything else at the path is not.
    if fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        let _ = fs::remove_file(path);
    }
    UnixListener::bind(path).map_err(|error| {
        Failure(format!(
            "{} cannot be listened on ({error}); choose another path with --admin-socket",
            path.display()
        ))
    })
}

async fn accept_tcp(listener: TcpListener, admin: Arc<Admin>, scope: Scope, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        serve(accepted.map(|(socket, _)| socket), &admin, scope, &slots).await;
    }
}

async fn accept_unix(listener: UnixListener, admin: Arc<Admin>, shutdown: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    while let Some(accepted) = shutdown.run_until_cancelled(listener.accept()).await {
        serve(accepted.map(|(socket, _)| socket), &admin, Scope::Admin, &slots).await;
    }
}

async fn serve<S>(accepted: io::Result<S>, admin: &Arc<Admin>, scope: Scope, slots: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Ok(socket) = accepted else {
        tokio::time::sleep(ACCEPT_REST).await;
        return;
    };
    // Beyond the bound a connection is closed unheard: these listeners serve operators and scrapers alone.
    let Ok(slot) = slots.clone().try_acquire_owned() else {
        return;
    };
    let admin = admin.clone();
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let admin = admin.clone();
            async move { Ok::<Response<Full<Bytes>>, Infallible>(respond::respond(&admin, scope, request).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(64 * 1024)
            .serve_connection(TokioIo::new(socket), service);
        let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await;
        drop(slot);
    });
}

async fn upkeep(shutdown: CancellationToken) {
    let metrics = crate::telemetry::Metrics::install();
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    while shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        metrics.upkeep();
    }
}
