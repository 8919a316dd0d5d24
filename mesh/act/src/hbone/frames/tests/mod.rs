//! Connections fed by hand, by chance, by one another, and by the h2 crate.

mod blocks;
mod credit;
mod faults;
mod floods;
mod peers;
mod random;

use bytes::Bytes;
use http::{Method, Request, Response, Uri};

use super::{
    Endpoint, Event, Fault, Head, Reason, Settings, Side,
    wire::{FrameHeader, HEADER, PREFACE, kind},
};

fn settings() -> Settings {
    Settings {
        stream_window: 100_000,
        window: 400_000,
        frame: 20_000,
        streams: 10,
        head: 4000,
        opened: 10,
    }
}

fn request() -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::from_static("10.0.0.1:80");
    request
        .headers_mut()
        .insert("forwarded", "for=a".parse().expect("a value"));
    request
}

/// A frame as it is on the wire.
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        length: body.len(),
        kind,
        flags,
        stream,
    };
    [&header.bytes(), body].concat()
}

/// What happened, in a form that can be compared.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Opened(u32, String),
    TooLong(u32),
    Answered(u32, u16),
    Data(u32, Vec<u8>),
    Ended(u32),
    Reset(u32, Reason),
    GoAway(Reason),
    Pong([u8; 8]),
}

/// Everything that these bytes bring; pieces of one stream that follow one another are one.
fn feed<T: Default>(endpoint: &mut Endpoint<T>, mut bytes: &[u8], seen: &mut Vec<Seen>) -> Result<(), Fault> {
    while let Some(event) = endpoint.receive(&mut bytes)? {
        match event {
            Event::Opened(number, Head::Request(request)) => {
                seen.push(Seen::Opened(number, format!("{} {}", request.method(), request.uri())));
            }
            Event::Opened(number, Head::TooLong(_)) => seen.push(Seen::TooLong(number)),
            Event::Answered(number, response) => seen.push(Seen::Answered(number, response.status().as_u16())),
            Event::Data(number, bytes) => match seen.last_mut() {
                Some(Seen::Data(last, before)) if *last == number => before.extend_from_slice(bytes),
                _ => seen.push(Seen::Data(number, bytes.to_vec())),
            },
            Event::Ended(number) => seen.push(Seen::Ended(number)),
            Event::Reset(number, reason) => seen.push(Seen::Reset(number, reason)),
            Event::GoAway(reason) => seen.push(Seen::GoAway(reason)),
            Event::Pong(payload) => seen.push(Seen::Pong(payload)),
            Event::Credit(_) => {}
        }
    }
    Ok(())
}

fn fed<T: Default>(endpoint: &mut Endpoint<T>, bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    feed(endpoint, bytes, &mut seen).expect("no fault");
    seen
}

fn fault<T: Default>(endpoint: &mut Endpoint<T>, bytes: &[u8]) -> Reason {
    feed(endpoint, bytes, &mut Vec::new()).expect_err("a fault").0
}

/// What it has to send.
fn sent<T>(endpoint: &mut Endpoint<T>) -> Vec<u8> {
    std::mem::take(&mut endpoint.out).plain()
}

/// The frames in it.
fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, Vec<u8>)> {
    bytes = bytes.strip_prefix(PREFACE).unwrap_or(bytes);
    let mut frames = Vec::new();
    while let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() {
        let header = FrameHeader::parse(*header);
        let (body, rest) = rest.split_at(header.length);
        frames.push((header.kind, header.flags, header.stream, body.to_vec()));
        bytes = rest;
    }
    frames
}

fn is_reset<T>(endpoint: &mut Endpoint<T>, stream: u32, reason: Reason) -> bool {
    frames(&sent(endpoint)).contains(&(kind::RST_STREAM, 0, stream, reason.0.to_be_bytes().to_vec()))
}

/// A server that was greeted, and whose greeting the peer knows.
fn server() -> Endpoint<()> {
    let mut server = Endpoint::new(Side::Server, settings());
    assert_eq!(
        fed(
            &mut server,
            &[
                &PREFACE[..],
                &frame(kind::SETTINGS, 0, 0, &[]),
                &frame(kind::SETTINGS, 1, 0, &[])
            ]
            .concat()
        ),
        []
    );
    sent(&mut server);
    server
}

/// A client that was greeted.
fn client() -> Endpoint<()> {
    let mut client = Endpoint::new(Side::Client, settings());
    assert_eq!(
        fed(
            &mut client,
            &[frame(kind::SETTINGS, 0, 0, &[]), frame(kind::SETTINGS, 1, 0, &[])].concat()
        ),
        []
    );
    sent(&mut client);
    client
}

/// The block of a CONNECT.
fn connect() -> Vec<u8> {
    let mut client = Endpoint::<()>::new(Side::Client, settings());
    sent(&mut client);
    client.open(&request(), ()).expect("opens");
    frames(&sent(&mut client)).remove(0).3
}

/// A server with one stream, 1.
fn server_with_stream() -> Endpoint<()> {
    let mut server = server();
    let seen = fed(&mut server, &frame(kind::HEADERS, 4, 1, &connect()));
    assert_eq!(seen, [Seen::Opened(1, "CONNECT 10.0.0.1:80".into())]);
    server
}

/// A client with one answered stream, 1.
fn client_with_stream() -> Endpoint<()> {
    let mut client = client();
    assert_eq!(client.open(&request(), ()), Ok(1));
    sent(&mut client);
    assert_eq!(
        fed(&mut client, &frame(kind::HEADERS, 4, 1, &[0x88])),
        [Seen::Answered(1, 200)]
    );
    client
}
