//! Between two sockets.

use std::{
    future::poll_fn,
    io,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;

use super::{
    Patience,
    patience::{Broken, Count, Fragile, Progress, both, errored},
    socket::{finish, read, scratch},
};
use crate::telemetry::Outcome;

/// As [`super::relay()`], between two sockets. `count` is told of bytes from the client and from the server.
pub async fn relay_plain(
    client: TcpStream,
    server: TcpStream,
    patience: &Patience,
    stop: impl Future<Output = Outcome>,
    count: Count<'_>,
) -> Outcome {
    let (mut client, mut server) = (Fragile::new(client), Fragile::new(server));
    let progress = Progress::default();
    let outcome = both(
        pump(&client.socket, &server.socket, &progress.forth),
        pump(&server.socket, &client.socket, &progress.back),
        errored(&client.socket),
        stop,
        (&progress, patience, count),
    )
    .await;
    client.settle(&outcome);
    server.settle(&outcome);
    outcome
}

async fn pump(from: &TcpStream, to: &TcpStream, moved: &AtomicU64) -> Result<(), Broken> {
    loop {
        poll_fn(|context| from.poll_read_ready(context)).await?;
        let step = scratch(|buffer| -> io::Result<Option<(usize, Bytes)>> {
            let Some(length) = read(from, buffer)? else {
                return Ok(None);
            };
            let read = buffer.get(..length).unwrap_or_default();
            let written = match to.try_write(read) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                written => written?,
            };
            // Only what the other side does not take at once is kept.
            Ok(Some((
                length,
                Bytes::copy_from_slice(read.get(written..).unwrap_or_default()),
            )))
        })?;
        match step {
            Some((0, _)) => return Ok(finish(to)?),
            Some((length, rest)) => {
                write_all(to, rest).await?;
                moved.fetch_add(length as u64, Relaxed);
            }
            None => {}
        }
    }
}

async fn write_all(to: &TcpStream, mut rest: Bytes) -> Result<(), Broken> {
    while !rest.is_empty() {
        poll_fn(|context| to.poll_write_ready(context)).await?;
        match to.try_write(&rest) {
            Ok(written) => rest.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
