//! Tunnels in memory: a pool on one side, a server on the other.

mod load;
mod pool;
mod relay;
mod streams;
mod turns;
mod wire;

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use decide::model::Refusal;
use tokio::{
    io::DuplexStream,
    sync::{Notify, mpsc},
};

use super::{Connect, Incoming, Key, Pool, PoolOptions, Stream, Transport, Tunnel, TunnelOptions, pool::BoxFuture};

const PIPE: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

/// The peer that a pool's tunnels lead to.
#[derive(Clone)]
struct Far {
    dials: Arc<AtomicUsize>,
    life: Duration,
    options: TunnelOptions,
    incoming: mpsc::UnboundedSender<Incoming>,
    drain: Arc<Notify>,
    ended: Arc<Notify>,
}

impl Far {
    fn new() -> (Self, mpsc::UnboundedReceiver<Incoming>) {
        let (incoming, received) = mpsc::unbounded_channel();
        let far = Self {
            dials: Arc::default(),
            life: HOUR,
            options: TunnelOptions::default(),
            incoming,
            drain: Arc::default(),
            ended: Arc::default(),
        };
        (far, received)
    }

    fn dials(&self) -> usize {
        self.dials.load(Relaxed)
    }

    /// Dials it: a pipe, with a server at its other end.
    fn dial(&self) -> BoxFuture<Result<Transport, Refusal>> {
        self.dials.fetch_add(1, Relaxed);
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(self.clone().serve(far));
        let until = SystemTime::now() + self.life;
        Box::pin(async move { Ok(Transport::new(near, until)) })
    }

    async fn serve(self, io: DuplexStream) {
        let mut tunnel = Tunnel::over(Transport::new(io, SystemTime::now() + HOUR), &self.options)
            .await
            .expect("speaks HTTP/2");
        loop {
            tokio::select! {
                incoming = tunnel.next() => match incoming {
                    Some(incoming) => { let _ = self.incoming.send(incoming); }
                    None => break,
                },
                () = self.drain.notified() => tunnel.drain(),
            }
        }
        self.ended.notify_one();
    }

    async fn open(&self, pool: &Pool) -> Result<Stream, Refusal> {
        pool.open_by(&key(), &|| self.dial(), &connect()).await
    }

    /// Both ends of an accepted stream.
    async fn pair(&self, pool: &Pool, incoming: &mut mpsc::UnboundedReceiver<Incoming>) -> (Stream, Stream) {
        let (near, accepted) = tokio::join!(self.open(pool), async {
            incoming.recv().await.expect("asked").accept()
        });
        (near.expect("opens"), accepted.expect("accepts"))
    }
}

fn pool() -> Pool {
    Pool::new(PoolOptions::default())
}

fn key() -> Key {
    Key {
        source: "client-uid".into(),
        source_address: IpAddr::from([10, 1, 0, 1]),
        serial: "0a".into(),
        expected: "spiffe://cluster.local/ns/shop/sa/echo".parse().expect("an identity"),
        workload: "echo-uid".into(),
        address: "10.1.0.2:15008".parse().expect("an address"),
        apart: 0,
    }
}

fn connect() -> Connect {
    Connect {
        authority: "10.1.0.2:8080".parse().expect("an address"),
        client: "10.1.0.1:40000".parse().expect("an address"),
        host: None,
        baggage: None,
        traceparent: None,
    }
}

/// Both ends of an accepted stream, and what holds their tunnel.
async fn streams() -> (Stream, Stream, Pool) {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let (near, accepted) = far.pair(&pool, &mut incoming).await;
    (near, accepted, pool)
}
