use bytes::Bytes;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::*;
use crate::hbone::StreamError;

const MIB: usize = 1 << 20;

async fn many(count: usize) -> (Pool, Vec<(Stream, Stream)>) {
    let (far, mut incoming) = Far::new();
    let pool = pool();
    let mut pairs = Vec::new();
    for _ in 0..count {
        pairs.push(far.pair(&pool, &mut incoming).await);
    }
    assert_eq!(far.dials(), 1);
    (pool, pairs)
}

async fn read_all(stream: Stream) -> usize {
    let (mut receiver, _sender) = stream.split();
    let mut length = 0;
    while let Some(chunk) = receiver.chunk().await.expect("arrives") {
        length += chunk.len();
        receiver.release(chunk.len());
    }
    length
}

async fn write_all(stream: Stream, length: usize) {
    let (_receiver, mut sender) = stream.split();
    for _ in 0..length / (64 << 10) {
        sender.write(Bytes::from(vec![7; 64 << 10])).await.expect("sends");
    }
    sender.finish().expect("ends");
    // Both directions are held until the peer has all of it.
    sleep(HOUR).await;
}

#[tokio::test]
async fn one_slow_stream_of_16_does_not_starve_the_others() {
    let (_pool, mut pairs) = many(16).await;
    let (slow, slow_far) = pairs.pop().expect("16");
    let slow_writer = tokio::spawn(write_all(slow_far, 4 * MIB));
    let mut writers = Vec::new();
    let readers: Vec<_> = pairs
        .into_iter()
        .map(|(near, far)| {
            writers.push(tokio::spawn(write_all(far, 16 * MIB)));
            tokio::spawn(read_all(near))
        })
        .collect();
    for reader in readers {
        let read = timeout(Duration::from_secs(60), reader).await;
        assert_eq!(read.expect("not starved").expect("runs"), 16 * MIB);
    }
    // The slow one was only slow.
    assert_eq!(read_all(slow).await, 4 * MIB);
    slow_writer.abort();
    writers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_stream_that_ends_under_load_gives_its_credit_back() {
    let (_pool, pairs) = many(40).await;
    // Each leaves with up to a whole stream window unread: together five times the tunnel's.
    let mut writers = Vec::new();
    let mut pairs = pairs.into_iter();
    let (last, last_far) = pairs.next().expect("40");
    for (near, far) in pairs {
        let writer = tokio::spawn(write_all(far, 4 * MIB));
        let (mut receiver, sender) = near.split();
        receiver.chunk().await.expect("flows");
        drop((receiver, sender));
        writers.push(writer);
    }
    let writer = tokio::spawn(write_all(last_far, 32 * MIB));
    let read = timeout(Duration::from_secs(60), read_all(last)).await;
    assert_eq!(read.expect("credit is back"), 32 * MIB);
    writers.push(writer);
    writers.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn credit_bounds_what_is_sent_to_a_reader_that_does_not_read() {
    let (near, far, _pool) = streams().await;
    let (_receiver, mut sender) = far.split();
    let mut sent = 0;
    while let Ok(credit) = timeout(Duration::from_millis(300), sender.credit(64 << 10)).await {
        let credit = credit.expect("lives");
        sender.send(&vec![7; credit]).expect("sends");
        sent += credit;
    }
    let options = TunnelOptions::default();
    assert!(
        sent >= MIB && sent <= MIB + options.send_buffer as usize + PIPE,
        "{sent}"
    );
    drop(near);
}

#[tokio::test]
async fn the_end_of_one_direction_leaves_the_other_open() {
    let (near, far, _pool) = streams().await;
    let ((mut near_in, mut near_out), (mut far_in, mut far_out)) = (near.split(), far.split());
    near_out.write("question".into()).await.expect("sends");
    near_out.finish().expect("ends");
    assert_eq!(
        far_in.chunk().await.expect("arrives").as_deref(),
        Some(b"question".as_slice())
    );
    assert_eq!(far_in.chunk().await.expect("ends"), None);
    far_out.write("answer".into()).await.expect("sends");
    far_out.finish().expect("ends");
    assert_eq!(
        near_in.chunk().await.expect("arrives").as_deref(),
        Some(b"answer".as_slice())
    );
    assert_eq!(near_in.chunk().await.expect("ends"), None);
}

#[tokio::test]
async fn a_stream_dropped_before_its_end_is_reset() {
    let (near, far, _pool) = streams().await;
    drop(near);
    let (mut receiver, mut sender) = far.split();
    assert!(matches!(receiver.chunk().await, Err(StreamError::Reset(_))));
    let broken = std::future::poll_fn(|context| sender.poll_broken(context)).await;
    assert!(matches!(broken, StreamError::Reset(_)));
    assert!(matches!(sender.credit(1).await, Err(StreamError::Reset(_))));
}

#[tokio::test]
async fn a_stream_reads_and_writes_like_a_socket() {
    let (near, far, _pool) = streams().await;
    let (mut near, mut far) = (near.into_io(), far.into_io());
    let sent = vec![42u8; 3 * MIB];
    let writing = async {
        near.write_all(&sent).await.expect("writes");
        near.shutdown().await.expect("ends");
    };
    let mut read = Vec::new();
    let ((), length) = tokio::join!(writing, far.read_to_end(&mut read));
    assert_eq!(length.expect("reads"), sent.len());
    assert!(read == sent);
    drop(far);
    assert_eq!(
        near.read_u8().await.expect_err("reset").kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn streams_past_the_end_of_the_peers_leaf_are_refused() {
    let (near, far) = tokio::io::duplex(PIPE);
    let expired = Transport::new(far, SystemTime::now() - HOUR);
    let serving = tokio::spawn(async move {
        let mut tunnel = Tunnel::over(expired, &TunnelOptions::default())
            .await
            .expect("speaks HTTP/2");
        assert!(tunnel.next().await.is_none(), "none is handed out");
    });
    let near = std::sync::Mutex::new(Some(near));
    let dial = || -> BoxFuture<Result<Transport, Refusal>> {
        let near = near.lock().expect("whole").take();
        Box::pin(async move {
            let near = near.ok_or(Refusal::NotConfigured)?;
            Ok(Transport::new(near, SystemTime::now() + HOUR))
        })
    };
    assert!(pool().open_by(&key(), &dial, &connect()).await.is_err());
    serving.await.expect("ends");
}
