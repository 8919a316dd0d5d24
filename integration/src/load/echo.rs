//! A server that says back what it is told, run in a pod as `weft-faults echo`: for connections that are many, and of
//! which each costs next to nothing. Bytes come in, the same bytes go out.

use std::{net::Ipv6Addr, time::Duration};

use act::process::Failure;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

/// Where it listens.
#[derive(Debug, Clone, clap::Args)]
pub struct EchoOptions {
    /// The port, on every address
    #[arg(long, default_value_t = 7000)]
    pub port: u16,
}

/// Rest after a failed accept, so that a lack of descriptors is no busy loop.
const REST: Duration = Duration::from_millis(20);
/// Bytes it takes at once.
const PIECE: usize = 64;

/// Echoes until it is stopped.
///
/// # Errors
/// When the port cannot be listened at.
pub async fn echo(options: EchoOptions, stop: &CancellationToken) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, options.port))
        .await
        .map_err(|error| Failure(format!("port {} cannot be listened at: {error}", options.port)))?;
    let mut connections = JoinSet::new();
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, _)) => drop(connections.spawn(converse(stream))),
            Err(_) => tokio::time::sleep(REST).await,
        }
    }
    Ok(())
}

async fn converse(mut stream: TcpStream) {
    let mut piece = [0; PIECE];
    while let Ok(length @ 1..) = stream.read(&mut piece).await {
        let told = piece.get(..length).unwrap_or_default();
        if stream.write_all(told).await.is_err() {
            return;
        }
    }
}
