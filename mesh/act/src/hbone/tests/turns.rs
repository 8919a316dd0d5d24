//! Whose turn it is to send.

use std::task::{Context, Poll, Waker};

use http::Request;
use tokio::io::AsyncReadExt;

use super::*;
use crate::hbone::{
    core::{QUANTUM, Shared},
    driver::Driver,
    flow::Flow,
    frames::{Endpoint, Side},
};

/// A client's tunnel with so many streams, whose peer gives credit without end.
fn tunnel(streams: usize) -> (Arc<Shared>, Vec<u32>) {
    let options = TunnelOptions::default();
    let mut endpoint = Endpoint::<Flow>::new(Side::Client, options.frames(Side::Client));
    let greeting = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff\0\0\x04\x08\0\0\0\0\0\x7f\0\0\0";
    let mut bytes = &greeting[..];
    while endpoint.receive(&mut bytes).expect("valid").is_some() {}
    let request = Request::builder()
        .method("CONNECT")
        .uri("10.0.0.1:80")
        .body(())
        .expect("valid");
    let numbers = (0..streams)
        .map(|_| endpoint.open(&request, Flow::default()).expect("opens"))
        .collect();
    let shared = Shared::over(endpoint, &options);
    shared.lock().take_out();
    (shared, numbers)
}

/// Sends what the stream may send now.
fn send(shared: &Shared, number: u32) -> usize {
    let mut core = shared.lock();
    let Poll::Ready(granted) = core.poll_grant(number, QUANTUM, &Context::from_waker(Waker::noop())) else {
        return 0;
    };
    let granted = granted.expect("lives");
    core.widen(granted);
    let sent = core.endpoint.send(number, &vec![7; granted]);
    core.spend(number, sent);
    core.give_back(number);
    sent
}

#[test]
fn one_of_16_streams_never_starves_however_greedy_another_is() {
    let (shared, numbers) = tunnel(16);
    let mut sent = [0; 16];
    for _ in 0..100 {
        for (at, number) in numbers.iter().enumerate() {
            // The first asks before all others, and again and again.
            let tries = if at == 0 { 50 } else { 1 };
            for _ in 0..tries {
                sent[at] += send(&shared, *number);
            }
        }
        // The wire takes all.
        shared.lock().take_out();
    }
    let (least, most) = (sent.iter().min().expect("16"), sent.iter().max().expect("16"));
    assert!(least * 2 > *most, "{sent:?}");
    assert!(
        sent.iter().sum::<usize>() > 100 * (128 << 10),
        "and what there is room for is used: {sent:?}"
    );
}

#[test]
fn a_turn_that_is_not_used_goes_to_the_next_in_line() {
    let (shared, numbers) = tunnel(16);
    // All stand in line; of those that get a turn, only the last uses it.
    while numbers.iter().any(|number| send(&shared, *number) > 0) {}
    shared.lock().take_out();
    for number in &numbers[..15] {
        shared.lock().give_back(*number);
    }
    assert!(send(&shared, numbers[15]) > 0);
    // One that is gone leaves the line, and its turn.
    for number in &numbers[..15] {
        shared.lock().forget(*number);
    }
    shared.lock().take_out();
    assert!(send(&shared, numbers[15]) > 0);
}

#[test]
fn what_waits_to_be_written_is_bounded() {
    let (shared, numbers) = tunnel(16);
    for _ in 0..100 {
        for number in &numbers {
            send(&shared, *number);
        }
    }
    let waiting = shared.lock().endpoint.out.len();
    let most = TunnelOptions::default().send_buffer as usize;
    assert!(waiting > most / 2 && waiting <= most + most / 8, "{waiting}");
}

/// Says something short.
fn say(shared: &Shared, number: u32) {
    let mut core = shared.lock();
    let sent = core.endpoint.send(number, b"a message");
    core.spend(number, sent);
}

#[tokio::test]
async fn messages_of_several_streams_are_sent_together_and_one_alone_or_bulk_at_once() {
    let (shared, numbers) = tunnel(3);
    let (near, mut far) = tokio::io::duplex(PIPE);
    let mut driver = Driver::new(shared.clone(), Transport::new(near, SystemTime::now() + HOUR).wire);
    let mut written = async || {
        let drives = driver.poll(&mut Context::from_waker(Waker::noop()));
        assert!(drives.is_pending(), "the tunnel lives");
        let mut bytes = vec![0; PIPE];
        let read = tokio::time::timeout(Duration::from_millis(1), far.read(&mut bytes)).await;
        read.map_or(0, |read| read.expect("open"))
    };
    say(&shared, numbers[0]);
    let one = written().await;
    assert!(one > 0, "alone, it goes at once");
    say(&shared, numbers[0]);
    say(&shared, numbers[1]);
    assert_eq!(written().await, 0, "others may have something to say, too");
    say(&shared, numbers[2]);
    assert_eq!(written().await, 3 * one, "and are waited for once");
    for number in numbers {
        assert!(send(&shared, number) > 1000);
    }
    assert!(written().await > 3000, "bulk waits for nobody");
}
