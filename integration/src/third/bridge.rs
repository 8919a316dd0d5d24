//! Leads plain HTTP/2 into a server of HBONE: what connects here is a client there, with a certificate that the mesh's
//! CA signed. Bytes, ends and resets pass as they are, so that what a program says of this end it says of the server.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use act::process::Failure;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::tunnel;

/// From where to where, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub struct BridgeOptions {
    /// Where plain HTTP/2 is taken
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// The server of HBONE
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: SocketAddr,
    /// Directory with `tls.crt` and `tls.key`
    #[arg(long, value_name = "DIR")]
    pub identity: PathBuf,
}

/// Leads until it is stopped.
///
/// # Errors
/// When the certificate cannot be read, or nothing can be listened to.
pub async fn bridge(options: BridgeOptions, stop: &CancellationToken) -> Result<(), Failure> {
    let config = Arc::new(tunnel::config(&options.identity)?);
    let failed = |error: std::io::Error| Failure(format!("{} cannot be listened to: {error}", options.listen));
    let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        let (near, _) = accepted.map_err(failed)?;
        // Whoever connected sees that it is over; more there is not to tell.
        tokio::spawn(lead(near, options.to, config.clone()));
    }
    Ok(())
}

async fn lead(mut near: TcpStream, to: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<()> {
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let mut far = TlsConnector::from(config)
        .connect(ServerName::from(to.ip()), far)
        .await?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
