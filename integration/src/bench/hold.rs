//! Connections that say nothing, held open in a pod until asked whether they still live; or, to a server that echoes,
//! that say something now and then.

use std::{net::SocketAddr, time::Duration};

use act::process::Failure;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
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
    /// The server echoes: each connection is asked at once, then in turn, one a millisecond at most
    #[arg(long)]
    pub echo: bool,
}

/// How long one connection may take to be made, or to answer in the end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two questions to a server that echoes.
const REST: Duration = Duration::from_millis(1);

/// Opens the connections, tells `connected N`, waits until it is stopped, asks on each and tells `answered N`. With
/// an echo, also `slowest N`: the milliseconds that the slowest answer took.
///
/// # Errors
/// When nobody can be told.
pub async fn hold(options: HoldOptions, stop: &CancellationToken, mut out: impl std::io::Write) -> Result<(), Failure> {
    let mut held = Vec::new();
    for _ in 0..options.count {
        if let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(options.to)).await
            && (!options.echo || lives(&mut stream, true).await)
        {
            held.push(stream);
        }
    }
    tell(&mut out, "connected", held.len())?;
    if options.echo {
        let slowest = in_turn(&mut held, stop).await;
        tell(
            &mut out,
            "slowest",
            usize::try_from(slowest.as_millis()).unwrap_or(usize::MAX),
        )?;
    } else {
        stop.cancelled().await;
    }
    let mut answered = 0;
    for stream in &mut held {
        answered += usize::from(lives(stream, options.echo).await);
    }
    tell(&mut out, "answered", answered)
}

fn tell(out: &mut impl std::io::Write, word: &str, number: usize) -> Result<(), Failure> {
    writeln!(out, "{word} {number}")
        .and_then(|()| out.flush())
        .map_err(|error| Failure(format!("nobody can be told: {error}")))
}

/// Asks one after the other until it is stopped, and lets go of those that do not answer.
async fn in_turn(held: &mut Vec<TcpStream>, stop: &CancellationToken) -> Duration {
    let (mut next, mut slowest) = (0, Duration::ZERO);
    while !stop.is_cancelled() {
        let Some(stream) = held.get_mut(next) else {
            next = 0;
            let _ = stop.run_until_cancelled(tokio::time::sleep(REST)).await;
            continue;
        };
        let asked = Instant::now();
        if lives(stream, true).await {
            slowest = slowest.max(asked.elapsed());
            next += 1;
            tokio::time::sleep(REST).await;
        } else {
            held.swap_remove(next);
        }
    }
    slowest
}

async fn lives(stream: &mut TcpStream, echo: bool) -> bool {
    let answered = async { if echo { echoes(stream).await } else { ask(stream).await } };
    matches!(timeout(PATIENCE, answered).await, Ok(Ok(true)))
}

async fn echoes(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"?").await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await?;
    Ok(answer == *b"?")
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<bool> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: held\r\n\r\n").await?;
    let mut answer = [0; 15];
    stream.read_exact(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
