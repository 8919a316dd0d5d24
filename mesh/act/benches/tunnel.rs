//! The way of bytes over loopback on one thread: socket, relay, tunnel over mutual TLS, relay, socket. And how many
//! full handshakes one thread makes, both ends included. Ratios between figures of one run mean something.

use std::{future::pending, net::SocketAddr, sync::Arc, time::Duration};

use act::{
    certs::{Leaf, local::LocalAuthority},
    hbone::{Connect, Patience, Pool, PoolOptions, Stream, Target, Tunnel, TunnelOptions, relay},
    net::{Dialer, SocketOptions},
    tls,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use decide::model::Identity;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::mpsc,
};

const BULK: usize = 64 << 20;
const MESSAGE: usize = 200;

struct Bench {
    leaves: (Arc<Leaf>, Arc<Leaf>),
    pool: Pool,
    address: SocketAddr,
    accepted: mpsc::UnboundedReceiver<Stream>,
}

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "bench", account).expect("an identity")
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

impl Bench {
    async fn new() -> Self {
        let authority = LocalAuthority::new().expect("an authority");
        let leaf = |account| authority.leaf(&identity(account)).expect("a leaf");
        let leaves = (leaf("client"), leaf("server"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound");
        let (give, accepted) = mpsc::unbounded_channel();
        let server = leaves.1.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                local(&socket);
                let (server, give) = (server.clone(), give.clone());
                tokio::spawn(async move {
                    let accepted = Tunnel::accept(socket, &server, &TunnelOptions::default()).await;
                    let (mut tunnel, _) = accepted.expect("a tunnel");
                    while let Some(incoming) = tunnel.next().await {
                        let _ = give.send(incoming.accept().expect("accepts"));
                    }
                });
            }
        });
        Self {
            leaves,
            pool: Pool::new(PoolOptions::default()),
            address,
            accepted,
        }
    }

    async fn streams(&mut self) -> (Stream, Stream) {
        let target = Target {
            source: "client".into(),
            source_address: self.address.ip(),
            leaf: self.leaves.0.clone(),
            dialer: Dialer {
                options: SocketOptions::default().local(),
                ..Dialer::own()
            },
            expected: identity("server"),
            workload: "server".into(),
            address: self.address,
        };
        let connect = Connect {
            authority: self.address,
            client: self.address,
            host: None,
            baggage: None,
            traceparent: None,
        };
        let (near, far) = tokio::join!(self.pool.open(&target, &connect), self.accepted.recv());
        (near.expect("opens"), far.expect("accepted"))
    }

    /// The two ends of a relayed connection.
    async fn way(&mut self) -> (TcpStream, TcpStream) {
        let (near, far) = self.streams().await;
        let ((client, client_far), (server_near, server)) = (sockets().await, sockets().await);
        for (socket, stream) in [(client_far, near), (server_near, far)] {
            tokio::spawn(async move { relay(socket, stream, &Patience::default(), pending(), &mut |_, _| {}).await });
        }
        (client, server)
    }
}

fn local(socket: &TcpStream) {
    SocketOptions::default().local().apply(socket).expect("applies");
}

async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (near, far) = (near.expect("connects"), far.expect("accepts").0);
    local(&near);
    local(&far);
    (near, far)
}

fn bulk(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("bulk");
    group.sample_size(10).throughput(Throughput::Bytes(BULK as u64));
    for streams in [1, 4, 16] {
        let runtime = runtime();
        let mut ways = runtime.block_on(async {
            let mut bench = Bench::new().await;
            let mut ways = Vec::new();
            for _ in 0..streams {
                ways.push(bench.way().await);
            }
            (ways, bench)
        });
        group.bench_function(format!("{streams} streams"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let share = BULK / streams;
                    let tasks = std::mem::take(&mut ways.0).into_iter().map(|(mut client, mut server)| {
                        tokio::spawn(async move {
                            let writing = tokio::spawn(async move {
                                let text = vec![7; 128 << 10];
                                for _ in 0..share / text.len() {
                                    client.write_all(&text).await.expect("writes");
                                }
                                client
                            });
                            let (mut read, mut buffer) = (0, vec![0; 128 << 10]);
                            while read < share {
                                read += server.read(&mut buffer).await.expect("reads");
                            }
                            (writing.await.expect("runs"), server)
                        })
                    });
                    for task in tasks.collect::<Vec<_>>() {
                        ways.0.push(task.await.expect("runs"));
                    }
                });
            });
        });
    }
    group.finish();
}

fn messages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("messages");
    group.sample_size(10);
    for streams in [1usize, 64] {
        let runtime = runtime();
        let mut ways = runtime.block_on(async {
            let mut bench = Bench::new().await;
            let mut ways = Vec::new();
            for _ in 0..streams {
                ways.push(bench.way().await);
            }
            (ways, bench)
        });
        let each = 4096 / streams;
        group.throughput(Throughput::Elements((each * streams) as u64));
        group.bench_function(format!("{streams} streams, there and back"), |bencher| {
            bencher.iter(|| {
                runtime.block_on(async {
                    let tasks = std::mem::take(&mut ways.0).into_iter().map(|(mut client, mut server)| {
                        tokio::spawn(async move {
                            let answering = tokio::spawn(async move {
                                let mut buffer = [0; MESSAGE];
                                for _ in 0..each {
                                    server.read_exact(&mut buffer).await.expect("reads");
                                    server.write_all(&buffer).await.expect("writes");
                                }
                                server
                            });
                            let mut buffer = [7; MESSAGE];
                            for _ in 0..each {
                                client.write_all(&buffer).await.expect("writes");
                                client.read_exact(&mut buffer).await.expect("reads");
                            }
                            (client, answering.await.expect("runs"))
                        })
                    });
                    for task in tasks.collect::<Vec<_>>() {
                        ways.0.push(task.await.expect("runs"));
                    }
                });
            });
        });
    }
    group.finish();
}

fn connections(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("connections");
    let runtime = runtime();
    let mut bench = runtime.block_on(Bench::new());
    group.bench_function("a stream opened and reset", |bencher| {
        bencher.iter(|| runtime.block_on(async { drop(bench.streams().await) }));
    });
    let (client, server) = bench.leaves.clone();
    let expected = identity("server");
    group.measurement_time(Duration::from_secs(5));
    group.bench_function("a full handshake, both ends", |bencher| {
        bencher.iter(|| {
            runtime.block_on(async {
                let (near, far) = tokio::io::duplex(64 << 10);
                let (client, server) = tokio::join!(tls::connect(&client, near, &expected), tls::accept(&server, far));
                (client.expect("connects"), server.expect("accepts"))
            })
        });
    });
    group.finish();
}

criterion_group!(benches, bulk, messages, connections);
criterion_main!(benches);
