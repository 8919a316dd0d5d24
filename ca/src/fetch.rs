//! GET of one small document: over TLS, or in the clear from this machine only.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use act::{certs::certificates_of, tls::provider};
use bytes::Bytes;
use http::{Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The roots of the system, where Debian and its like keep them.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// One document at a URL.
#[derive(Debug)]
pub struct Fetch {
    url: Uri,
    host: String,
    port: u16,
    /// PEM file with the roots that vouch for the server; `None`: plain HTTP from this machine.
    roots: Option<PathBuf>,
    token: Option<PathBuf>,
}

impl Fetch {
    /// Of a URL: `https://…`, verified by the roots of a PEM file (default: the system's), or `http://` from
    /// loopback. With a token file its content is sent as bearer token.
    ///
    /// # Errors
    /// One plain sentence when the URL is neither.
    pub fn new(url: &str, roots: Option<&Path>, token: Option<&Path>) -> Result<Self, String> {
        let unfit = || format!("{url:?} is neither an https:// URL nor an http:// URL of this machine");
        let parsed: Uri = url.parse().map_err(|_| unfit())?;
        let host = parsed.host().ok_or_else(unfit)?.trim_matches(['[', ']']).to_owned();
        let local = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let (roots, port) = match parsed.scheme_str() {
            Some("https") => (Some(roots.unwrap_or_else(|| Path::new(SYSTEM_ROOTS)).to_owned()), 443),
            Some("http") if local => (None, 80),
            _ => return Err(unfit()),
        };
        Ok(Self {
            port: parsed.port_u16().unwrap_or(port),
            url: parsed,
            host,
            roots,
            token: token.map(Path::to_owned),
        })
    }

    /// The URL.
    pub fn url(&self) -> &Uri {
        &self.url
    }

    /// The document, of at most so many bytes. Redirections are not followed. Bound the time outside.
    ///
    /// # Errors
    /// One plain sentence.
    pub async fn get(&self, most: usize) -> Result<Bytes, String> {
        let socket = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(sentence)?;
        let Some(roots) = &self.roots else {
            return self.ask(socket, most).await;
        };
        let name = ServerName::try_from(self.host.clone()).map_err(sentence)?;
        let connector = TlsConnector::from(Arc::new(verified_by(roots).await?));
        self.ask(connector.connect(name, socket).await.map_err(sentence)?, most)
            .await
    }

    async fn ask(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        most: usize,
    ) -> Result<Bytes, String> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(sentence)?;
        let driver = tokio::spawn(connection);
        let path = self.url.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let authority = self.url.authority().map_or("", http::uri::Authority::as_str);
        let mut request = Request::get(path)
            .header(header::HOST, authority)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.token {
            let token = tokio::fs::read_to_string(token)
                .await
                .map_err(|error| format!("{}: {error}", token.display()))?;
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.trim()));
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(sentence)?;
        let response = sender.send_request(request).await.map_err(sentence)?;
        if response.status() != http::StatusCode::OK {
            return Err(format!("the server answers {}", response.status()));
        }
        let body = Limited::new(response.into_body(), most)
            .collect()
            .await
            .map_err(sentence)?;
        driver.abort();
        Ok(body.to_bytes())
    }
}

async fn verified_by(roots: &Path) -> Result<ClientConfig, String> {
    let file = roots.display();
    let pem = tokio::fs::read(roots)
        .await
        .map_err(|error| format!("{file}: {error}"))?;
    let mut store = RootCertStore::empty();
    // A system's bundle may hold one that we cannot read: the others count.
    store.add_parsable_certificates(certificates_of(&pem).map_err(|error| format!("{file}: {error}"))?);
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(sentence)?
        .with_root_certificates(store)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn sentence(error: impl std::fmt::Display) -> String {
    error.to_string()
}
