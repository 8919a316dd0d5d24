//! Windows that change while the connection lives.

use super::*;

const ACK: u8 = 1;

fn acknowledge(endpoint: &mut Endpoint<()>) {
    assert_eq!(fed(endpoint, &frame(kind::SETTINGS, ACK, 0, &[])), []);
}

/// A server with streams 1, 3, 5 and so on.
fn with_streams(count: u32) -> Endpoint<()> {
    let mut server = server();
    for stream in 0..count {
        fed(&mut server, &frame(kind::HEADERS, 4, 2 * stream + 1, &connect()));
    }
    server
}

fn data(stream: u32, bytes: usize) -> Vec<u8> {
    let piece = |length: usize| frame(kind::DATA, 0, stream, &vec![7; length]);
    let mut frames = piece(20_000).repeat(bytes / 20_000);
    frames.extend(piece(bytes % 20_000));
    frames
}

#[test]
fn a_smaller_window_holds_once_the_peer_knows_of_it() {
    let mut server = with_streams(2);
    assert!(server.allow(100_000), "as it is");
    assert!(!server.allow(10_000), "not known yet");
    let told = (kind::SETTINGS, 0, 0, vec![0, 4, 0, 0, 0x27, 0x10]);
    assert_eq!(frames(&sent(&mut server)), [told]);
    assert!(!server.allow(5_000), "one at a time");
    assert_eq!(sent(&mut server), b"");
    // What was sent before it knew is taken.
    let length = |seen: Vec<Seen>| match &seen[..] {
        [Seen::Data(_, bytes)] => bytes.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(length(fed(&mut server, &data(1, 100_000))), 100_000);
    assert_eq!(length(fed(&mut server, &data(3, 5_000))), 5_000);
    acknowledge(&mut server);
    assert!(server.allow(10_000));
    assert_eq!(length(fed(&mut server, &data(3, 5_000))), 5_000);
    assert_eq!(
        fed(&mut server, &frame(kind::DATA, 0, 1, b"")),
        [],
        "no bytes need no credit"
    );
    assert_eq!(
        fed(&mut server, &frame(kind::DATA, 0, 3, b"x")),
        [Seen::Reset(3, Reason::FLOW_CONTROL_ERROR)]
    );
    // One that is read gets credit up to the new window, and moves.
    sent(&mut server);
    server.release(1, 100_000);
    let raised = (kind::WINDOW_UPDATE, 0, 1, 100_000u32.to_be_bytes().to_vec());
    assert!(frames(&sent(&mut server)).contains(&raised));
    assert_eq!(length(fed(&mut server, &data(1, 10_000))), 10_000);
    // A stream opened now begins with it, and may send more as soon as we have said so.
    fed(&mut server, &frame(kind::HEADERS, 4, 5, &connect()));
    assert_eq!(length(fed(&mut server, &data(5, 10_000))), 10_000);
    assert!(!server.allow(100_000));
    assert_eq!(length(fed(&mut server, &data(5, 90_000))), 90_000);
}

#[test]
fn streams_that_nobody_reads_leave_the_connection_open_for_the_others() {
    let mut server = with_streams(10);
    let open = |server: &mut Endpoint<()>| {
        frames(&sent(server))
            .iter()
            .filter(|(kind, _, stream, _)| (*kind, *stream) == (kind::WINDOW_UPDATE, 0))
            .map(|(.., raise)| u32::from_be_bytes(raise[..].try_into().expect("four bytes")))
            .sum::<u32>()
    };
    let mut left = 400_000;
    for stream in 0..9 {
        fed(&mut server, &data(2 * stream + 1, 100_000));
        left -= 100_000;
        assert!(server.allow(100_000));
        server.lend();
        left += open(&mut server);
        assert!((100_000..=400_000).contains(&left), "{left}");
    }
    assert_eq!(server.unread(), 900_000);
    // The tenth moves.
    for _ in 0..50 {
        fed(&mut server, &data(19, 60_000));
        server.release(19, 60_000);
        server.lend();
        left = left - 60_000 + open(&mut server);
        assert!((50_000..=400_000).contains(&left), "{left}");
    }
    // What was lent is not lent again once it is read.
    for stream in 0..9 {
        server.release(2 * stream + 1, 100_000);
        left += open(&mut server);
    }
    assert!((300_000..=400_000).contains(&left), "{left}");
    assert_eq!(server.unread(), 0);
}

#[test]
fn a_peer_that_acknowledges_nothing_is_left_in_the_end() {
    let mut server = with_streams(1);
    for _ in 0..10 {
        server.forgive().expect("owes nothing");
    }
    server.allow(5_000);
    assert!(server.forgive().is_ok() && server.forgive().is_ok());
    assert_eq!(server.forgive().expect_err("late").0, Reason::SETTINGS_TIMEOUT);
}

#[test]
fn windows_change_only_so_often() {
    let mut server = with_streams(1);
    let mut changes = 0;
    for round in 0..2000 {
        server.allow(if round % 2 == 0 { 5_000 } else { 6_000 });
        if !sent(&mut server).is_empty() {
            changes += 1;
            acknowledge(&mut server);
        }
    }
    assert_eq!(changes, 501, "then it stays at the smaller one");
    server.forgive().expect("owes nothing");
    assert!(!server.allow(6_000) && !sent(&mut server).is_empty());
}

#[test]
fn acknowledging_what_nobody_said_is_a_nuisance() {
    let mut server = with_streams(1);
    let flood = frame(kind::SETTINGS, ACK, 0, &[]).repeat(11_000);
    assert_eq!(fault(&mut server, &flood), Reason::ENHANCE_YOUR_CALM);
}
