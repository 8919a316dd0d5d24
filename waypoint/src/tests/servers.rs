//! A server behind the waypoint, and a client in front of it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use act::{
    certs::Leaf,
    hbone::{Tunnel, TunnelOptions},
};
use bytes::Bytes;
use decide::model::Identity;
use http::{HeaderMap, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::Notify,
    time::timeout,
};

use super::world::{SOON, World};

type Body = BoxBody<Bytes, hyper::Error>;

/// An HTTP server. `/slow` waits for [`Server::go_on`], `/echo` sends the body back, `/close` ends the connection
/// after the response without saying so, `/upgrade` switches to sending back bytes; all else names the server.
#[derive(Default)]
pub(super) struct Server {
    name: String,
    requests: Mutex<Vec<Seen>>,
    connections: AtomicUsize,
    peers: Mutex<Vec<Identity>>,
    slow: AtomicUsize,
    gate: Notify,
    opaque: AtomicUsize,
}

/// A request as the server saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) target: String,
    pub(super) version: Version,
    pub(super) headers: HeaderMap,
}

impl Server {
    /// Starts: as an HBONE server with this leaf, else plain.
    pub(super) async fn start(name: &str, leaf: Option<Arc<Leaf>>) -> (Arc<Self>, SocketAddr) {
        let server = Arc::new(Self {
            name: name.to_owned(),
            ..Self::default()
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                match leaf.clone() {
                    Some(leaf) => drop(tokio::spawn(accepting.clone().tunnel(socket, leaf))),
                    None => drop(tokio::spawn(accepting.clone().serve(socket))),
                }
            }
        });
        (server, address)
    }

    pub(super) fn requests(&self) -> Vec<Seen> {
        self.requests.lock().unwrap().clone()
    }

    /// HTTP connections made so far.
    pub(super) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }

    /// Opaque connections made so far.
    pub(super) fn opaque(&self) -> usize {
        self.opaque.load(SeqCst)
    }

    /// Who made tunnels so far.
    pub(super) fn peers(&self) -> Vec<Identity> {
        self.peers.lock().unwrap().clone()
    }

    /// Waits until this many `/slow` requests wait.
    pub(super) async fn slow(&self, count: usize) {
        until(|| self.slow.load(SeqCst) >= count).await;
    }

    /// Lets every `/slow` request that waits go on.
    pub(super) fn go_on(&self) {
        self.gate.notify_waiters();
    }

    async fn tunnel(self: Arc<Self>, socket: tokio::net::TcpStream, leaf: Arc<Leaf>) {
        let (mut tunnel, peer) = Tunnel::accept(socket, &leaf, &TunnelOptions::default()).await.unwrap();
        self.peers.lock().unwrap().push(peer.identity().clone());
        while let Some(incoming) = tunnel.next().await {
            tokio::spawn(self.clone().serve(incoming.accept().unwrap().into_io()));
        }
    }

    async fn serve(self: Arc<Self>, mut io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let mut first = [0; 1];
        if io.read_exact(&mut first).await.is_err() {
            return;
        }
        let mut io =
            crate::activity::Watched::new(Bytes::copy_from_slice(&first), io, crate::activity::Activity::new());
        if first[0] == b'*' {
            self.opaque.fetch_add(1, SeqCst);
            echo(&mut io).await;
            return;
        }
        self.connections.fetch_add(1, SeqCst);
        let close = Arc::new(Notify::new());
        let (server, closing) = (self.clone(), close.clone());
        let service = service_fn(move |request| server.clone().answer(request, closing.clone()));
        let builder = auto::Builder::new(TokioExecutor::new());
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(io), service);
        tokio::select! {
            _ = connection => {}
            () = close.notified() => {}
        }
    }

    async fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        close: Arc<Notify>,
    ) -> Result<Response<Body>, Infallible> {
        self.requests.lock().unwrap().push(Seen {
            target: request.uri().path_and_query().unwrap().to_string(),
            version: request.version(),
            headers: request.headers().clone(),
        });
        let mut response = Response::new(full(self.name.clone()));
        match request.uri().path() {
            "/slow" => {
                let waiting = self.gate.notified();
                self.slow.fetch_add(1, SeqCst);
                waiting.await;
            }
            "/echo" => *response.body_mut() = request.into_body().boxed(),
            "/close" => {
                tokio::spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                    close.notify_one();
                });
            }
            "/upgrade" => {
                let upgrade = hyper::upgrade::on(&mut request);
                tokio::spawn(async move { echo(&mut TokioIo::new(upgrade.await.unwrap())).await });
                *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                for (name, value) in [("connection", "upgrade"), ("upgrade", "echo")] {
                    response.headers_mut().insert(name, value.parse().unwrap());
                }
                *response.body_mut() = full(String::new());
            }
            _ => {}
        }
        Ok(response)
    }
}

async fn echo(io: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let mut buffer = [0; 1024];
    while let Ok(length @ 1..) = io.read(&mut buffer).await {
        if io.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
    let _ = io.shutdown().await;
}

pub(super) fn full(text: String) -> Body {
    Full::from(text).map_err(|never| match never {}).boxed()
}

/// Waits for a condition.
pub(super) async fn until(condition: impl Fn() -> bool) {
    timeout(SOON, async {
        while !condition() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the condition comes true");
}

/// An HTTP connection of a client through the waypoint.
pub(super) enum Connection {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// A response, whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl World {
    pub(super) async fn http1(&self, account: &str, authority: &str) -> Connection {
        let io = TokioIo::new(self.stream(account, authority).await.expect("the stream is accepted"));
        let (requests, connection) = http1::handshake(io).await.unwrap();
        tokio::spawn(connection.with_upgrades());
        Connection::Http1(requests)
    }

    pub(super) async fn http2(&self, account: &str, authority: &str) -> Connection {
        let io = TokioIo::new(self.stream(account, authority).await.expect("the stream is accepted"));
        let (requests, connection) = http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        Connection::Http2(requests)
    }

    /// One request to `web` on a connection of its own.
    pub(super) async fn get(&self, account: &str, path: &str) -> Answer {
        self.http1(account, "10.2.0.1:80").await.get(path).await
    }
}

impl Connection {
    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path)).await
    }

    pub(super) async fn send(&mut self, request: http::request::Builder) -> Answer {
        let response = self.start(request, full(String::new())).await.expect("a response");
        whole(response).await
    }

    /// Sends a request and waits for the response's head.
    pub(super) async fn start(
        &mut self,
        request: http::request::Builder,
        body: Body,
    ) -> hyper::Result<Response<Incoming>> {
        let sent = match self {
            Self::Http1(requests) => {
                requests.ready().await?;
                let request = request.header("host", "web.shop").body(body).unwrap();
                timeout(SOON, requests.send_request(request)).await
            }
            Self::Http2(requests) => {
                let mut request = request.body(body).unwrap();
                *request.uri_mut() = format!("http://web.shop{}", request.uri()).parse().unwrap();
                timeout(SOON, requests.send_request(request)).await
            }
        };
        sent.expect("an answer in time")
    }
}

pub(super) async fn whole(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(SOON, body.collect()).await.unwrap().expect("a whole body");
    Answer {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: String::from_utf8(body.to_bytes().to_vec()).unwrap(),
    }
}

impl Answer {
    /// What `weft-refusal` says, and what the sentence holds.
    pub(super) fn refused(&self, status: u16, label: &str, says: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["weft-refusal"], label);
        assert!(self.headers["weft-reason"].to_str().unwrap().contains(says), "{self:?}");
        assert!(self.body.contains(says) && self.body.lines().count() == 1, "{self:?}");
    }
}

/// The body of a request that is sent piece by piece.
pub(super) fn pieces() -> (tokio::sync::mpsc::Sender<&'static str>, Body) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut receiver: tokio::sync::mpsc::Receiver<&'static str> = receiver;
    let stream = futures_util::stream::poll_fn(move |context| {
        let piece = |piece: &'static str| Ok(hyper::body::Frame::data(Bytes::from_static(piece.as_bytes())));
        receiver.poll_recv(context).map(|next| next.map(piece))
    });
    (sender, BoxBody::new(http_body_util::StreamBody::new(stream)))
}
