use std::{cell::Cell, future::pending, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::LocalSet,
    time::timeout,
};

use super::*;
use crate::hbone::{LEAST, pipe, turn::QUANTUM};

const LONG: Duration = Duration::from_secs(30);
const MANY: usize = 8 << 20;

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let client = TcpStream::connect(listener.local_addr().expect("bound"))
        .await
        .expect("connects");
    (client, listener.accept().await.expect("accepts").0)
}

/// A client and a server with a relay between them, in this thread.
async fn relayed(patience: Patience) -> (TcpStream, TcpStream, tokio::task::JoinHandle<Outcome>) {
    let (client, near) = pair().await;
    let (far, server) = pair().await;
    let relay =
        tokio::task::spawn_local(async move { relay_plain(near, far, &patience, pending(), &mut |_, _| {}).await });
    (client, server, relay)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).expect("small")).collect()
}

/// Sends many bytes both ways at once, and says how the relay ended.
async fn bulk_both_ways(patience: Patience) -> Outcome {
    let (client, server, relay) = relayed(patience).await;
    let (sent, expected) = (pattern(MANY), pattern(MANY));
    let side = async |socket: TcpStream| {
        let (mut read, mut write) = socket.into_split();
        let send = async {
            write.write_all(&sent).await.expect("writes");
            write.shutdown().await.expect("ends");
        };
        let receive = async {
            let mut got = Vec::new();
            read.read_to_end(&mut got).await.expect("reads");
            got
        };
        tokio::join!(send, receive).1
    };
    let (one, other) = timeout(LONG, async { tokio::join!(side(client), side(server)) })
        .await
        .expect("in time");
    assert!(one == expected && other == expected, "every byte in its place");
    timeout(LONG, relay).await.expect("ends").expect("runs")
}

#[tokio::test]
async fn bulk_is_spliced_whole_and_in_order_and_ends_in_order() {
    let all = async {
        assert_eq!(bulk_both_ways(Patience::default()).await, Outcome::Closed);
        assert!(pipe::kept() > 0, "it went through pipes, which are kept for the next");
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn without_pipes_bulk_is_copied() {
    let none = Patience {
        pipes: 0,
        ..Patience::default()
    };
    let all = async {
        assert_eq!(bulk_both_ways(none).await, Outcome::Closed);
        assert_eq!(pipe::kept(), 0);
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn what_is_small_takes_no_pipe() {
    let all = async {
        let (mut client, mut server, relay) = relayed(Patience::default()).await;
        for _ in 0..8 {
            client.write_all(b"ping").await.expect("writes");
            let mut got = [0; 4];
            server.read_exact(&mut got).await.expect("reads");
        }
        drop((client, server));
        timeout(LONG, relay).await.expect("ends").expect("runs");
        assert_eq!(pipe::kept(), 0);
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn a_reset_amid_spliced_bulk_is_passed_on_as_one() {
    let all = async {
        let (mut client, mut server, relay) = relayed(Patience::default()).await;
        let bulk = tokio::task::spawn_local(async move {
            let chunk = vec![7; 1 << 20];
            loop {
                if let Err(error) = client.write_all(&chunk).await {
                    return error.kind();
                }
            }
        });
        let mut got = vec![0; 4 << 20];
        server.read_exact(&mut got).await.expect("reads");
        crate::net::reset(server);
        let outcome = timeout(LONG, relay).await.expect("ends").expect("runs");
        assert!(matches!(outcome, Outcome::Reset(_)), "{outcome:?}");
        let told = timeout(LONG, bulk).await.expect("is told").expect("runs");
        assert_eq!(told, io::ErrorKind::ConnectionReset);
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn a_plain_connection_has_timers_for_silence_and_for_being_half_closed() {
    let short = Patience {
        idle: Duration::from_millis(200),
        half_closed: Duration::from_millis(100),
        tick: Duration::from_millis(20),
        ..Patience::default()
    };
    let all = async {
        for (half_closed, how) in [(false, "idle"), (true, "half-closed")] {
            let (mut client, _server, relay) = relayed(short.clone()).await;
            if half_closed {
                client.shutdown().await.expect("ends");
            }
            match timeout(LONG, relay).await.expect("ends").expect("runs") {
                Outcome::TimedOut(why) => assert!(why.starts_with(how), "{why}"),
                other => panic!("{other:?}"),
            }
        }
    };
    LocalSet::new().run_until(all).await;
}

/// Turns are counted, not time: another task of the same thread looks, each time it is its turn, how far the bulk has
/// come.
#[tokio::test]
async fn bulk_moves_no_more_than_its_share_between_two_turns_of_another_task() {
    for pipes in [0, 8] {
        let patience = Patience {
            pipes,
            ..Patience::default()
        };
        let all = async move {
            let (client, near) = pair().await;
            let (far, server) = pair().await;
            // Both ends live in threads of their own: the relay always has something to do.
            let feeding = std::thread::spawn(move || feed(client, 64 << 20));
            let eating = std::thread::spawn(move || eat(server));
            let moved = Rc::new(AtomicU64::new(0));
            let done = Rc::new(Cell::new(false));
            let pumping = tokio::task::spawn_local({
                let (moved, done) = (moved.clone(), done.clone());
                async move {
                    let pumped = pump(&near, &far, &moved, &patience).await;
                    done.set(true);
                    pumped
                }
            });
            let (mut last, mut most, mut turns) = (0, 0, 0);
            while !done.get() {
                tokio::task::yield_now().await;
                let now = moved.load(Relaxed);
                most = most.max(now - last);
                turns += u32::from(now > last);
                last = now;
            }
            pumping.await.expect("runs").expect("in order");
            feeding.join().expect("feeds");
            assert_eq!(eating.join().expect("eats"), 64 << 20);
            // A turn ends with the step that uses it up: one buffer, or one pipe.
            let step = (1 << 20) + QUANTUM as u64;
            assert!(most <= step, "{most} bytes in one turn");
            assert!(turns >= 32, "{turns} turns");
        };
        LocalSet::new().run_until(all).await;
    }
}

fn feed(socket: TcpStream, bytes: usize) {
    let mut socket = blocking(socket);
    let chunk = vec![1; 1 << 20];
    for _ in 0..bytes / chunk.len() {
        io::Write::write_all(&mut socket, &chunk).expect("writes");
    }
}

fn eat(socket: TcpStream) -> usize {
    let mut socket = blocking(socket);
    let mut buffer = vec![0; 1 << 20];
    let mut all = 0;
    loop {
        match io::Read::read(&mut socket, &mut buffer).expect("reads") {
            0 => return all,
            read => all += read,
        }
    }
}

fn blocking(socket: TcpStream) -> std::net::TcpStream {
    let socket = socket.into_std().expect("a socket");
    socket.set_nonblocking(false).expect("blocks");
    socket
}

#[tokio::test]
async fn beyond_a_pods_budget_its_flows_go_on_with_little_each() {
    let all = async {
        // Somebody else of the pod holds everything there is.
        let budget = Budget::new(1 << 20);
        let other = budget.hold(1 << 20);
        let patience = Patience {
            budget: budget.clone(),
            ..Patience::default()
        };
        let (mut client, mut server, _relay) = relayed(patience).await;
        let sent = pattern(1 << 20);
        let mut got = vec![0; sent.len()];
        let both = async { tokio::join!(client.write_all(&sent), server.read_exact(&mut got)) };
        let (wrote, read) = timeout(LONG, both).await.expect("in time");
        wrote.expect("writes");
        read.expect("reads");
        assert!(got == sent);
        assert!(budget.held() <= (1 << 20) + 2 * LEAST, "{}", budget.held());
        drop(other);
    };
    LocalSet::new().run_until(all).await;
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_one_step_of_its_pods_budget() {
    let all = async {
        let patience = Patience::default();
        let budget = patience.budget.clone();
        let (client, server, relay) = relayed(patience).await;
        let filling = tokio::task::spawn_local(async move {
            let mut client = client;
            let chunk = vec![1; 1 << 20];
            while client.write_all(&chunk).await.is_ok() {}
        });
        // Everything between them fills up, and then nothing moves any more.
        let mut before = usize::MAX;
        while budget.held() == 0 || budget.held() != before {
            before = budget.held();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(budget.held() <= PIPE, "{}", budget.held());
        drop(server);
        timeout(LONG, relay).await.expect("ends").expect("runs");
        timeout(LONG, filling).await.expect("ends").expect("runs");
        assert_eq!(budget.held(), 0);
    };
    LocalSet::new().run_until(all).await;
}
