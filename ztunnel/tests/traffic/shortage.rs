//! What happens when this process runs out of something.

use act::{net::Acceptor, telemetry::FlowOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::*;

/// Lets this process have so many more descriptors.
fn spare(more: u64) {
    use std::os::fd::AsRawFd;
    let lowest = std::fs::File::open("/dev/null").expect("opens").as_raw_fd();
    let lowest = u64::try_from(lowest).expect("a descriptor");
    let maximum = getrlimit(Resource::Nofile).maximum;
    let current = Some(lowest + more);
    setrlimit(Resource::Nofile, Rlimit { current, maximum }).expect("may be lowered");
}

#[test]
fn want_of_descriptors_slows_accepting_and_ends_nothing() {
    inside(
        "shortage::want_of_descriptors_slows_accepting_and_ends_nothing",
        || async {
            let metrics = FlowOptions::default().install();
            let listener = std::net::TcpListener::bind((ip(SERVER), 8080)).expect("a free port");
            let mut acceptor = Acceptor::new(listener).expect("listens");
            let mut clients = Vec::new();
            for _ in 0..2 {
                clients.push(TcpStream::connect((ip(SERVER), 8080)).await.expect("connects"));
            }
            spare(1);
            let (mut first, _) = acceptor.accept().await.expect("one more");
            talk(&mut clients[0], &mut first).await;
            let starved = timeout(Duration::from_millis(500), acceptor.accept()).await;
            assert!(starved.is_err(), "the second waits");
            let text = metrics.render();
            let pauses = text
                .lines()
                .find_map(|line| line.strip_prefix("weft_accept_pauses_total{port=\"8080\"} "));
            let pauses: u32 = pauses
                .and_then(|pauses| pauses.parse().ok())
                .expect("pauses are counted");
            // Each pause is twice as long as the one before: 10, 20, 40 … milliseconds.
            assert!((1..=6).contains(&pauses), "{pauses} pauses: it spins");
            talk(&mut clients[0], &mut first).await;
            drop(first);
            let (mut second, _) = timeout(LONG, acceptor.accept())
                .await
                .expect("goes on")
                .expect("accepts");
            talk(&mut clients[1], &mut second).await;
        },
    );
}
