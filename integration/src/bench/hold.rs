//! Connections that say nothing, held open in a pod until asked whether they still live.

use std::{net::SocketAddr, time::Duration};

use act::process::Failure;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Which connections to hold.
#[derive(Debug, Clone, clap::Args)]
pub struct HoldOptions {
    /// Where to: an address and a port
    pub to: SocketAddr,
    /// How many
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=15_000))]
    pub count: u32,
}

/// How long one connection may take to be made, or to answer in the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens the connections, tells `connected N`, waits until it is stopped, asks on each and tells `answered N`.
///
/// # Errors
/// When nobody can be told.
pub async fn hold(options: HoldOptions, stop: &CancellationToken, mut out: impl std::io::Write) -> Result<(), Failure> {
    let mut held = Vec::new();
    for _ in 0..options.count {
        if let Ok(Ok(stream)) = timeout(PATIENCE, TcpStream::connect(options.to)).await {
            held.push(stream);
        }
    }
    let failed = |error: std::io::Error| Failure(format!("nobody can be told: {error}"));
    writeln!(out, "connected {}", held.len())
        .and_then(|()| out.flush())
        .map_err(failed)?;
    stop.cancelled().await;
    let mut answered = 0;
    for stream in &mut held {
        answered += u32::from(matches!(timeout(PATIENCE, ask(stream)).await, Ok(Ok(true))));
    }
    writeln!(out, "answered {answered}")
        .and_then(|()| out.flush())
        .map_err(failed)
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: held\r\n\r\n").await?;
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
