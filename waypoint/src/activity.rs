//! What happens on one client's stream, as its timers need to know it.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

/// Requests in flight, and when bytes last moved.
#[derive(Debug)]
pub(crate) struct Activity {
    since: Instant,
    in_flight: AtomicU32,
    /// Milliseconds from `since`, plus one, to the first byte of a head that is not complete; 0: none.
    head: AtomicU64,
    /// Milliseconds from `since` to the last byte or request.
    last: AtomicU64,
    read: AtomicU64,
    written: AtomicU64,
}

/// A request in flight.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Activity>);

/// A client's bytes: those read already, then the stream's; every read and write is noted.
#[derive(Debug)]
pub(crate) struct Watched<T> {
    first: Bytes,
    io: T,
    activity: Arc<Activity>,
}

impl Activity {
    /// Nothing yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            since: Instant::now(),
            in_flight: AtomicU32::new(0),
            head: AtomicU64::new(0),
            last: AtomicU64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
        })
    }

    /// A head is complete: its request is in flight.
    pub(crate) fn request(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.head.store(0, Relaxed);
        self.touch();
        InFlight(self.clone())
    }

    /// Requests in flight.
    pub(crate) fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// How long a head has been incomplete, if one is.
    pub(crate) fn incomplete_head(&self) -> Option<Duration> {
        let begun = self.head.load(Relaxed).checked_sub(1)?;
        Some(Duration::from_millis(self.now().saturating_sub(begun)))
    }

    /// How long nothing has moved and no request has been in flight.
    pub(crate) fn idle(&self) -> Duration {
        if self.in_flight.load(Relaxed) > 0 {
            return Duration::ZERO;
        }
        self.silent()
    }

    /// How long nothing has moved.
    pub(crate) fn silent(&self) -> Duration {
        Duration::from_millis(self.now().saturating_sub(self.last.load(Relaxed)))
    }

    /// Bytes from the client and to it, so far.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.read.load(Relaxed), self.written.load(Relaxed))
    }

    fn was_read(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Relaxed);
        self.touch();
        if bytes > 0 && self.in_flight.load(Relaxed) == 0 && self.head.load(Relaxed) == 0 {
            self.head.store(self.now() + 1, Relaxed);
        }
    }

    fn was_written(&self, bytes: usize) {
        self.written.fetch_add(bytes as u64, Relaxed);
        self.touch();
    }

    fn touch(&self) {
        self.last.store(self.now(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
        self.0.touch();
    }
}

impl<T> Watched<T> {
    /// `io`, of which `first` was read already.
    pub(crate) fn new(first: Bytes, io: T, activity: Arc<Activity>) -> Self {
        Self { first, io, activity }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        if this.first.is_empty() {
            ready!(Pin::new(&mut this.io).poll_read(context, into))?;
        } else {
            let length = this.first.len().min(into.remaining());
            into.put_slice(this.first.get(..length).unwrap_or_default());
            this.first.advance(length);
        }
        this.activity.was_read(into.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, from))?;
        self.activity.was_written(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_head_is_incomplete_from_its_first_byte_until_its_request() {
        let activity = Activity::new();
        let (mut client, server) = duplex(64);
        let mut watched = Watched::new(Bytes::new(), server, activity.clone());
        assert_eq!(activity.incomplete_head(), None);
        client.write_all(b"GET").await.unwrap();
        watched.read_exact(&mut [0; 3]).await.unwrap();
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(activity.incomplete_head(), Some(Duration::from_secs(7)));
        let request = activity.request();
        assert_eq!(activity.incomplete_head(), None);
        tokio::time::advance(Duration::from_secs(7)).await;
        assert_eq!(activity.idle(), Duration::ZERO);
        drop(request);
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(activity.idle(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_before_comes_first_and_everything_is_counted() {
        let activity = Activity::new();
        let (mut client, server) = duplex(64);
        let mut watched = Watched::new(Bytes::from_static(b"ab"), server, activity.clone());
        client.write_all(b"cd").await.unwrap();
        let mut read = [0; 4];
        watched.read_exact(&mut read).await.unwrap();
        watched.write_all(b"xyz").await.unwrap();
        assert_eq!(&read, b"abcd");
        assert_eq!(activity.bytes(), (4, 3));
    }
}
