//! Entrances for `make fuzz`, and for the test that tries again what fuzzing has kept: bytes come in and play a peer
//! that does anything, and a user of its streams that does, too. A panic is a finding. No program calls this.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header::FORWARDED};

use super::{
    Incoming, Receiver, Sender, Stream, Traceparent, TunnelOptions,
    connect::{authority, forwarded_host, refused_by_peer},
    core::Shared,
    flow::Flow,
    frames::{Fault, Side},
    intake::Batch,
    stream::Handle,
};

/// A peer that made a tunnel, against what serves it.
pub fn server(bytes: &[u8]) {
    Game::new(Side::Server).play(Script(bytes));
}

/// A peer that serves a tunnel, against what made it.
pub fn client(bytes: &[u8]) {
    Game::new(Side::Client).play(Script(bytes));
}

/// The head of a CONNECT, and of an answer to one: a line for the authority, then one for each header.
pub fn heads(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    if let Some(target) = lines.next().and_then(|line| Uri::try_from(line).ok()) {
        *request.uri_mut() = target;
    }
    let mut headers = HeaderMap::new();
    for line in lines.take(64) {
        let mut halves = line.splitn(2, |byte| *byte == b'=');
        let name = halves.next().and_then(|name| HeaderName::from_lowercase(name).ok());
        let value = halves.next().and_then(|value| HeaderValue::from_bytes(value).ok());
        if let (Some(name), Some(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    if let Ok(address) = authority(&request) {
        assert!(address.port() != 0 && !address.ip().is_unspecified());
    }
    if let Some(host) = forwarded_host(&headers) {
        assert!(host.len() <= 253);
    }
    if let Some(trace) = Traceparent::of(&headers) {
        assert_eq!(Traceparent::parse(&trace.to_string()), Some(trace));
    }
    assert!(headers.contains_key(FORWARDED) || forwarded_host(&headers).is_none());
    let mut answer = Response::new(());
    *answer.status_mut() = StatusCode::FORBIDDEN;
    *answer.headers_mut() = headers;
    let _ = refused_by_peer(&answer).to_string();
}

/// What is done, read from the front.
struct Script<'i>(&'i [u8]);

impl<'i> Script<'i> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn take(&mut self, most: usize) -> &'i [u8] {
        let (taken, rest) = self.0.split_at_checked(most).unwrap_or((self.0, &[]));
        self.0 = rest;
        taken
    }
}

/// A stream and how far its user has come with it.
enum Held {
    /// The peer asked, and was not answered yet.
    Asked(Incoming),
    /// We asked.
    Asking(Handle),
    Open(Receiver, Sender),
    /// We said all.
    Listening(Receiver),
}

/// One side of a tunnel, its user included.
struct Game {
    side: Side,
    shared: Arc<Shared>,
    held: Vec<Held>,
}

/// The block of a CONNECT to 10.0.0.1:80, and that of a 200.
const ASKED: &[u8] = b"\x02\x07CONNECT\x01\x0b10.0.0.1:80";
const GRANTED: &[u8] = &[0x88];
/// What a client says first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Game {
    fn new(side: Side) -> Self {
        let options = TunnelOptions {
            stream_window: 40_000,
            tunnel_window: 100_000,
            frame: 20_000,
            streams_served: 5,
            streams_used: 5,
            send_buffer: 30_000,
            ..TunnelOptions::default()
        };
        Self {
            side,
            shared: Shared::new(side, &options),
            held: Vec::new(),
        }
    }

    fn play(mut self, mut script: Script<'_>) {
        while !script.0.is_empty() {
            if let Err(fault) = self.step(&mut script) {
                let mut core = self.shared.lock();
                core.endpoint.go_away(fault.0);
                core.fail(&fault.to_string().into());
                break;
            }
        }
        self.sent();
        // Its users go on for a while after the tunnel is over.
        for turn in 0..=255 {
            self.listen(turn);
            self.say(turn, 10);
        }
    }

    fn step(&mut self, script: &mut Script<'_>) -> Result<(), Fault> {
        match script.byte() % 12 {
            0 => {
                let most = usize::from(script.byte());
                self.hear(script.take(most))?;
            }
            1 => {
                let preface = if self.side == Side::Server { PREFACE } else { &[] };
                let most = usize::from(script.byte() % 8) * 6;
                self.hear(&[preface, &frame(4, 0, 0, script.take(most))].concat())?;
            }
            2..=5 => {
                let (kind, flags, stream, most) = (script.byte(), script.byte(), script.byte(), script.byte());
                self.hear(&frame(kind % 11, flags, stream % 16, script.take(most.into())))?;
            }
            6 => {
                let block = if self.side == Side::Server { ASKED } else { GRANTED };
                self.hear(&frame(1, 4, script.byte() % 16, block))?;
            }
            7 => self.begin(script.byte()),
            8 => {
                let (which, much) = (script.byte(), script.byte());
                self.say(which, usize::from(much) * 300);
            }
            9 => self.listen(script.byte()),
            10 => self.end(script.byte(), script.byte()),
            _ => self.rule(script.byte()),
        }
        Ok(())
    }

    /// The peer says something.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut batch = Batch::new();
        let mut core = self.shared.lock();
        let taken = core.take(bytes, &mut batch, &self.shared.alive);
        core.deliver(&mut batch);
        taken?;
        while let Some((number, head)) = core.accepted.pop_front() {
            let handle = Handle::new(self.shared.clone(), number, None);
            self.held.push(Held::Asked(Incoming::new(head, handle)));
        }
        Ok(())
    }

    /// What we have to say is taken for the wire: whole frames.
    fn sent(&mut self) {
        let out = self.shared.lock().take_out().plain();
        let mut rest = out.strip_prefix(PREFACE).unwrap_or(&out);
        while let Some(([a, b, c, ..], after)) = rest.split_first_chunk::<9>() {
            let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
            rest = after.get(length..).expect("frames are written as a whole");
        }
        assert!(rest.is_empty(), "frames are written as a whole");
    }

    /// Streams begin: the peer's are answered, ours are opened.
    fn begin(&mut self, which: u8) {
        let place = usize::from(which) % (self.held.len() + 1);
        if place == self.held.len() {
            if self.side == Side::Client {
                let mut request = Request::new(());
                *request.method_mut() = Method::CONNECT;
                *request.uri_mut() = Uri::from_static("10.0.0.1:80");
                let opened = self.shared.lock().endpoint.open(&request, Flow::default());
                if let Ok(number) = opened {
                    self.held
                        .push(Held::Asking(Handle::new(self.shared.clone(), number, None)));
                }
            }
            return;
        }
        let begun = match self.held.swap_remove(place) {
            Held::Asked(incoming) => {
                let wanted = incoming.authority();
                let _ = (incoming.host(), incoming.traceparent());
                match wanted {
                    Ok(_) => incoming.accept().ok(),
                    Err(refusal) => {
                        incoming.refuse(&refusal);
                        None
                    }
                }
            }
            Held::Asking(handle) => {
                let answered = self
                    .shared
                    .lock()
                    .endpoint
                    .user(handle.number)
                    .is_some_and(|flow| flow.answer.is_some());
                answered.then(|| Stream::new(handle))
            }
            begun => {
                self.held.push(begun);
                return;
            }
        };
        if let Some(stream) = begun {
            let (receiver, sender) = stream.split();
            self.held.push(Held::Open(receiver, sender));
        }
    }

    fn say(&mut self, which: u8, want: usize) {
        let place = usize::from(which) % self.held.len().max(1);
        if let Some(Held::Open(_, sender)) = self.held.get_mut(place)
            && let Poll::Ready(Ok(credit)) = sender.poll_credit(&mut Context::from_waker(Waker::noop()), want)
        {
            assert!(credit <= want, "no more than was wanted");
            sender.send(&vec![b'x'; credit]).expect("within its credit");
            if which.is_multiple_of(3) {
                sender.give_back();
            }
        }
    }

    fn listen(&mut self, which: u8) {
        let place = usize::from(which) % self.held.len().max(1);
        if let Some(Held::Open(receiver, _) | Held::Listening(receiver)) = self.held.get_mut(place)
            && let Poll::Ready(Ok(Some(chunk))) = receiver.poll_chunk(&mut Context::from_waker(Waker::noop()))
        {
            receiver.release(chunk.len());
        }
    }

    fn end(&mut self, which: u8, how: u8) {
        if self.held.is_empty() {
            return;
        }
        let place = usize::from(which) % self.held.len();
        match (self.held.swap_remove(place), how % 3) {
            (Held::Open(receiver, mut sender), 0) => {
                let _ = sender.finish();
                drop(sender);
                self.held.push(Held::Listening(receiver));
            }
            (Held::Open(receiver, mut sender), 1) => {
                sender.reset();
                self.held.push(Held::Open(receiver, sender));
            }
            (gone, _) => drop(gone),
        }
    }

    fn rule(&mut self, how: u8) {
        match how % 6 {
            0 => self.shared.lock().drain(),
            1 => self.shared.lock().leave(),
            2 => {
                let _ = self.shared.lock().endpoint.forgive();
            }
            3 => self.shared.lock().endpoint.ping(*b"whatever"),
            4 => self.shared.lock().end_round(None),
            _ => self.sent(),
        }
    }
}

fn frame(kind: u8, flags: u8, stream: u8, body: &[u8]) -> Vec<u8> {
    let [.., a, b, c] = body.len().to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream], body].concat()
}
