//! What costs us and moves nothing is bounded.

use super::*;

type Flood = Box<dyn FnMut(u32) -> Vec<u8>>;

/// How many of these a server bears.
fn borne(mut flood: impl FnMut(u32) -> Vec<u8>) -> (u32, Reason) {
    let mut server = server_with_stream();
    for turn in 0..100_000 {
        if let Err(fault) = feed(&mut server, &flood(turn), &mut Vec::new()) {
            assert!(server.out.len() < 1 << 20, "what it would answer is bounded, too");
            return (turn, fault.0);
        }
    }
    panic!("there is no bound");
}

#[test]
fn floods_end_the_connection() {
    let floods: [(&str, Flood); 9] = [
        ("PING", Box::new(|_| frame(kind::PING, 0, 0, &[0; 8]))),
        ("PING answers", Box::new(|_| frame(kind::PING, 1, 0, &[0; 8]))),
        ("SETTINGS", Box::new(|_| frame(kind::SETTINGS, 0, 0, &[]))),
        ("SETTINGS answers", Box::new(|_| frame(kind::SETTINGS, 1, 0, &[]))),
        ("empty DATA", Box::new(|_| frame(kind::DATA, 0, 1, &[]))),
        ("PRIORITY", Box::new(|_| frame(kind::PRIORITY, 0, 1, &[0; 5]))),
        ("unknown frames", Box::new(|_| frame(0x77, 0, 1, &[]))),
        (
            "streams beyond the bound",
            Box::new(|turn| frame(kind::HEADERS, 4, 3 + turn * 2, &connect())),
        ),
        (
            "malformed heads",
            Box::new(|turn| frame(kind::HEADERS, 4, 3 + turn * 2, &[])),
        ),
    ];
    for (what, flood) in floods {
        let (turns, reason) = borne(flood);
        assert_eq!(reason, Reason::ENHANCE_YOUR_CALM, "{what}");
        assert!(turns > 5000, "{what}: honest peers are far from it");
    }
}

/// CVE-2023-44487.
#[test]
fn streams_that_are_opened_and_reset_count_until_they_are_forgotten() {
    let mut server = server();
    let open_and_reset = |turn: u32| {
        let stream = 1 + turn * 2;
        [
            frame(kind::HEADERS, 4, stream, &connect()),
            frame(kind::RST_STREAM, 0, stream, &[0, 0, 0, 8]),
        ]
        .concat()
    };
    let mut seen = Vec::new();
    for turn in 0..1000 {
        feed(&mut server, &open_and_reset(turn), &mut seen).expect("borne");
    }
    let opened = seen.iter().filter(|it| matches!(it, Seen::Opened(..))).count();
    assert_eq!(
        (opened, server.streams()),
        (10, 10),
        "no more than the bound are ever handed out"
    );
    let (_, reason) = borne(|turn| open_and_reset(turn + 1));
    assert_eq!(reason, Reason::ENHANCE_YOUR_CALM);
}

/// CVE-2024-27316.
#[test]
fn a_header_block_without_end_is_cut_off() {
    for piece in [&[][..], &[0x88; 1000]] {
        let mut server = server();
        fed(&mut server, &frame(kind::HEADERS, 0, 1, &[]));
        let more = frame(kind::CONTINUATION, 0, 1, piece);
        let ended = (0..100_000).find_map(|_| feed(&mut server, &more, &mut Vec::new()).err());
        assert_eq!(ended.map(|fault| fault.0), Some(Reason::ENHANCE_YOUR_CALM));
    }
}

#[test]
fn what_was_borne_is_forgiven_with_time() {
    let mut server = server();
    for _ in 0..20 {
        for _ in 0..9000 {
            fed(&mut server, &frame(kind::PING, 0, 0, &[0; 8]));
        }
        sent(&mut server);
        server.forgive().expect("owes nothing");
    }
}
