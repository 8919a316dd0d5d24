//! What waits in tunnels when nobody reads, or the peer takes nothing.

use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use http::Request;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{relay::sockets, *};
use crate::hbone::{Budget, Patience, Receiver, Sender, client::ClientTunnel, flow::Flow, relay};

const MIB: usize = 1 << 20;
const LONG: Duration = Duration::from_secs(120);

/// Sends so much on a stream, and holds both of its directions then.
async fn send(stream: Stream, length: usize) {
    let (_receiver, mut sender) = stream.split();
    for _ in 0..length / (64 << 10) {
        sender.write(Bytes::from(vec![7; 64 << 10])).await.expect("sends");
    }
    sender.finish().expect("ends");
    std::future::pending().await
}

/// Reads a stream to its end.
async fn read(receiver: &mut Receiver) -> usize {
    let mut length = 0;
    while let Some(chunk) = receiver.chunk().await.expect("arrives") {
        length += chunk.len();
        receiver.release(chunk.len());
    }
    length
}

/// Streams of one pool, and what their peers do.
struct Stage {
    pool: Pool,
    far: Far,
    incoming: mpsc::UnboundedReceiver<Incoming>,
    theirs: JoinSet<()>,
}

impl Stage {
    fn new(budget: &Budget) -> Self {
        let (far, incoming) = Far::new();
        Self {
            pool: Pool::new(PoolOptions {
                tunnel: TunnelOptions {
                    budget: budget.clone(),
                    ..TunnelOptions::default()
                },
                ..PoolOptions::default()
            }),
            far,
            incoming,
            theirs: JoinSet::new(),
        }
    }

    /// Our end of a stream in the tunnel of this number, whose peer sends so much.
    async fn receiving(&mut self, tunnel: usize, length: usize) -> (Receiver, Sender) {
        let key = Key {
            workload: format!("echo-{tunnel}").into(),
            ..key()
        };
        let Self {
            pool, far, incoming, ..
        } = self;
        let (near, accepted) = tokio::join!(
            async { pool.open_by(&key, &|| far.dial(), &connect()).await.expect("opens") },
            async { incoming.recv().await.expect("asked").accept().expect("accepts") },
        );
        self.theirs.spawn(send(accepted, length));
        near.split()
    }
}

/// Waits until what is held stays as it is.
async fn quiet(budget: &Budget) -> usize {
    let (mut before, mut same) = (usize::MAX, 0);
    while same < 20 {
        sleep(Duration::from_millis(10)).await;
        let held = budget.held();
        same = if held == before { same + 1 } else { 0 };
        before = held;
    }
    before
}

#[tokio::test]
async fn streams_that_nobody_reads_do_not_stall_their_tunnel() {
    let budget = Budget::new(1 << 30);
    let (mut stage, mut slow) = (Stage::new(&budget), Vec::new());
    for _ in 0..60 {
        slow.push(stage.receiving(0, 4 * MIB).await);
    }
    let held = timeout(LONG, quiet(&budget)).await.expect("comes to rest");
    assert!(
        held >= 8 * MIB,
        "more waits than the tunnel's window, of streams that nobody reads: {held}"
    );
    assert!(held < 40 * MIB, "and less than their windows together: {held}");
    let (mut one, _sender) = slow.pop().expect("60");
    assert_eq!(timeout(LONG, read(&mut one)).await.expect("moves"), 4 * MIB);
    let (mut later, _sender) = stage.receiving(0, 16 * MIB).await;
    assert_eq!(timeout(LONG, read(&mut later)).await.expect("moves"), 16 * MIB);
    assert_eq!(stage.far.dials(), 1);
    // Those that were slow lose nothing.
    for (receiver, _) in &mut slow {
        assert_eq!(timeout(LONG, read(receiver)).await.expect("moves"), 4 * MIB);
    }
    assert_eq!(timeout(LONG, quiet(&budget)).await.expect("comes to rest"), 0);
}

#[tokio::test]
async fn what_waits_in_a_pods_tunnels_stays_under_its_cap_and_its_other_streams_move() {
    let budget = Budget::default();
    let (most, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let watching = tokio::spawn({
        let (budget, most, over) = (budget.clone(), most.clone(), over.clone());
        async move {
            while !over.load(Relaxed) {
                most.fetch_max(budget.held(), Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    // Their windows together are 144 MiB.
    let (mut stage, mut slow) = (Stage::new(&budget), Vec::new());
    for at in 0..144 {
        slow.push(stage.receiving(at % 6, 2 * MIB).await);
    }
    assert_eq!(stage.far.dials(), 6);
    let held = timeout(LONG, quiet(&budget)).await.expect("comes to rest");
    assert!(held > 8 * MIB, "{held}");
    assert!(held <= budget.most(), "{held}");
    // Others of the same pod move: in a tunnel whose streams nobody reads, and in one of their own.
    for tunnel in [0, 6] {
        let (mut other, _sender) = stage.receiving(tunnel, 4 * MIB).await;
        assert_eq!(timeout(LONG, read(&mut other)).await.expect("moves"), 4 * MIB);
    }
    for (receiver, _) in &mut slow {
        assert_eq!(timeout(LONG, read(receiver)).await.expect("moves"), 2 * MIB);
    }
    assert_eq!(timeout(LONG, quiet(&budget)).await.expect("comes to rest"), 0);
    over.store(true, Relaxed);
    watching.await.expect("runs");
    let most = most.load(Relaxed);
    assert!(most <= budget.most(), "{most} bytes waited at one time");
}

#[tokio::test]
async fn each_of_16_bulk_streams_in_one_tunnel_gets_a_fair_part() {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let counts: Vec<Arc<AtomicUsize>> = (0..16).map(|_| Arc::default()).collect();
    let mut running = JoinSet::new();
    for count in &counts {
        let (near, accepted) = far.pair(&pool, &mut incoming).await;
        let ((mut client, client_far), (server_near, mut server)) = (sockets().await, sockets().await);
        for (socket, stream) in [(client_far, near), (server_near, accepted)] {
            running.spawn(async move {
                relay(
                    socket,
                    stream,
                    &Patience::default(),
                    std::future::pending(),
                    &mut |_, _| {},
                )
                .await;
            });
        }
        running.spawn(async move { while client.write_all(&[7; 64 << 10]).await.is_ok() {} });
        let count = count.clone();
        running.spawn(async move {
            let mut buffer = vec![0; 256 << 10];
            while let Ok(read @ 1..) = server.read(&mut buffer).await {
                count.fetch_add(read, Relaxed);
            }
        });
    }
    assert_eq!(far.dials(), 1);
    let parts = || counts.iter().map(|count| count.load(Relaxed)).collect::<Vec<_>>();
    let moved = async {
        while parts().iter().sum::<usize>() < 256 * MIB {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, moved).await.expect("moves");
    let parts = parts();
    let mean = parts.iter().sum::<usize>() / 16;
    assert!(parts.iter().all(|part| part * 4 >= mean), "{parts:?}");
}

#[tokio::test]
async fn what_a_peer_does_not_take_counts_until_its_tunnel_ends() {
    let budget = Budget::new(64 * MIB);
    let options = TunnelOptions {
        budget: budget.clone(),
        ..TunnelOptions::default()
    };
    let (near, far) = tokio::io::duplex(4096);
    let transport = Transport::new(near, SystemTime::now() + HOUR);
    let (tunnel, driving) = ClientTunnel::over(transport, false, &options);
    let driving = tokio::spawn(driving.run(|| false));
    let request = Request::builder().method("CONNECT").uri("10.0.0.1:80").body(());
    {
        let shared = tunnel.shared();
        let mut core = shared.lock();
        let number = core
            .endpoint
            .open(&request.expect("valid"), Flow::default())
            .expect("opens");
        assert_eq!(core.endpoint.send(number, &[7; 60_000]), 60_000);
        core.spend(number, 60_000);
    }
    let counted = async {
        while budget.held() < 50_000 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, counted).await.expect("counts");
    drop(far);
    driving.await.expect("ends");
    drop(tunnel);
    assert_eq!(budget.held(), 0);
}
