//! One HTTP/2 connection to the CA, made when needed and made anew when it broke or its roots changed.

use std::{
    path::PathBuf,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::{ClientConfig, RootCertStore, client::Resumption, pki_types::ServerName, version::TLS13};
use tokio::{net::TcpStream, sync::Mutex, time::timeout};
use tokio_rustls::TlsConnector;
use tonic::{body::Body, codegen::Service};

use super::CaAddress;
use crate::{
    certs::{BoxFuture, certificates_of},
    tls::provider,
};

/// A bundle of roots is a few kilobytes.
const MOST_ROOT_BYTES: u64 = 1 << 20;
/// Over one connection's making: a replica that is gone may say nothing at all.
const CONNECT: Duration = Duration::from_secs(3);
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Connects to the CA and keeps the connection.
pub(super) struct Channel {
    address: CaAddress,
    name: ServerName<'static>,
    roots: PathBuf,
    open: Mutex<Option<(Connection, Vec<u8>)>>,
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum NoConnection {
    /// Our own file with the roots.
    Roots(String),
    /// The CA's side.
    Server(String),
}

/// An open connection, as tonic wants it.
#[derive(Clone)]
pub(super) struct Connection(SendRequest<Body>);

impl Channel {
    pub(super) fn new(address: CaAddress, name: ServerName<'static>, roots: PathBuf) -> Self {
        Self {
            address,
            name,
            roots,
            open: Mutex::new(None),
        }
    }

    /// The open connection, or a new one.
    pub(super) async fn connection(&self) -> Result<Connection, NoConnection> {
        let roots = super::client::read(&self.roots, MOST_ROOT_BYTES)
            .await
            .map_err(NoConnection::Roots)?;
        let mut open = self.open.lock().await;
        if let Some((connection, verified_by)) = &*open
            && !connection.0.is_closed()
            && *verified_by == roots
        {
            return Ok(connection.clone());
        }
        let config = self.config(&roots).map_err(NoConnection::Roots)?;
        let connection = timeout(CONNECT, self.connect(config))
            .await
            .unwrap_or_else(|_| Err(format!("{} cannot be connected within {CONNECT:?}", self.address)))
            .map_err(NoConnection::Server)?;
        *open = Some((connection.clone(), roots));
        Ok(connection)
    }

    /// Forgets the connection: the next call makes a new one.
    pub(super) async fn forget(&self) {
        *self.open.lock().await = None;
    }

    /// The name is resolved anew each time.
    async fn connect(&self, config: ClientConfig) -> Result<Connection, String> {
        let address = &self.address;
        let socket = TcpStream::connect((address.host.as_str(), address.port))
            .await
            .map_err(|error| format!("{address} cannot be connected: {error}"))?;
        let _ = socket.set_nodelay(true);
        let stream = TlsConnector::from(Arc::new(config))
            .connect(self.name.clone(), socket)
            .await
            .map_err(|error| format!("{address} is not verified as {}: {error}", self.name.to_str()))?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE.0)
            .keep_alive_timeout(KEEP_ALIVE.1)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("{address} does not speak HTTP/2: {error}"))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the CA ended");
            }
        });
        Ok(Connection(sender))
    }

    fn config(&self, roots: &[u8]) -> Result<ClientConfig, String> {
        let file = self.roots.display();
        let mut store = RootCertStore::empty();
        for root in certificates_of(roots).map_err(|error| format!("{file}: {error}"))? {
            store.add(root).map_err(|error| format!("{file}: {error}"))?;
        }
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|error| error.to_string())?
            .with_root_certificates(store)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}
