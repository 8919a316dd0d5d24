//! Header blocks: the examples of RFC 7541 appendix C, and what no block may do.

use super::{super::decoder::Decoder, *};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|it| it.to_digit(16))
        .map(|it| it as u8)
        .collect();
    digits.chunks(2).map(|it| it[0] << 4 | it[1]).collect()
}

fn read(decoder: &mut Decoder, block: &[u8]) -> Option<Vec<(String, String)>> {
    let mut fields = Vec::new();
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    decoder
        .decode(block, |name, value| fields.push((text(&name), text(&value))))
        .ok()?;
    Some(fields)
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, String)> {
    list.iter()
        .map(|(name, value)| ((*name).into(), (*value).into()))
        .collect()
}

#[test]
fn requests_of_the_rfc_read_with_and_without_huffman() {
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::new(1000);
        let authority = (":authority", "www.example.com");
        let first = [(":method", "GET"), (":scheme", "http"), (":path", "/"), authority];
        assert_eq!(read(&mut decoder, &hex(blocks[0])), Some(fields(&first)));
        let second = [&first[..], &[("cache-control", "no-cache")]].concat();
        assert_eq!(read(&mut decoder, &hex(blocks[1])), Some(fields(&second)));
        let third = [
            (":method", "GET"),
            (":scheme", "https"),
            (":path", "/index.html"),
            authority,
            ("custom-key", "custom-value"),
        ];
        assert_eq!(read(&mut decoder, &hex(blocks[2])), Some(fields(&third)));
        let table = [("custom-key", "custom-value"), ("cache-control", "no-cache"), authority];
        assert_eq!(decoder.table().dynamic(), (164, fields(&table)));
    }
}

#[test]
fn responses_of_the_rfc_evict_what_is_oldest() {
    let blocks = [
        "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f \
         6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b \
         2076 6572 7369 6f6e 3d31",
    ];
    let mut decoder = Decoder::new(1000);
    assert!(decoder.table().resize(256));
    let date = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    let location = ("location", "https://www.example.com");
    let (private, redirect) = (("cache-control", "private"), (":status", "302"));
    let first = [redirect, private, date, location];
    assert_eq!(read(&mut decoder, &hex(blocks[0])), Some(fields(&first)));
    assert_eq!(
        decoder.table().dynamic(),
        (222, fields(&[location, date, private, redirect]))
    );
    let second = [(":status", "307"), private, date, location];
    assert_eq!(read(&mut decoder, &hex(blocks[1])), Some(fields(&second)));
    assert_eq!(
        decoder.table().dynamic(),
        (222, fields(&[(":status", "307"), location, date, private]))
    );
    let third = read(&mut decoder, &hex(blocks[2])).expect("readable");
    assert_eq!(third.len(), 6);
    let (size, left) = decoder.table().dynamic();
    let cookie = ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
    let left_there = [
        cookie,
        ("content-encoding", "gzip"),
        ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
    ];
    assert_eq!((size, left), (215, fields(&left_there)));
}

#[test]
fn blocks_that_no_encoder_makes_are_not_read() {
    for (block, why) in [
        ("80", "the number 0"),
        ("be", "a number that nobody inserted"),
        ("ff8080808001", "a number without end"),
        ("400a 6375", "a string cut off"),
        ("40", "no name"),
        ("4001 61", "no value"),
        ("823f e11f", "a table size in the middle"),
        ("3fe2 1f", "a table larger than allowed"),
        ("0085 ffff ffff ff01 61", "the end symbol in a name"),
    ] {
        assert_eq!(read(&mut Decoder::new(1000), &hex(block)), None, "{why}");
    }
    let long = [&b"\x00\x01a\x7f\xd1\x07"[..], &[b'x'; 1104]].concat();
    assert_eq!(read(&mut Decoder::new(1000), &long), None, "a string beyond the bound");
    assert!(read(&mut Decoder::new(2000), &long).is_some());
}

#[test]
fn an_entry_larger_than_the_table_empties_it() {
    let mut decoder = Decoder::new(10_000);
    read(&mut decoder, b"\x40\x01a\x01b").expect("readable");
    assert_eq!(decoder.table().dynamic().1.len(), 1);
    let huge = [&b"\x40\x01a\x7f\x81\x1f"[..], &[b'x'; 4096]].concat();
    read(&mut decoder, &huge).expect("readable");
    assert_eq!(decoder.table().dynamic(), (0, Vec::new()));
}

#[test]
fn heads_longer_than_a_frame_are_continued() {
    let mut client = client();
    let mut request = request();
    request
        .headers_mut()
        .insert("baggage", "x".repeat(50_000).parse().expect("a value"));
    client.open(&request, ()).expect("opens");
    let kinds: Vec<_> = frames(&sent(&mut client)).iter().map(|it| (it.0, it.1)).collect();
    assert_eq!(
        kinds,
        [
            (kind::HEADERS, 0),
            (kind::CONTINUATION, 0),
            (kind::CONTINUATION, 0),
            (kind::CONTINUATION, 4)
        ]
    );
}
