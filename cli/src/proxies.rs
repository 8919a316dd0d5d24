//! The running proxies, asked over their admin endpoints: an address, a Unix socket, or a pod, through a
//! port-forward of the API server. Comes in: what to ask. Goes out: JSON, or one sentence that names the proxy.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

use crate::cluster::sentence;

/// The longest one proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Proxies asked at once.
const AT_ONCE: usize = 16;
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 256 * 1024 * 1024;
/// Sockets of the mesh that are no admin endpoints, where the command runs on a node of a cluster.
const NO_ADMIN: [&str; 2] = ["zds.sock", "cni.sock"];

/// A proxy that can be asked.
#[derive(Debug, Clone)]
pub(crate) struct Proxy {
    /// Its name: the socket's, the address, or the pod's.
    pub(crate) name: String,
    /// Its node, where that is known without asking.
    pub(crate) node: String,
    at: At,
}

#[derive(Debug, Clone)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
    Pod(PodPort),
    /// It cannot be asked now, and why.
    Nowhere(String),
}

/// A port inside a pod.
#[derive(Clone)]
struct PodPort {
    client: Client,
    namespace: String,
    pod: String,
    port: u16,
}

/// What one proxy said.
#[derive(Debug)]
pub(crate) struct Said<T> {
    /// Who.
    pub(crate) proxy: Proxy,
    /// What, or why nothing.
    pub(crate) told: Result<T, String>,
}

/// Every proxy with a socket in this directory, by name.
///
/// # Errors
/// When the directory cannot be read or holds none.
pub(crate) fn in_directory(directory: &Path) -> Result<Vec<Proxy>, String> {
    let hint = "start the mesh (weft demo), name its directory with --run, or answer offline with --config DIR";
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("no proxies: {} cannot be read ({error}); {hint}", directory.display()))?;
    let mut proxies: Vec<_> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|it| it == "sock"))
        .filter(|path| !NO_ADMIN.iter().any(|name| path.ends_with(name)))
        .filter_map(|path| Some(Proxy::new(path.file_stem()?.to_str()?, At::Unix(path.clone()))))
        .collect();
    if proxies.is_empty() {
        return Err(format!(
            "no proxies: {} holds no admin socket (*.sock); {hint}",
            directory.display()
        ));
    }
    proxies.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(proxies)
}

/// Asks all of them for a path, a bounded number at once; the answers in their order.
pub(crate) async fn ask_all(proxies: Vec<Proxy>, path: &str) -> Vec<Said<Value>> {
    let ask = |proxy: Proxy| async move {
        let told = proxy.get(path).await;
        Said { proxy, told }
    };
    stream::iter(proxies).map(ask).buffered(AT_ONCE).collect().await
}

impl Proxy {
    fn new(name: &str, at: At) -> Self {
        Self {
            name: name.to_owned(),
            node: String::new(),
            at,
        }
    }

    /// The proxy whose admin endpoint is at this address.
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self::new(&address.to_string(), At::Tcp(address))
    }

    /// The proxy whose admin endpoint is at this port of a pod's loopback.
    pub(crate) fn pod(client: &Client, (namespace, pod): (&str, &str), port: u16, name: &str) -> Self {
        let at = PodPort {
            client: client.clone(),
            namespace: namespace.to_owned(),
            pod: pod.to_owned(),
            port,
        };
        Self::new(name, At::Pod(at))
    }

    /// A proxy that cannot be asked, and why.
    pub(crate) fn absent(name: &str, why: String) -> Self {
        Self::new(name, At::Nowhere(why))
    }

    /// On this node.
    pub(crate) fn on(self, node: &str) -> Self {
        Self {
            node: node.to_owned(),
            ..self
        }
    }

    /// Asks for a path and reads JSON.
    ///
    /// # Errors
    /// One plain sentence, naming the proxy.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        self.json(&self.read(path).await?)
    }

    /// Asks for a path and reads text.
    ///
    /// # Errors
    /// One plain sentence, naming the proxy.
    pub(crate) async fn read(&self, path: &str) -> Result<String, String> {
        let request = Request::get(path).header(HOST, "weft").body(Full::default());
        self.ask(request.map_err(|error| error.to_string())?, PATIENCE).await
    }

    /// Posts text and reads text. An answer that is no success is its own sentence.
    ///
    /// # Errors
    /// One plain sentence, naming the proxy where the proxy did not say it itself.
    pub(crate) async fn post(&self, path: &str, body: String) -> Result<String, String> {
        self.post_within(path, body, PATIENCE).await
    }

    /// As [`Proxy::post`], for a question whose answer takes a while.
    ///
    /// # Errors
    /// As [`Proxy::post`].
    pub(crate) async fn post_within(&self, path: &str, body: String, patience: Duration) -> Result<String, String> {
        let request = Request::post(path).header(HOST, "weft").body(Full::from(body));
        self.ask(request.map_err(|error| error.to_string())?, patience).await
    }

    /// Reads an answer as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn json(&self, answer: &str) -> Result<Value, String> {
        serde_json::from_str(answer)
            .map_err(|error| format!("proxy {} answered something that is no JSON: {error}", self.name))
    }

    async fn ask(&self, request: Request<Full<Bytes>>, patience: Duration) -> Result<String, String> {
        match tokio::time::timeout(patience, self.exchange(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(format!(
                "proxy {} does not answer within {} s",
                self.name,
                patience.as_secs()
            )),
        }
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<String, String> {
        let gone = |error: io::Error| format!("proxy {} cannot be reached ({error}); is it running?", self.name);
        match &self.at {
            At::Tcp(address) => {
                self.speak(TcpStream::connect(address).await.map_err(gone)?, request)
                    .await
            }
            At::Unix(path) => {
                self.speak(UnixStream::connect(path).await.map_err(gone)?, request)
                    .await
            }
            At::Pod(place) => self.through(place, request).await,
            At::Nowhere(why) => Err(format!("proxy {} cannot be asked: {why}", self.name)),
        }
    }

    /// Through a port-forward of the API server, as `kubectl port-forward` does.
    async fn through(&self, place: &PodPort, request: Request<Full<Bytes>>) -> Result<String, String> {
        let pods: Api<Pod> = Api::namespaced(place.client.clone(), &place.namespace);
        let doing = format!("reach proxy {} by port-forward", self.name);
        let forwarded = pods.portforward(&place.pod, &[place.port]).await;
        let mut forwarder = forwarded.map_err(|error| sentence(&doing, &error))?;
        let (Some(stream), Some(trouble)) = (forwarder.take_stream(place.port), forwarder.take_error(place.port))
        else {
            return Err(format!("cannot {doing}: the API server forwards another port"));
        };
        let answer = tokio::select! {
            // The kubelet tells more plainly than the stream why it ended.
            biased;
            Some(told) = trouble => Err(format!("cannot {doing}: {}", told.trim())),
            answer = self.speak(stream, request) => answer,
        };
        forwarder.abort();
        answer
    }

    async fn speak<S>(&self, socket: S, request: Request<Full<Bytes>>) -> Result<String, String>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let broke = |error: &dyn std::fmt::Display| format!("proxy {} broke off: {error}", self.name);
        let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
            .await
            .map_err(|error| broke(&error))?;
        tokio::spawn(connection);
        let response = sender.send_request(request).await.map_err(|error| broke(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT)
            .collect()
            .await
            .map_err(|error| broke(&error))?
            .to_bytes();
        let body = String::from_utf8_lossy(&body);
        if !status.is_success() {
            return Err(body.trim().to_owned());
        }
        Ok(body.into_owned())
    }
}

impl std::fmt::Debug for PodPort {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}:{}", self.namespace, self.pod, self.port)
    }
}
