//! The running proxies, asked over their admin endpoints.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
};

/// The longest one proxy may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest answer that is read.
const ANSWER_LIMIT: usize = 256 * 1024 * 1024;

/// A proxy that can be asked.
#[derive(Debug)]
pub(crate) struct Proxy {
    /// Its name.
    pub(crate) name: String,
    at: At,
}

#[derive(Debug)]
enum At {
    Tcp(SocketAddr),
    Unix(PathBuf),
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
        .filter_map(|path| {
            Some(Proxy {
                name: path.file_stem()?.to_str()?.to_owned(),
                at: At::Unix(path),
            })
        })
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

impl Proxy {
    /// The proxy whose admin endpoint is at this address.
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        Self {
            name: address.to_string(),
            at: At::Tcp(address),
        }
    }

    /// Asks for a path and reads JSON.
    ///
    /// # Errors
    /// One plain sentence, naming the proxy.
    pub(crate) fn get(&self, path: &str) -> Result<Value, String> {
        let request = Request::get(path).header(HOST, "weft").body(Full::default());
        self.ask(request.map_err(|error| error.to_string())?)
    }

    /// Posts JSON and reads JSON. An answer that is no success is its own sentence.
    ///
    /// # Errors
    /// One plain sentence, naming the proxy where the proxy did not say it itself.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let request = Request::post(path)
            .header(HOST, "weft")
            .body(Full::from(body.to_string()));
        self.ask(request.map_err(|error| error.to_string())?)
    }

    fn ask(&self, request: Request<Full<Bytes>>) -> Result<Value, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime can be made: {error}"))?;
        runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, self.exchange(request)).await {
                Ok(answer) => answer,
                Err(_) => Err(format!(
                    "proxy {} does not answer within {} s",
                    self.name,
                    PATIENCE.as_secs()
                )),
            }
        })
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Value, String> {
        let gone = |error: std::io::Error| format!("proxy {} cannot be reached ({error}); is it running?", self.name);
        match &self.at {
            At::Tcp(address) => {
                self.speak(TcpStream::connect(address).await.map_err(gone)?, request)
                    .await
            }
            At::Unix(path) => {
                self.speak(UnixStream::connect(path).await.map_err(gone)?, request)
                    .await
            }
        }
    }

    async fn speak<S>(&self, socket: S, request: Request<Full<Bytes>>) -> Result<Value, String>
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
        if !status.is_success() {
            return Err(String::from_utf8_lossy(&body).trim().to_owned());
        }
        serde_json::from_slice(&body)
            .map_err(|error| format!("proxy {} answered something that is no JSON: {error}", self.name))
    }
}
