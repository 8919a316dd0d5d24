//! Streams of bytes to destinations: HBONE with our own identity, or plain TCP.

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use act::{
    certs::{BoxFuture, Certificates},
    hbone::{Connect, Pool, Target, Traceparent, baggage},
    net::Dialer,
};
use decide::model::{Identity, Refusal, Workload};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};

/// Bytes to read and write.
pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Where a stream of bytes leads. Two that differ in anything never share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Destination {
    /// The address and port that is asked for.
    pub(crate) address: SocketAddr,
    /// The tunnel it is asked for through; `None`: plain TCP to the address itself.
    pub(crate) tunnel: Option<Tunnel>,
}

/// The HBONE end of a [`Destination`].
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Tunnel {
    /// Where to dial.
    pub(crate) dial: SocketAddr,
    /// Who must answer.
    pub(crate) expected: Identity,
    /// UID of the pod there.
    pub(crate) workload: Arc<str>,
}

/// A stream of bytes.
pub(crate) struct Reached {
    /// The bytes.
    pub(crate) io: Box<dyn Io>,
    /// When it should carry nothing new any more: the leaf it rests on ends.
    pub(crate) until: Option<Instant>,
}

/// Whoever makes streams of bytes.
pub(crate) trait Reach: Send + Sync {
    /// Connects `own` to a destination, within a deadline of its own. `trace` is what a tunnel there is told: of
    /// one connection; nothing where many share it.
    fn reach<'a>(
        &'a self,
        own: &'a Workload,
        to: &'a Destination,
        trace: Option<Traceparent>,
    ) -> BoxFuture<'a, Result<Reached, Refusal>>;
}

/// The real network.
pub(crate) struct Network {
    /// Our tunnels.
    pub(crate) pool: Pool,
    /// Our leaves.
    pub(crate) certificates: Certificates,
    /// Who we are.
    pub(crate) identity: Identity,
    /// Makes our sockets.
    pub(crate) dialer: Dialer,
    /// How long a plain connect may take.
    pub(crate) patience: Duration,
}

impl Reach for Network {
    fn reach<'a>(
        &'a self,
        own: &'a Workload,
        to: &'a Destination,
        trace: Option<Traceparent>,
    ) -> BoxFuture<'a, Result<Reached, Refusal>> {
        Box::pin(async move {
            match &to.tunnel {
                Some(tunnel) => self.through(own, to.address, tunnel, trace).await,
                None => self.plain(to.address).await,
            }
        })
    }
}

impl Network {
    async fn through(
        &self,
        own: &Workload,
        authority: SocketAddr,
        tunnel: &Tunnel,
        traceparent: Option<Traceparent>,
    ) -> Result<Reached, Refusal> {
        let leaf = timeout(self.patience, self.certificates.leaf(&self.identity))
            .await
            .map_err(|_| no_certificate(&self.identity, "none arrived in time"))?
            .map_err(|error| no_certificate(&self.identity, &error.to_string()))?;
        let left = leaf.not_after.duration_since(SystemTime::now()).unwrap_or_default();
        let source_address = own
            .addresses
            .iter()
            .find(|address| address.is_ipv4() == tunnel.dial.is_ipv4())
            .or_else(|| own.addresses.first())
            .copied()
            .unwrap_or_else(|| Ipv4Addr::UNSPECIFIED.into());
        let target = Target {
            source: own.uid.clone(),
            source_address,
            leaf,
            dialer: self.dialer.clone(),
            expected: tunnel.expected.clone(),
            workload: tunnel.workload.clone(),
            address: tunnel.dial,
        };
        let connect = Connect {
            authority,
            client: SocketAddr::new(source_address, 0),
            host: None,
            baggage: baggage(own),
            traceparent,
        };
        let stream = self.pool.open(&target, &connect).await?;
        Ok(Reached {
            io: Box::new(stream.into_io()),
            until: Some(Instant::now() + left),
        })
    }

    async fn plain(&self, address: SocketAddr) -> Result<Reached, Refusal> {
        let socket = timeout(self.patience, self.dialer.connect(address))
            .await
            .map_err(|_| Refusal::DeadlineExceeded(format!("connecting {address}").into()))?
            .map_err(|error| Refusal::ConnectFailed(address, error.to_string().into()))?;
        Ok(Reached {
            io: Box::new(socket),
            until: None,
        })
    }
}

fn no_certificate(identity: &Identity, why: &str) -> Refusal {
    Refusal::NoCertificate(identity.clone(), why.into())
}

impl fmt::Debug for Reached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Reached")
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}
