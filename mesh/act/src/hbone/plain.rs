//! Between two sockets: copied at first, spliced once it is bulk.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use bytes::{Buf, Bytes};
use tokio::{io::Interest, net::TcpStream};

use super::{
    Budget, Patience,
    patience::{Broken, Count, Fragile, Progress, both},
    pipe::{PIPE, Pipe},
    socket::{SCRATCH, finish, read, scratch},
    turn::Turn,
};
use crate::telemetry::Outcome;

/// Bytes after which a direction is bulk: below, a pipe costs more than it saves.
const BULK: u64 = 256 * 1024;

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
        pin!(pump(&client.socket, &server.socket, &progress.forth, patience)),
        pin!(pump(&server.socket, &client.socket, &progress.back, patience)),
        &client.socket,
        pin!(stop),
        (&progress, patience, count),
    )
    .await;
    client.settle(&outcome);
    server.settle(&outcome);
    outcome
}

/// What one step of a direction came to.
enum Step {
    Moved(usize),
    /// There was nothing after all.
    Nothing,
    Ended,
}

async fn pump(from: &TcpStream, to: &TcpStream, moved: &AtomicU64, patience: &Patience) -> Result<(), Broken> {
    let mut turn = Turn::new();
    loop {
        poll_fn(|context| from.poll_read_ready(context)).await?;
        let bulk = moved.load(Relaxed) >= BULK;
        // Where no pipe is to be had, bulk is copied as well.
        let step = match bulk.then(|| Pipe::take(patience.pipes)).flatten() {
            Some(pipe) => splice(from, to, (pipe, &patience.budget), moved).await?,
            None => copy(from, to, &patience.budget, moved).await?,
        };
        match step {
            Step::Moved(bytes) => turn.spend(bytes).await,
            Step::Nothing => {}
            Step::Ended => return Ok(finish(to)?),
        }
    }
}

async fn copy(from: &TcpStream, to: &TcpStream, budget: &Budget, moved: &AtomicU64) -> Result<Step, Broken> {
    let room = budget.room(SCRATCH);
    let read = scratch(|buffer| -> io::Result<Option<(usize, Bytes)>> {
        let buffer = buffer.get_mut(..room).unwrap_or_default();
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
    match read {
        Some((0, _)) => Ok(Step::Ended),
        Some((length, rest)) => {
            let _held = budget.hold(rest.len());
            write_all(to, rest).await?;
            moved.fetch_add(length as u64, Relaxed);
            Ok(Step::Moved(length))
        }
        None => Ok(Step::Nothing),
    }
}

async fn splice(
    from: &TcpStream,
    to: &TcpStream,
    (mut pipe, budget): (Pipe, &Budget),
    moved: &AtomicU64,
) -> Result<Step, Broken> {
    let room = budget.room(PIPE);
    // An empty pipe always has room: what would block is the socket.
    let filled = match from.try_io(Interest::READABLE, || pipe.fill(from, room)) {
        Ok(0) => return Ok(Step::Ended),
        Ok(filled) => filled,
        Err(error) if is_for_now(&error) => return Ok(Step::Nothing),
        Err(error) => return Err(error.into()),
    };
    let _held = budget.hold(filled);
    while pipe.held() > 0 {
        poll_fn(|context| to.poll_write_ready(context)).await?;
        match to.try_io(Interest::WRITABLE, || pipe.drain(to)) {
            Ok(passed) => drop(moved.fetch_add(passed as u64, Relaxed)),
            Err(error) if is_for_now(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Step::Moved(filled))
}

fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
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

#[cfg(test)]
mod tests;
