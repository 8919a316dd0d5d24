//! What the RFC forbids, rule by rule.

use super::*;

const WINDOW: u8 = kind::WINDOW_UPDATE;

/// A frame that ends the connection of a server with an open stream 1: the rule, kind, flags, stream, body, reason.
type Breach = (&'static str, u8, u8, u32, &'static [u8], Reason);

#[rustfmt::skip]
const BREACHES: &[Breach] = &[
    ("4.2 larger than MAX_FRAME_SIZE", kind::DATA, 0, 1, &[0; 20_001], Reason::FRAME_SIZE_ERROR),
    ("4.3 an unreadable block", kind::HEADERS, 4, 3, &[0xff; 8], Reason::COMPRESSION_ERROR),
    ("5.1 DATA on an idle stream", kind::DATA, 0, 3, b"x", Reason::PROTOCOL_ERROR),
    ("5.1 RST_STREAM on an idle stream", kind::RST_STREAM, 0, 3, &[0; 4], Reason::PROTOCOL_ERROR),
    ("5.1 WINDOW_UPDATE on an idle stream", WINDOW, 0, 3, &[0, 0, 0, 1], Reason::PROTOCOL_ERROR),
    ("5.1.1 an even stream", kind::HEADERS, 4, 2, &[0x88], Reason::PROTOCOL_ERROR),
    ("6.1 DATA on the connection", kind::DATA, 0, 0, b"x", Reason::PROTOCOL_ERROR),
    ("6.1 more padding than DATA", kind::DATA, 8, 1, &[5, 0, 0], Reason::PROTOCOL_ERROR),
    ("6.1 no pad length", kind::DATA, 8, 1, &[], Reason::FRAME_SIZE_ERROR),
    ("6.2 HEADERS on the connection", kind::HEADERS, 4, 0, &[0x88], Reason::PROTOCOL_ERROR),
    ("6.2 more padding than HEADERS", kind::HEADERS, 4 | 8, 3, &[9, 0], Reason::PROTOCOL_ERROR),
    ("6.2 no room for the priority", kind::HEADERS, 4 | 0x20, 3, &[0; 4], Reason::FRAME_SIZE_ERROR),
    ("6.3 PRIORITY on the connection", kind::PRIORITY, 0, 0, &[0; 5], Reason::PROTOCOL_ERROR),
    ("6.3 PRIORITY of another length", kind::PRIORITY, 0, 1, &[0; 4], Reason::FRAME_SIZE_ERROR),
    ("6.4 RST_STREAM on the connection", kind::RST_STREAM, 0, 0, &[0; 4], Reason::PROTOCOL_ERROR),
    ("6.4 RST_STREAM of another length", kind::RST_STREAM, 0, 1, &[0; 3], Reason::FRAME_SIZE_ERROR),
    ("6.5 SETTINGS on a stream", kind::SETTINGS, 0, 1, &[], Reason::PROTOCOL_ERROR),
    ("6.5 SETTINGS of another length", kind::SETTINGS, 0, 0, &[0; 5], Reason::FRAME_SIZE_ERROR),
    ("6.5 an ACK with a payload", kind::SETTINGS, 1, 0, &[0; 6], Reason::FRAME_SIZE_ERROR),
    ("6.5.2 ENABLE_PUSH 2", kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2], Reason::PROTOCOL_ERROR),
    ("6.5.2 a window of 2^31", kind::SETTINGS, 0, 0, &[0, 4, 0x80, 0, 0, 0], Reason::FLOW_CONTROL_ERROR),
    ("6.5.2 frames below 2^14", kind::SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1], Reason::PROTOCOL_ERROR),
    ("6.5.2 frames of 2^24", kind::SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0], Reason::PROTOCOL_ERROR),
    ("6.6 PUSH_PROMISE", kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2], Reason::PROTOCOL_ERROR),
    ("6.7 PING on a stream", kind::PING, 0, 1, &[0; 8], Reason::PROTOCOL_ERROR),
    ("6.7 PING of another length", kind::PING, 0, 0, &[0; 7], Reason::FRAME_SIZE_ERROR),
    ("6.8 GOAWAY on a stream", kind::GOAWAY, 0, 1, &[0; 8], Reason::PROTOCOL_ERROR),
    ("6.8 GOAWAY too short", kind::GOAWAY, 0, 0, &[0; 7], Reason::FRAME_SIZE_ERROR),
    ("6.9 the window raised by nothing", WINDOW, 0, 0, &[0; 4], Reason::PROTOCOL_ERROR),
    ("6.9 WINDOW_UPDATE of another length", WINDOW, 0, 1, &[0; 5], Reason::FRAME_SIZE_ERROR),
    ("6.9.1 the window beyond 2^31-1", WINDOW, 0, 0, &[0x7f, 0xff, 0xff, 0xff], Reason::FLOW_CONTROL_ERROR),
    ("6.10 CONTINUATION of nothing", kind::CONTINUATION, 4, 1, &[], Reason::PROTOCOL_ERROR),
    ("6.10 CONTINUATION on the connection", kind::CONTINUATION, 4, 0, &[], Reason::PROTOCOL_ERROR),
];

#[test]
fn every_breach_of_the_protocol_ends_the_connection_with_its_reason() {
    for (rule, kind, flags, stream, body, reason) in BREACHES {
        let bytes = frame(*kind, *flags, *stream, body);
        let mut server = server_with_stream();
        assert_eq!(fault(&mut server, &bytes), *reason, "{rule}");
        // The same, byte by byte.
        let mut server = server_with_stream();
        let ended = bytes
            .iter()
            .find_map(|byte| feed(&mut server, &[*byte], &mut Vec::new()).err());
        assert_eq!(ended.map(|fault| fault.0), Some(*reason), "{rule}, byte by byte");
    }
}

#[test]
fn nothing_interrupts_a_header_block() {
    for interruption in [
        frame(kind::DATA, 0, 1, b"x"),
        frame(kind::HEADERS, 4, 5, &connect()),
        frame(kind::CONTINUATION, 4, 1, &[]),
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(0x77, 0, 3, &[]),
    ] {
        let mut server = server_with_stream();
        fed(&mut server, &frame(kind::HEADERS, 0, 3, &connect()[..5]));
        assert_eq!(fault(&mut server, &interruption), Reason::PROTOCOL_ERROR);
    }
}

#[test]
fn the_first_frame_is_settings_after_the_preface() {
    for first in [
        frame(kind::PING, 0, 0, &[0; 8]),
        frame(kind::SETTINGS, 1, 0, &[]),
        frame(kind::HEADERS, 4, 1, &connect()),
    ] {
        let mut server = Endpoint::<()>::new(Side::Server, settings());
        assert_eq!(
            fault(&mut server, &[&PREFACE[..], &first].concat()),
            Reason::PROTOCOL_ERROR
        );
        let mut client = Endpoint::<()>::new(Side::Client, settings());
        assert_eq!(fault(&mut client, &first), Reason::PROTOCOL_ERROR);
    }
    let mut server = Endpoint::<()>::new(Side::Server, settings());
    assert_eq!(fault(&mut server, b"GET / HTTP/1.1\r\n"), Reason::PROTOCOL_ERROR);
}

#[test]
fn a_breach_on_one_stream_ends_that_stream_alone() {
    let bad_head = {
        let mut block = connect();
        block.extend_from_slice(b"\x00\x05Upper\x01x");
        block
    };
    let table: &[(&str, Vec<u8>, u32, Reason)] = &[
        (
            "8.1.1 a malformed request",
            frame(kind::HEADERS, 4, 3, &bad_head),
            3,
            Reason::PROTOCOL_ERROR,
        ),
        (
            "8.3 no pseudo fields",
            frame(kind::HEADERS, 4, 3, &[]),
            3,
            Reason::PROTOCOL_ERROR,
        ),
        (
            "8.1 trailers that do not end",
            frame(kind::HEADERS, 4, 1, &[]),
            1,
            Reason::PROTOCOL_ERROR,
        ),
        (
            "6.9 a stream raised by nothing",
            frame(WINDOW, 0, 1, &[0; 4]),
            1,
            Reason::PROTOCOL_ERROR,
        ),
        (
            "6.9.1 a stream beyond 2^31-1",
            frame(WINDOW, 0, 1, &[0x7f, 0xff, 0xff, 0xff]),
            1,
            Reason::FLOW_CONTROL_ERROR,
        ),
    ];
    for (rule, bytes, stream, reason) in table {
        let mut server = server_with_stream();
        fed(&mut server, bytes);
        assert!(is_reset(&mut server, *stream, *reason), "{rule}");
        let next = fed(&mut server, &frame(kind::HEADERS, 4, 5, &connect()));
        assert!(
            matches!(next[..], [Seen::Opened(5, _)]),
            "{rule}: the connection lives on"
        );
    }
}

#[test]
fn an_ended_stream_takes_nothing_more() {
    for (more, reason) in [
        (frame(kind::DATA, 0, 1, b"x"), Reason::STREAM_CLOSED),
        (frame(kind::HEADERS, 5, 1, &[]), Reason::STREAM_CLOSED),
    ] {
        let mut server = server_with_stream();
        assert_eq!(fed(&mut server, &frame(kind::DATA, 1, 1, &[])), [Seen::Ended(1)]);
        assert_eq!(fault(&mut server, &more), reason);
        let mut server = server_with_stream();
        let reset = frame(kind::RST_STREAM, 0, 1, &[0, 0, 0, 8]);
        assert_eq!(fed(&mut server, &reset), [Seen::Reset(1, Reason::CANCEL)]);
        assert_eq!(fault(&mut server, &more), reason);
    }
}

#[test]
fn what_was_under_way_when_we_reset_a_stream_is_ignored_and_its_credit_returns() {
    for forget in [false, true] {
        let mut server = server_with_stream();
        server.reset(1, Reason::CANCEL);
        if forget {
            server.forget(1);
        }
        assert!(is_reset(&mut server, 1, Reason::CANCEL));
        for _ in 0..20 {
            let bytes = frame(kind::DATA, 0, 1, &[0; 20_000]);
            assert_eq!(fed(&mut server, &bytes), []);
        }
        let late = [
            frame(WINDOW, 0, 1, &[0, 0, 0, 1]),
            frame(kind::HEADERS, 5, 1, &[]),
            frame(kind::RST_STREAM, 0, 1, &[0; 4]),
        ];
        assert_eq!(fed(&mut server, &late.concat()), []);
        let raised = frames(&sent(&mut server)).iter().any(|it| it.0 == WINDOW && it.2 == 0);
        assert!(raised, "twice the window of the connection was sent");
    }
}

#[test]
fn a_stream_that_the_peer_resets_too_takes_nothing_more() {
    for forget in [false, true] {
        let reset = || {
            let mut server = server_with_stream();
            server.reset(1, Reason::NO_ERROR);
            if forget {
                server.forget(1);
            }
            let too = frame(kind::RST_STREAM, 0, 1, &Reason::CANCEL.0.to_be_bytes());
            assert_eq!(fed(&mut server, &too), []);
            sent(&mut server);
            server
        };
        let headers = frame(kind::HEADERS, 5, 1, &connect());
        assert_eq!(fault(&mut reset(), &headers), Reason::STREAM_CLOSED, "{forget}");
        let mut server = reset();
        let told = feed(&mut server, &frame(kind::DATA, 0, 1, b"x"), &mut Vec::new());
        let closed = told.is_err_and(|fault| fault.0 == Reason::STREAM_CLOSED);
        assert!(closed || is_reset(&mut server, 1, Reason::STREAM_CLOSED), "{forget}");
    }
}

#[test]
fn more_than_a_window_is_a_breach() {
    let mut server = server_with_stream();
    for _ in 0..5 {
        fed(&mut server, &frame(kind::DATA, 0, 1, &[0; 20_000]));
    }
    fed(&mut server, &frame(kind::DATA, 0, 1, b"x"));
    assert!(is_reset(&mut server, 1, Reason::FLOW_CONTROL_ERROR));
    let mut server = server_with_stream();
    for stream in [3, 5, 7] {
        fed(&mut server, &frame(kind::HEADERS, 4, stream, &connect()));
    }
    for stream in [1, 3, 5, 7] {
        for _ in 0..5 {
            fed(&mut server, &frame(kind::DATA, 0, stream, &[0; 20_000]));
        }
    }
    assert_eq!(
        fault(&mut server, &frame(kind::DATA, 0, 9, b"x")),
        Reason::PROTOCOL_ERROR
    );
    let mut more = frame(kind::HEADERS, 4, 9, &connect());
    more.extend(frame(kind::DATA, 0, 9, b"x"));
    let mut server = server_with_stream();
    for stream in [3, 5, 7] {
        fed(&mut server, &frame(kind::HEADERS, 4, stream, &connect()));
    }
    for stream in [1, 3, 5, 7] {
        for _ in 0..5 {
            fed(&mut server, &frame(kind::DATA, 0, stream, &[0; 20_000]));
        }
    }
    assert_eq!(fault(&mut server, &more), Reason::FLOW_CONTROL_ERROR);
}

#[test]
fn a_client_takes_answers_to_what_it_asked_alone() {
    for bytes in [
        frame(kind::HEADERS, 4, 3, &[0x88]),
        frame(kind::HEADERS, 4, 2, &[0x88]),
        frame(kind::SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 1]),
        frame(kind::PUSH_PROMISE, 4, 1, &[0, 0, 0, 2]),
    ] {
        assert_eq!(fault(&mut client_with_stream(), &bytes), Reason::PROTOCOL_ERROR);
    }
    let mut client = client();
    client.open(&request(), ()).expect("opens");
    assert_eq!(
        fault(&mut client, &frame(kind::DATA, 0, 1, b"early")),
        Reason::PROTOCOL_ERROR
    );
}

#[test]
fn answers_that_are_none_end_their_stream() {
    for block in [&[][..], b"\x00\x01a\x01b", &[0x88, 0x88], &[0x82]] {
        let mut client = client();
        client.open(&request(), ()).expect("opens");
        sent(&mut client);
        let seen = fed(&mut client, &frame(kind::HEADERS, 4, 1, block));
        assert_eq!(seen, [Seen::Reset(1, Reason::PROTOCOL_ERROR)]);
        assert!(is_reset(&mut client, 1, Reason::PROTOCOL_ERROR));
    }
}

#[test]
fn informational_answers_are_passed_over() {
    let mut client = client();
    client.open(&request(), ()).expect("opens");
    let early = frame(kind::HEADERS, 4, 1, b"\x08\x03103");
    assert_eq!(fed(&mut client, &early), []);
    assert_eq!(
        fed(&mut client, &frame(kind::HEADERS, 4, 1, &[0x88])),
        [Seen::Answered(1, 200)]
    );
}

#[test]
fn padding_priority_trailers_and_unknown_frames_change_nothing() {
    let mut server = server();
    let padded = [&[3, 0, 0, 0, 1, 7][..], &connect(), &[0; 3]].concat();
    let frames = [
        frame(0x77, 0xff, 9, &[1; 100]),
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        frame(kind::HEADERS, 4 | 8 | 0x20, 1, &padded),
        frame(kind::DATA, 8, 1, b"\x04hello\0\0\0\0"),
        frame(kind::HEADERS, 5, 1, b"\x00\x01a\x01b"),
    ];
    let seen = fed(&mut server, &frames.concat());
    assert_eq!(
        seen,
        [
            Seen::Opened(1, "CONNECT 10.0.0.1:80".into()),
            Seen::Data(1, b"hello".to_vec()),
            Seen::Ended(1)
        ]
    );
}

#[test]
fn a_head_beyond_its_bound_is_told_as_that() {
    let mut server = server();
    let mut block = connect();
    for _ in 0..100 {
        block.extend_from_slice(b"\x00\x01a\x0aabcdefghij");
    }
    assert_eq!(
        fed(&mut server, &frame(kind::HEADERS, 4, 1, &block)),
        [Seen::TooLong(1)]
    );
}
