use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use decide::model::Refusal;
use futures_util::future::join_all;
use tokio::{
    sync::{Notify, oneshot},
    time::{Instant, advance, sleep, timeout},
};

use super::*;

fn refused() -> Refusal {
    Refusal::ConnectFailed(key().address, "refused".into())
}

#[tokio::test(start_paused = true)]
async fn callers_to_a_dead_peer_all_fail_at_the_one_deadline() {
    let (pool, dials) = (pool(), AtomicUsize::new(0));
    let dial = || -> BoxFuture<Result<Transport, Refusal>> {
        dials.fetch_add(1, Relaxed);
        Box::pin(pending())
    };
    let start = Instant::now();
    let (key, connect) = (key(), connect());
    let failures = join_all((0..50).map(|_| async {
        let failure = pool.open_by(&key, &dial, &connect).await.expect_err("nobody answers");
        (failure, start.elapsed())
    }))
    .await;
    for (failure, after) in failures {
        let Refusal::DeadlineExceeded(why) = &failure else {
            panic!("{failure}");
        };
        assert!(
            why.contains("NetworkPolicy"),
            "a silent peer's likely cause is named: {why}"
        );
        assert_eq!(after, Duration::from_secs(10));
    }
    assert_eq!(dials.load(Relaxed), 1);
    assert!(pool.is_forgotten());
}

#[tokio::test(start_paused = true)]
async fn a_failed_dial_wakes_every_waiter_at_once_and_the_next_caller_dials_again() {
    let (pool, fail, dials) = (pool(), Arc::new(Notify::new()), AtomicUsize::new(0));
    let dial = || -> BoxFuture<Result<Transport, Refusal>> {
        dials.fetch_add(1, Relaxed);
        let fail = fail.clone();
        Box::pin(async move {
            fail.notified().await;
            Err(refused())
        })
    };
    let start = Instant::now();
    let (key, connect) = (key(), connect());
    let callers = join_all((0..50).map(|_| pool.open_by(&key, &dial, &connect)));
    let (failures, ()) = tokio::join!(callers, async {
        sleep(Duration::from_secs(1)).await;
        fail.notify_one();
    });
    assert_eq!(start.elapsed(), Duration::from_secs(1));
    assert!(failures.into_iter().all(|it| it.expect_err("refused") == refused()));
    fail.notify_one();
    assert!(pool.open_by(&key, &dial, &connect).await.is_err());
    assert_eq!(dials.load(Relaxed), 2);
    assert!(pool.is_forgotten());
}

struct OnDrop(Arc<AtomicBool>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dial_is_given_up_when_the_last_waiter_leaves_and_not_before() {
    let (pool, given_up) = (pool(), Arc::new(AtomicBool::new(false)));
    let dial = {
        let given_up = given_up.clone();
        move || -> BoxFuture<Result<Transport, Refusal>> {
            let guard = OnDrop(given_up.clone());
            Box::pin(async move {
                let _guard = guard;
                pending().await
            })
        }
    };
    let wait = |patience| {
        let (pool, dial) = (pool.clone(), dial.clone());
        tokio::spawn(async move {
            timeout(patience, pool.open_by(&key(), &dial, &connect()))
                .await
                .is_err()
        })
    };
    let (first, second) = (wait(Duration::from_secs(1)), wait(Duration::from_secs(2)));
    assert!(first.await.expect("runs"), "left");
    assert!(!given_up.load(Relaxed), "somebody still waits");
    assert!(second.await.expect("runs"), "left");
    assert!(given_up.load(Relaxed));
    assert!(pool.is_forgotten());
}

#[tokio::test(start_paused = true)]
async fn streams_share_a_tunnel_until_its_cap_and_then_a_second_one_is_made() {
    let (far, mut incoming) = Far::new();
    let mut options = PoolOptions::default();
    options.tunnel.streams_used = 3;
    let pool = Pool::new(options);
    tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = incoming.recv().await {
            kept.push(incoming.accept());
        }
    });
    let open = join_all((0..7).map(|_| far.open(&pool))).await;
    assert!(open.iter().all(Result::is_ok));
    assert_eq!((far.dials(), pool.tunnels()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn tunnels_are_bounded() {
    let (far, _incoming) = Far::new();
    let pool = Pool::new(PoolOptions {
        tunnels: 1,
        ..PoolOptions::default()
    });
    let other = Key {
        workload: "another-uid".into(),
        ..key()
    };
    let (first, connect) = (key(), connect());
    let dial = || far.dial();
    let (waits, refused) = tokio::join!(
        pool.open_by(&first, &dial, &connect),
        pool.open_by(&other, &dial, &connect)
    );
    assert!(matches!(refused, Err(Refusal::Overloaded(_))));
    assert!(matches!(waits, Err(Refusal::DeadlineExceeded(_))));
}

#[tokio::test(start_paused = true)]
async fn every_part_of_the_key_separates_tunnels() {
    let (far, mut incoming) = Far::new();
    tokio::spawn(async move {
        while let Some(incoming) = incoming.recv().await {
            incoming.refuse(&Refusal::NotConfigured);
        }
    });
    let keys = [
        key(),
        Key {
            source: "x".into(),
            ..key()
        },
        Key {
            source_address: IpAddr::from([10, 1, 0, 9]),
            ..key()
        },
        Key {
            serial: "0b".into(),
            ..key()
        },
        Key {
            expected: "spiffe://cluster.local/ns/shop/sa/x".parse().expect("an identity"),
            ..key()
        },
        Key {
            workload: "x".into(),
            ..key()
        },
        Key {
            address: "10.1.0.3:15008".parse().expect("an address"),
            ..key()
        },
        Key { apart: 1, ..key() },
    ];
    let pool = pool();
    for key in &keys {
        let _ = pool.open_by(key, &|| far.dial(), &connect()).await;
        let _ = pool.open_by(key, &|| far.dial(), &connect()).await;
    }
    assert_eq!((far.dials(), pool.tunnels()), (keys.len(), keys.len()));
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_past_its_leafs_end_takes_no_new_stream_and_keeps_those_it_has() {
    let (mut far, mut incoming) = Far::new();
    far.life = Duration::from_secs(60);
    let pool = pool();
    let (old, old_far) = far.pair(&pool, &mut incoming).await;
    assert_eq!(far.dials(), 1);
    advance(Duration::from_secs(61)).await;
    let _new = far.pair(&pool, &mut incoming).await;
    assert_eq!(far.dials(), 2);
    let ((_in, mut sender), (mut receiver, _out)) = (old.split(), old_far.split());
    sender.write("still here".into()).await.expect("lives");
    assert_eq!(
        receiver.chunk().await.expect("lives").as_deref(),
        Some(b"still here".as_slice())
    );
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_that_said_goaway_gets_no_new_stream() {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let (old, old_far) = far.pair(&pool, &mut incoming).await;
    far.drain.notify_one();
    sleep(Duration::from_millis(100)).await;
    let _new = far.pair(&pool, &mut incoming).await;
    drop((old, old_far));
    timeout(Duration::from_secs(10), far.ended.notified())
        .await
        .expect("the old one ends when it is empty");
    assert_eq!(far.dials(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_without_streams_ends_after_its_idle_time_on_both_sides() {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let pair = far.pair(&pool, &mut incoming).await;
    sleep(HOUR / 2).await;
    assert_eq!(pool.tunnels(), 1, "a tunnel with a stream is not idle");
    drop(pair);
    sleep(Duration::from_secs(250)).await;
    assert_eq!(pool.tunnels(), 1);
    timeout(Duration::from_secs(100), far.ended.notified())
        .await
        .expect("ends");
    assert!(pool.is_forgotten());
}

#[tokio::test(start_paused = true)]
async fn a_silent_peer_is_found_dead_by_ping() {
    let (pool, silent) = (pool(), Arc::new(Notify::new()));
    let (sender, far) = oneshot::channel();
    let sender = std::sync::Mutex::new(Some(sender));
    let dial = || -> BoxFuture<Result<Transport, Refusal>> {
        let (near, far) = tokio::io::duplex(PIPE);
        let sender = sender.lock().expect("whole").take().expect("one dial");
        assert!(sender.send(far).is_ok());
        Box::pin(async move { Ok(Transport::new(near, SystemTime::now() + HOUR)) })
    };
    let (opened, mut stream, pipe) = {
        let (key, connect) = (key(), connect());
        let serving = async {
            let far = far.await.expect("dialled");
            let (pipe, behind) = Pipe::between(far, silent.clone());
            let mut tunnel = Tunnel::over(
                Transport::new(behind, SystemTime::now() + HOUR),
                &TunnelOptions::default(),
            )
            .await
            .expect("speaks HTTP/2");
            let stream = tunnel.next().await.expect("a CONNECT").accept().expect("accepts");
            let driven = tokio::spawn(async move { while tunnel.next().await.is_some() {} });
            (stream, pipe, driven)
        };
        let (opened, (stream, pipe, _)) = tokio::join!(pool.open_by(&key, &dial, &connect), serving);
        (opened.expect("opens"), stream.split().0, pipe)
    };
    let start = Instant::now();
    silent.notify_one();
    let (mut receiver, _sender) = opened.split();
    assert!(receiver.chunk().await.is_err(), "the tunnel is dead");
    assert!(start.elapsed() <= Duration::from_secs(31), "{:?}", start.elapsed());
    assert!(stream.chunk().await.is_err());
    drop(pipe);
    while !pool.is_forgotten() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Passes bytes on until it is told to swallow them.
struct Pipe;

impl Pipe {
    fn between(io: DuplexStream, silent: Arc<Notify>) -> (tokio::task::JoinHandle<()>, DuplexStream) {
        let (near, far) = tokio::io::duplex(PIPE);
        let task = tokio::spawn(async move {
            let (mut io, mut near) = (io, near);
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut io, &mut near) => {}
                () = silent.notified() => pending().await,
            }
        });
        (task, far)
    }
}

#[tokio::test(start_paused = true)]
async fn a_connect_nobody_answers_fails_at_the_deadline_and_the_tunnel_lives_on() {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let start = Instant::now();
    match far.open(&pool).await {
        Err(Refusal::DeadlineExceeded(why)) => assert!(why.contains("brought no answer"), "it was reached: {why}"),
        other => panic!("{:?}", other.map(drop)),
    }
    assert_eq!(start.elapsed(), Duration::from_secs(10));
    let mut unanswered = incoming.recv().await.expect("asked");
    timeout(Duration::from_secs(1), unanswered.gone())
        .await
        .expect("given up");
    let _pair = far.pair(&pool, &mut incoming).await;
    assert_eq!(far.dials(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_arrives_with_status_label_and_reason() {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let (refused, ()) = tokio::join!(far.open(&pool), async {
        incoming
            .recv()
            .await
            .expect("asked")
            .refuse(&Refusal::ReservedPort(15008));
    });
    assert_eq!(
        refused.expect_err("refused"),
        Refusal::RefusedByPeer(400, "RESERVED_PORT: port 15008 belongs to the mesh itself".into())
    );
}
