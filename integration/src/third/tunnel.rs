//! An HBONE client that believes whoever answers, to see whom a server believes: `weft-demo tunnel`. It shares
//! nothing with the mesh's own client.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use act::process::Failure;
use bytes::Bytes;
use http::{Method, Request, Version};
use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

/// Whom to ask for what, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct TunnelOptions {
    /// The server: ADDRESS:15008
    #[arg(long)]
    pub to: String,
    /// What is asked for: ADDRESS:PORT
    #[arg(long)]
    pub authority: String,
    /// Directory with `tls.crt` and `tls.key`
    #[arg(long, value_name = "DIR")]
    pub identity: PathBuf,
    /// What is sent once the tunnel stands, as an HTTP/1.1 GET of this path
    #[arg(long, default_value = "/")]
    pub path: String,
}

/// How it went: one line of JSON on standard output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tunnelled {
    /// Why there was no CONNECT, if so.
    pub failed: Option<String>,
    /// Status of the CONNECT.
    pub status: u16,
    /// `weft-refusal`.
    pub refusal: String,
    /// `weft-reason`.
    pub reason: String,
    /// The first line that came back through the tunnel.
    pub answer: String,
}

/// Asks, and prints how it went.
///
/// # Errors
/// When the certificate cannot be read.
pub async fn run(options: &TunnelOptions) -> Result<(), Failure> {
    let config = Arc::new(config(&options.identity)?);
    let told = match timeout(Duration::from_secs(10), ask(options, config)).await {
        Ok(Ok(told)) => told,
        Ok(Err(why)) => failed(why),
        Err(_) => failed("no answer within 10 s".into()),
    };
    let line = serde_json::to_string(&told).map_err(|error| Failure(error.to_string()))?;
    writeln!(std::io::stdout(), "{line}").map_err(|error| Failure(error.to_string()))
}

async fn ask(options: &TunnelOptions, config: Arc<ClientConfig>) -> Result<Tunnelled, String> {
    let socket = TcpStream::connect(&options.to)
        .await
        .map_err(|error| format!("not connected: {error}"))?;
    let address = socket.peer_addr().map_err(|error| error.to_string())?.ip();
    let stream = TlsConnector::from(config)
        .connect(ServerName::from(address), socket)
        .await
        .map_err(|error| format!("handshake: {error}"))?;
    let (client, connection) = h2::client::handshake(stream)
        .await
        .map_err(|error| format!("HTTP/2: {error}"))?;
    let connection = tokio::spawn(connection);
    let asked = connect(client, options).await;
    connection.abort();
    asked
}

async fn connect(client: h2::client::SendRequest<Bytes>, options: &TunnelOptions) -> Result<Tunnelled, String> {
    let http2 = |error: h2::Error| format!("HTTP/2: {error}");
    let request = Request::builder()
        .method(Method::CONNECT)
        .version(Version::HTTP_2)
        .uri(&options.authority)
        .body(())
        .map_err(|error| error.to_string())?;
    let mut client = client.ready().await.map_err(http2)?;
    let (response, mut send) = client.send_request(request, false).map_err(http2)?;
    let response = response.await.map_err(http2)?;
    let header = |name: &str| {
        let value = response.headers().get(name).and_then(|it| it.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut told = Tunnelled {
        status: response.status().as_u16(),
        refusal: header("weft-refusal"),
        reason: header("weft-reason"),
        ..Tunnelled::default()
    };
    if told.status == 200 {
        let TunnelOptions { authority, path, .. } = options;
        let get = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n");
        send.send_data(get.into(), false).map_err(http2)?;
        let mut body = response.into_body();
        let first = body.data().await.transpose().map_err(http2)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&first);
        text.lines().next().unwrap_or_default().clone_into(&mut told.answer);
    }
    Ok(told)
}

fn failed(why: String) -> Tunnelled {
    Tunnelled {
        failed: Some(why),
        ..Tunnelled::default()
    }
}

/// HTTP/2 over mutual TLS with the certificate of a directory, towards whoever answers.
pub(super) fn config(identity: &Path) -> Result<ClientConfig, Failure> {
    let read = |name: &str| {
        let path = identity.join(name);
        fs::read(&path).map_err(|error| Failure(format!("{} cannot be read: {error}", path.display())))
    };
    let unfit = |error: &dyn std::fmt::Display| Failure(format!("{} holds no identity: {error}", identity.display()));
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read("tls.crt")?).collect();
    let key = PrivateKeyDer::from_pem_slice(&read("tls.key")?).map_err(|error| unfit(&error))?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_auth_cert(chain.map_err(|error| unfit(&error))?, key)
        .map_err(|error| unfit(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes every server: this client has nothing to lose.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = default_provider().signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
