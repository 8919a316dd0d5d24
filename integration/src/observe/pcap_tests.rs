use proptest::prelude::*;

use super::*;

fn header() -> Vec<u8> {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    bytes.extend([0; 8]);
    bytes.extend(262_144_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes
}

fn packet(from: u16, to: u16, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(from.to_be_bytes());
    tcp.extend(to.to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0; 4]);
    tcp.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    tcp.extend(payload);
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend(u16::try_from(tcp.len() + 20).unwrap().to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 6, 0, 0]);
    let (client, server) = ([10, 0, 0, 1], [10, 0, 0, 2]);
    let (source, target) = if from > to { (client, server) } else { (server, client) };
    frame.extend(source);
    frame.extend(target);
    frame.extend(tcp);
    let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
    [&[0; 8][..], &length, &length, &frame].concat()
}

fn read(markers: &[&str], packets: &[Vec<u8>]) -> Seen {
    let mut reader = Reader::new(markers);
    reader.push(&header());
    packets.iter().for_each(|packet| reader.push(packet));
    reader.seen().clone()
}

const SYN: u8 = 2;
const ACK: u8 = 16;

#[test]
fn whole_records_are_tls_across_any_cut() {
    let record = [23, 3, 3, 0, 4, 1, 2, 3, 4, 22, 3, 1, 0, 1, 9];
    for cut in 0..record.len() {
        let (first, second) = record.split_at(cut);
        let next = 101 + u32::try_from(cut).unwrap();
        let seen = read(
            &[],
            &[
                packet(40000, 15008, 100, SYN, b""),
                packet(15008, 40000, 500, SYN | ACK, b""),
                packet(40000, 15008, 101, ACK, first),
                packet(40000, 15008, next, ACK, second),
            ],
        );
        let port = &seen.ports[&15008];
        assert_eq!(
            (port.connections, port.not_tls, port.unjudged),
            (1, 0, 0),
            "cut at {cut}"
        );
        assert_eq!(seen.ports.len(), 1);
    }
}

#[test]
fn plaintext_is_not_tls() {
    let seen = read(
        &[],
        &[
            packet(40000, 15008, 100, SYN, b""),
            packet(40000, 15008, 101, ACK, b"GET / HTTP/1.1\r\n"),
        ],
    );
    assert_eq!(seen.ports[&15008].not_tls, 1);
}

#[test]
fn a_repeated_segment_is_judged_once_and_a_gap_not_at_all() {
    let record = [23, 3, 3, 0, 2, 1, 2];
    let begin = packet(40000, 15008, 100, SYN, b"");
    let data = packet(40000, 15008, 101, ACK, &record);
    let again = read(&[], &[begin.clone(), data.clone(), data.clone()]);
    assert_eq!((again.ports[&15008].not_tls, again.ports[&15008].unjudged), (0, 0));
    let gap = packet(40000, 15008, 200, ACK, b"anything");
    let seen = read(&[], &[begin, data, gap]);
    assert_eq!((seen.ports[&15008].not_tls, seen.ports[&15008].unjudged), (0, 1));
    let late = read(&[], &[packet(40000, 15008, 101, ACK, &record)]);
    assert_eq!(late.ports[&15008].unjudged, 1);
}

#[test]
fn a_marker_is_found_within_and_across_packets() {
    let begin = packet(40000, 80, 100, SYN, b"");
    let whole = read(
        &["secret"],
        &[begin.clone(), packet(40000, 80, 101, ACK, b"a secret here")],
    );
    assert!(whole.markers["secret"].contains_key(&80));
    let across = read(
        &["secret"],
        &[
            begin,
            packet(40000, 80, 101, ACK, b"a sec"),
            packet(40000, 80, 106, ACK, b"ret here"),
        ],
    );
    assert!(across.markers["secret"].contains_key(&80));
    assert!(
        read(&["secret"], &[packet(40000, 80, 101, ACK, b"sec ret")])
            .markers
            .is_empty()
    );
}

#[test]
fn what_is_no_capture_is_said_to_be_none() {
    let mut reader = Reader::new(&[]);
    reader.push(&[0; 64]);
    assert!(reader.seen().broken.is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut reader = Reader::new(&["m"]);
        reader.push(&header());
        reader.push(&bytes);
        let mut framed = vec![0; 8];
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        framed.extend(length);
        framed.extend(length);
        framed.extend(&bytes);
        let mut reader = Reader::new(&["m"]);
        reader.push(&header());
        reader.push(&framed);
        prop_assert_eq!(reader.seen().packets, 1);
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_a_capture_arrives(cut in 0..200_usize) {
        let file = [
            header(),
            packet(40000, 15008, 100, SYN, b""),
            packet(40000, 15008, 101, ACK, &[23, 3, 3, 0, 2, 1, 2]),
        ]
        .concat();
        let mut whole = Reader::new(&[]);
        whole.push(&file);
        let mut pieces = Reader::new(&[]);
        let (first, second) = file.split_at(cut.min(file.len()));
        pieces.push(first);
        pieces.push(second);
        prop_assert_eq!(whole.seen(), pieces.seen());
    }
}
