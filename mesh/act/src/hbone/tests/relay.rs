use std::{future::pending, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

use super::*;
use crate::{
    hbone::{Patience, relay, relay_plain},
    net::{SocketOptions, reset},
    telemetry::Outcome,
};

const LONG: Duration = Duration::from_secs(30);

pub(super) async fn sockets() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let near = TcpStream::connect(listener.local_addr().expect("bound"))
        .await
        .expect("connects");
    let far = listener.accept().await.expect("accepts").0;
    SocketOptions::default().apply(&near).expect("applies");
    SocketOptions::default().apply(&far).expect("applies");
    (near, far)
}

type Relay = JoinHandle<(Outcome, u64, u64)>;

/// Client, its relay, the server's relay, server: the whole way of a connection.
async fn way(patience: &Patience) -> (TcpStream, Relay, Relay, TcpStream) {
    let (near, far, pool) = streams().await;
    let ((client, client_far), (server_near, server)) = (sockets().await, sockets().await);
    let run = |socket: TcpStream, stream: Stream, pool: Option<Pool>| {
        let patience = patience.clone();
        tokio::spawn(async move {
            let (mut forth, mut back) = (0, 0);
            let outcome = relay(socket, stream, &patience, pending(), &mut |more, less| {
                forth += more;
                back += less;
            })
            .await;
            drop(pool);
            (outcome, forth, back)
        })
    };
    (
        client,
        run(client_far, near, Some(pool)),
        run(server_near, far, None),
        server,
    )
}

async fn outcome(relay: Relay) -> (Outcome, u64, u64) {
    timeout(LONG, relay).await.expect("ends").expect("runs")
}

#[tokio::test]
async fn half_close_passes_and_bytes_are_counted_on_both_sides() {
    let (mut client, near, far, mut server) = way(&Patience::default()).await;
    client.write_all(b"question").await.expect("writes");
    client.shutdown().await.expect("ends");
    let mut asked = String::new();
    server.read_to_string(&mut asked).await.expect("reads");
    assert_eq!(asked, "question");
    assert!(!near.is_finished() && !far.is_finished());
    server.write_all(b"the answer").await.expect("writes");
    server.shutdown().await.expect("ends");
    let mut answered = String::new();
    client.read_to_string(&mut answered).await.expect("reads");
    assert_eq!(answered, "the answer");
    assert_eq!(outcome(near).await, (Outcome::Closed, 8, 10));
    assert_eq!(outcome(far).await, (Outcome::Closed, 10, 8));
}

/// A peer that answers and ends, and says that it needs no more once the answer was read, as proxies do whose
/// application is done.
async fn answers_and_leaves(io: DuplexStream, was_read: Arc<Notify>) {
    let mut server = h2::server::handshake(io).await.expect("speaks HTTP/2");
    let (_, mut answer) = server.accept().await.expect("asked").expect("a CONNECT");
    let mut body = answer.send_response(http::Response::new(()), false).expect("200");
    body.send_data("the answer".into(), true).expect("answers");
    tokio::select! {
        _ = server.accept() => panic!("nothing else is asked"),
        () = was_read.notified() => body.send_reset(h2::Reason::NO_ERROR),
    }
    server.accept().await;
}

#[tokio::test]
async fn a_peer_that_needs_no_more_ends_in_order() {
    let (pool, was_read) = (pool(), Arc::new(Notify::new()));
    let dial = || -> BoxFuture<_> {
        let (near, far) = tokio::io::duplex(PIPE);
        tokio::spawn(answers_and_leaves(far, was_read.clone()));
        Box::pin(async move { Ok(Transport::new(near, SystemTime::now() + HOUR)) })
    };
    let stream = pool.open_by(&key(), &dial, &connect()).await.expect("opens");
    let (mut client, near) = sockets().await;
    let patience = Patience::default();
    let mut count = |_, _| {};
    let relaying = relay(near, stream, &patience, pending(), &mut count);
    let reading = async {
        let mut answered = String::new();
        client.read_to_string(&mut answered).await.expect("ends in order");
        was_read.notify_one();
        answered
    };
    let (outcome, answered) = tokio::join!(timeout(LONG, relaying), reading);
    assert_eq!((answered.as_str(), outcome), ("the answer", Ok(Outcome::Closed)));
}

async fn is_reset(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 1024];
    loop {
        match timeout(LONG, socket.read(&mut buffer)).await.expect("told") {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
        }
    }
}

#[tokio::test]
async fn a_clients_reset_arrives_as_a_reset() {
    let (mut client, near, far, mut server) = way(&Patience::default()).await;
    client.write_all(b"x").await.expect("writes");
    assert_eq!(server.read_u8().await.expect("reads"), b'x');
    reset(client);
    assert!(is_reset(&mut server).await);
    assert!(matches!(outcome(near).await.0, Outcome::Reset(_)));
    assert!(matches!(outcome(far).await.0, Outcome::Reset(_)));
}

#[tokio::test]
async fn a_servers_reset_arrives_as_a_reset() {
    let (mut client, near, far, mut server) = way(&Patience::default()).await;
    client.write_all(b"x").await.expect("writes");
    assert_eq!(server.read_u8().await.expect("reads"), b'x');
    reset(server);
    assert!(is_reset(&mut client).await);
    assert!(matches!(outcome(near).await.0, Outcome::Reset(_)));
    assert!(matches!(outcome(far).await.0, Outcome::Reset(_)));
}

#[tokio::test]
async fn a_reset_after_half_close_still_arrives() {
    let (mut client, near, far, mut server) = way(&Patience::default()).await;
    client.write_all(b"x").await.expect("writes");
    client.shutdown().await.expect("ends");
    let mut asked = Vec::new();
    server.read_to_end(&mut asked).await.expect("reads");
    reset(client);
    assert!(matches!(outcome(near).await.0, Outcome::Reset(_)));
    assert!(matches!(outcome(far).await.0, Outcome::Reset(_)));
}

#[tokio::test]
async fn bulk_arrives_whole_both_ways_at_once() {
    let (client, near, far, server) = way(&Patience::default()).await;
    let run = |socket: TcpStream, seed: u8| {
        tokio::spawn(async move {
            let (mut reads, mut writes) = socket.into_split();
            let sent: Vec<u8> = (0..24u32 << 20).map(|it| (it % 251) as u8 ^ seed).collect();
            let writing = tokio::spawn(async move {
                writes.write_all(&sent).await.expect("writes");
                writes.shutdown().await.expect("ends");
            });
            let mut read = Vec::new();
            reads.read_to_end(&mut read).await.expect("reads");
            writing.await.expect("runs");
            read
        })
    };
    let (at_client, at_server) = tokio::join!(run(client, 1), run(server, 2));
    let whole = |read: Vec<u8>, seed: u8| {
        read.len() == 24 << 20 && read.iter().enumerate().all(|(at, it)| *it == (at % 251) as u8 ^ seed)
    };
    assert!(whole(at_client.expect("runs"), 2) && whole(at_server.expect("runs"), 1));
    assert_eq!(outcome(near).await, (Outcome::Closed, 24 << 20, 24 << 20));
    assert_eq!(outcome(far).await.0, Outcome::Closed);
}

#[tokio::test]
async fn many_small_frames_to_a_server_that_does_not_read_break_nothing() {
    let (near, far, _pool) = streams().await;
    let (server_near, mut server) = sockets().await;
    let mut filling = 0;
    while let Ok(written) = server_near.try_write(&[0; 64 << 10]) {
        filling += written;
    }
    let relaying =
        tokio::spawn(async move { relay(server_near, far, &Patience::default(), pending(), &mut |_, _| {}).await });
    let (mut receiver, mut sender) = near.split();
    // More frames than a tunnel suffers to wait unread, though the window still has room.
    let frames = 200_000;
    let mut sent = 0;
    while let Ok(credit) = timeout(Duration::from_millis(300), sender.credit(4)).await {
        credit.expect("lives");
        sender.send(b"tiny").expect("sends");
        sent += 1;
        if sent == frames {
            break;
        }
        if sent % 100 == 0 {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(sent, frames);
    sender.finish().expect("ends");
    let mut read = Vec::new();
    timeout(LONG, server.read_to_end(&mut read))
        .await
        .expect("flows")
        .expect("reads");
    assert_eq!(read.len(), filling + frames * 4);
    server.shutdown().await.expect("ends");
    assert_eq!(receiver.chunk().await.expect("ends"), None);
    assert_eq!(
        timeout(LONG, relaying).await.expect("ends").expect("runs"),
        Outcome::Closed
    );
}

#[tokio::test]
async fn a_silent_connection_ends_when_patience_does() {
    let patience = Patience {
        idle: Duration::from_millis(300),
        half_closed: Duration::from_millis(100),
        tick: Duration::from_millis(20),
        ..Patience::default()
    };
    let (mut client, near, _far, _server) = way(&patience).await;
    assert!(is_reset(&mut client).await);
    assert!(matches!(outcome(near).await.0, Outcome::TimedOut(why) if why.starts_with("idle")));
    let patience = Patience { idle: LONG, ..patience };
    let (mut client, near, _far, _server) = way(&patience).await;
    client.shutdown().await.expect("ends");
    assert!(matches!(outcome(near).await.0, Outcome::TimedOut(why) if why.starts_with("half-closed")));
}

#[tokio::test]
async fn a_cut_resets_both_sides() {
    let (near, far, _pool) = streams().await;
    let (mut client, client_far) = sockets().await;
    let stop = async { Outcome::Drained };
    let outcome = relay(client_far, near, &Patience::default(), stop, &mut |_, _| {}).await;
    assert_eq!(outcome, Outcome::Drained);
    assert!(is_reset(&mut client).await);
    assert!(far.split().0.chunk().await.is_err());
}

#[tokio::test]
async fn idle_streams_keep_no_credit_from_a_busy_one() {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let mut idle = Vec::new();
    for turn in 0..60 {
        let (near, accepted) = far.pair(&pool, &mut incoming).await;
        let (mut client, client_far) = sockets().await;
        tokio::spawn(async move { relay(client_far, near, &Patience::default(), pending(), &mut |_, _| {}).await });
        client.write_all(b"hello").await.expect("writes");
        let (mut receiver, sender) = accepted.split();
        let chunk = timeout(LONG, receiver.chunk()).await.expect("flows");
        receiver.release(chunk.expect("lives").map_or(0, |chunk| chunk.len()));
        if turn < 59 {
            idle.push((client, receiver, sender));
            continue;
        }
        let writing = tokio::spawn(async move {
            client.write_all(&vec![1; 32 << 20]).await.expect("writes");
            client
        });
        let mut read = 0;
        while read < 32 << 20 {
            let chunk = timeout(LONG, receiver.chunk())
                .await
                .expect("flows")
                .expect("lives")
                .expect("a chunk");
            read += chunk.len();
            receiver.release(chunk.len());
        }
        drop(writing.await.expect("runs"));
    }
}

#[tokio::test]
async fn plain_connections_pass_half_close_bulk_and_reset() {
    let ((mut client, client_far), (server_near, mut server)) = (sockets().await, sockets().await);
    let plain = tokio::spawn(async move {
        let mut counted = (0, 0);
        let outcome = relay_plain(
            client_far,
            server_near,
            &Patience::default(),
            pending(),
            &mut |forth, back| {
                counted = (counted.0 + forth, counted.1 + back);
            },
        )
        .await;
        (outcome, counted)
    });
    let bulk = vec![9; 16 << 20];
    let mut read = Vec::new();
    let ((), length) = tokio::join!(
        async {
            client.write_all(&bulk).await.expect("writes");
            client.shutdown().await.expect("ends");
        },
        server.read_to_end(&mut read)
    );
    assert_eq!(length.expect("reads"), bulk.len());
    server.write_all(b"ok").await.expect("writes");
    server.shutdown().await.expect("ends");
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.expect("reads");
    assert_eq!(
        timeout(LONG, plain).await.expect("ends").expect("runs"),
        (Outcome::Closed, (16 << 20, 2))
    );

    let ((client, client_far), (server_near, mut server)) = (sockets().await, sockets().await);
    tokio::spawn(
        async move { relay_plain(client_far, server_near, &Patience::default(), pending(), &mut |_, _| {}).await },
    );
    reset(client);
    assert!(is_reset(&mut server).await);
}
