//! Bytes by chance.

use proptest::{collection::vec, prelude::*};

use super::*;

/// Bytes that are not all nonsense: frames of every kind with odd bodies, between bytes of chance.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let odd = (0u8..11, any::<u8>(), 0u32..12, vec(any::<u8>(), 0..40))
        .prop_map(|(kind, flags, stream, body)| frame(kind, flags, stream, &body));
    let fitting = (0u32..6, any::<[u8; 8]>()).prop_map(|(turn, [a, b, c, d, ..])| match turn {
        0 => frame(kind::HEADERS, 4, 1 + u32::from(a % 8) * 2, &connect()),
        1 => frame(kind::DATA, a & 1, 1 + u32::from(b % 8) * 2, &[c; 50]),
        2 => frame(kind::RST_STREAM, 0, 1 + u32::from(a % 8) * 2, &[0, 0, 0, d]),
        3 => frame(kind::WINDOW_UPDATE, 0, u32::from(a % 9), &[0, 0, c, d]),
        4 => frame(kind::SETTINGS, 0, 0, &[0, 4, 0, a, b, c]),
        _ => frame(kind::PING, a & 1, 0, &[a, b, c, d, 0, 0, 0, 0]),
    });
    let piece = prop_oneof![1 => vec(any::<u8>(), 0..30), 2 => odd, 6 => fitting];
    vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// A side that was greeted; a client has streams 1 to 9 open.
fn greeted(side: Side) -> Endpoint<()> {
    match side {
        Side::Server => server(),
        Side::Client => {
            let mut client = client();
            for _ in 0..5 {
                client.open(&request(), ()).expect("opens");
            }
            client
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_panic_and_how_they_are_cut_changes_nothing(
        bytes in bytes(),
        cuts in vec(1usize..40, 1..20),
        server in any::<bool>(),
    ) {
        let side = if server { Side::Server } else { Side::Client };
        let (mut whole, mut cut) = (greeted(side), greeted(side));
        let (mut seen, mut seen_cut) = (Vec::new(), Vec::new());
        let ended = feed(&mut whole, &bytes, &mut seen);
        let mut rest = &bytes[..];
        let mut ended_cut = Ok(());
        for length in cuts.iter().cycle() {
            if rest.is_empty() || ended_cut.is_err() {
                break;
            }
            let (piece, after) = rest.split_at((*length).min(rest.len()));
            ended_cut = feed(&mut cut, piece, &mut seen_cut);
            rest = after;
        }
        prop_assert_eq!(ended, ended_cut);
        prop_assert_eq!(seen, seen_cut);
        prop_assert_eq!(whole.out.plain(), cut.out.plain());
    }

    #[test]
    fn no_header_block_panics(blocks in vec(vec(any::<u8>(), 0..100), 1..5)) {
        let mut server = server();
        for (turn, block) in (0u32..).zip(blocks) {
            if feed(&mut server, &frame(kind::HEADERS, 4, 1 + turn * 2, &block), &mut Vec::new()).is_err() {
                break;
            }
        }
    }
}
