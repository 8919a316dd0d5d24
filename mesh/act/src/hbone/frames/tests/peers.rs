//! Our client and our server, whatever is done in whatever order, and either with the h2 crate as its peer.

use std::collections::HashMap;

use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

/// What is done next; streams and amounts by number.
#[derive(Debug, Clone)]
enum Step {
    Open,
    Answer(usize),
    Send(bool, usize, usize),
    Release(bool, usize, usize),
    Finish(bool, usize),
    Reset(bool, usize),
    Allow(bool, usize),
    Move(bool, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let (side, stream, bytes) = (any::<bool>(), 0usize..6, 1usize..60_000);
    prop_oneof![
        1 => Just(Step::Open),
        1 => stream.clone().prop_map(Step::Answer),
        6 => (side, stream.clone(), bytes.clone()).prop_map(|(side, stream, bytes)| Step::Send(side, stream, bytes)),
        4 => (side, stream.clone(), bytes.clone()).prop_map(|(side, stream, bytes)| Step::Release(side, stream, bytes)),
        1 => (side, stream.clone()).prop_map(|(side, stream)| Step::Finish(side, stream)),
        1 => (side, stream).prop_map(|(side, stream)| Step::Reset(side, stream)),
        2 => (side, 1usize..100_000).prop_map(|(side, window)| Step::Allow(side, window)),
        8 => (side, bytes).prop_map(|(side, bytes)| Step::Move(side, bytes)),
    ]
}

/// One direction of one stream.
#[derive(Debug, Default)]
struct Flow {
    sent: usize,
    received: usize,
    released: usize,
    finished: bool,
    ended: bool,
    reset: bool,
}

fn letter(stream: u32, at: usize) -> u8 {
    (at % 251) as u8 ^ stream as u8
}

/// Two ends, what is between them, and what went through: `false` is the client.
struct World {
    ends: [Endpoint<()>; 2],
    pipes: [Vec<u8>; 2],
    flows: HashMap<(bool, u32), Flow>,
    opened: Vec<u32>,
    arrived: Vec<u32>,
}

impl World {
    fn new() -> Self {
        Self {
            ends: [
                Endpoint::new(Side::Client, settings()),
                Endpoint::new(Side::Server, settings()),
            ],
            pipes: [Vec::new(), Vec::new()],
            flows: HashMap::new(),
            opened: Vec::new(),
            arrived: Vec::new(),
        }
    }

    fn flow(&mut self, by: bool, stream: u32) -> &mut Flow {
        self.flows.entry((by, stream)).or_default()
    }

    fn perform(&mut self, step: Step) {
        let of = |list: &[u32], at: usize| list.get(at % list.len().max(1)).copied();
        match step {
            Step::Open => {
                if let Ok(stream) = self.ends[0].open(&request(), ()) {
                    self.opened.push(stream);
                }
            }
            Step::Answer(at) => {
                if let Some(stream) = of(&self.arrived, at) {
                    self.ends[1].answer(stream, &Response::new(()), false);
                }
            }
            Step::Send(by, at, bytes) => {
                let Some(stream) = of(if by { &self.arrived } else { &self.opened }, at) else {
                    return;
                };
                let end = &mut self.ends[usize::from(by)];
                if by {
                    end.answer(stream, &Response::new(()), false);
                }
                let most = bytes.min(end.stream_credit(stream)).min(end.credit());
                let flow = self.flows.entry((by, stream)).or_default();
                let text: Vec<u8> = (flow.sent..flow.sent + most).map(|at| letter(stream, at)).collect();
                let sent = end.send(stream, &text);
                assert_eq!(sent, most, "what has credit is sent");
                flow.sent += sent;
            }
            Step::Release(by, at, bytes) => {
                let Some(stream) = of(if by { &self.arrived } else { &self.opened }, at) else {
                    return;
                };
                let flow = self.flows.entry((!by, stream)).or_default();
                let bytes = bytes.min(flow.received - flow.released);
                flow.released += bytes;
                self.ends[usize::from(by)].release(stream, bytes);
            }
            Step::Finish(by, at) => {
                let Some(stream) = of(if by { &self.arrived } else { &self.opened }, at) else {
                    return;
                };
                if by {
                    self.ends[1].answer(stream, &Response::new(()), false);
                }
                let finished = self.ends[usize::from(by)].finish(stream);
                self.flow(by, stream).finished |= finished;
            }
            Step::Reset(by, at) => {
                let Some(stream) = of(if by { &self.arrived } else { &self.opened }, at) else {
                    return;
                };
                self.ends[usize::from(by)].reset(stream, Reason::CANCEL);
                self.flow(by, stream).reset = true;
                self.flow(!by, stream).reset = true;
            }
            Step::Allow(by, window) => self.allow(by, window),
            Step::Move(by, bytes) => self.carry(by, bytes),
        }
    }

    fn allow(&mut self, by: bool, window: usize) {
        let end = &mut self.ends[usize::from(by)];
        if end.allow(window as u32) {
            end.lend();
        }
    }

    /// Carries bytes that the end `by` has sent to the other.
    fn carry(&mut self, by: bool, bytes: usize) {
        let from = usize::from(by);
        self.pipes[from].extend(sent(&mut self.ends[from]));
        let bytes = bytes.min(self.pipes[from].len());
        let carried: Vec<u8> = self.pipes[from].drain(..bytes).collect();
        let mut seen = Vec::new();
        feed(&mut self.ends[1 - from], &carried, &mut seen).expect("neither side breaks the protocol");
        for event in seen {
            match event {
                Seen::Opened(stream, _) => self.arrived.push(stream),
                Seen::Data(stream, bytes) => {
                    let flow = self.flow(by, stream);
                    let expected: Vec<u8> = (flow.received..flow.received + bytes.len())
                        .map(|at| letter(stream, at))
                        .collect();
                    assert!(
                        bytes == expected,
                        "the bytes of stream {stream} are those that were sent"
                    );
                    flow.received += bytes.len();
                    assert!(flow.received - flow.released <= 100_000, "the window holds");
                }
                Seen::Ended(stream) => self.flow(by, stream).ended = true,
                Seen::Reset(stream, _) => {
                    assert!(self.flow(by, stream).reset, "only what was reset is");
                }
                other => assert!(matches!(other, Seen::Answered(_, 200)), "{other:?}"),
            }
        }
    }

    /// Carries and releases everything, until nothing moves.
    fn settle(&mut self) {
        for _ in 0..50 {
            for by in [false, true] {
                self.carry(by, usize::MAX);
                for at in 0..self.opened.len() {
                    self.perform(Step::Release(by, at, usize::MAX));
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn our_two_sides_deliver_exactly_what_was_sent(steps in vec(step(), 1..200)) {
        let mut world = World::new();
        world.perform(Step::Open);
        for step in steps {
            world.perform(step);
        }
        world.settle();
        for ((by, stream), flow) in &world.flows {
            if !flow.reset {
                prop_assert_eq!(flow.sent, flow.received, "stream {} by {}", stream, by);
                prop_assert_eq!(flow.finished, flow.ended);
            }
        }
        // Whatever happened before: the whole window is there for the next.
        for stream in world.opened.clone() {
            world.ends.iter_mut().for_each(|end| {
                end.forget(stream);
            });
        }
        world.settle();
        if world.ends[0].open(&request(), ()).is_ok() {
            prop_assert!(world.ends[0].credit() > 300_000, "{}", world.ends[0].credit());
            prop_assert!(world.ends[0].credit() <= 400_000, "nothing stays lent");
        }
    }
}

/// Runs an end of ours over a pipe: everything that comes in on a stream is sent back on it.
async fn echo(mut endpoint: Endpoint<Vec<u8>>, mut io: DuplexStream) {
    let mut buffer = vec![0; 100_000];
    loop {
        let out = sent(&mut endpoint);
        if io.write_all(&out).await.is_err() {
            return;
        }
        let Ok(read @ 1..) = io.read(&mut buffer).await else {
            return;
        };
        let mut seen = Vec::new();
        feed(&mut endpoint, &buffer[..read], &mut seen).expect("h2 breaks no rule");
        let mut ended = Vec::new();
        for event in seen {
            match event {
                Seen::Opened(stream, _) => {
                    endpoint.answer(stream, &Response::new(()), false);
                }
                Seen::Data(stream, bytes) => {
                    endpoint.user(stream).expect("known").extend_from_slice(&bytes);
                    endpoint.release(stream, bytes.len());
                }
                Seen::Ended(stream) => ended.push(stream),
                _ => {}
            }
        }
        let streams: Vec<_> = endpoint.users().map(|(number, _)| number).collect();
        for stream in streams {
            let waiting = std::mem::take(endpoint.user(stream).expect("known"));
            let sent = endpoint.send(stream, &waiting);
            endpoint
                .user(stream)
                .expect("known")
                .extend_from_slice(&waiting[sent..]);
            if sent == waiting.len() && endpoint.is_ended(stream) {
                endpoint.finish(stream);
                endpoint.forget(stream);
            }
        }
    }
}

#[tokio::test]
async fn the_h2_crate_as_client_gets_back_what_it_sends() {
    let (near, far) = tokio::io::duplex(50_000);
    tokio::spawn(echo(Endpoint::new(Side::Server, settings()), far));
    let (client, connection) = h2::client::handshake(near).await.expect("speaks HTTP/2");
    tokio::spawn(async move { connection.await.expect("we break no rule") });
    let mut turns = Vec::new();
    for turn in 0..8usize {
        let client = client.clone();
        turns.push(tokio::spawn(async move {
            let request = Request::builder()
                .method("CONNECT")
                .uri("10.0.0.1:80")
                .body(())
                .expect("valid");
            let (answer, mut body) = client
                .ready()
                .await
                .expect("open")
                .send_request(request, false)
                .expect("asks");
            let text = Bytes::from(
                (0..300_000 + turn)
                    .map(|at| letter(turn as u32, at))
                    .collect::<Vec<_>>(),
            );
            let mut answer = answer.await.expect("answers").into_body();
            body.send_data(text.clone(), true).expect("sends");
            let mut back = Vec::new();
            while let Some(chunk) = answer.data().await {
                let chunk = chunk.expect("lives");
                answer.flow_control().release_capacity(chunk.len()).expect("held");
                back.extend_from_slice(&chunk);
            }
            assert!(back == text);
        }));
    }
    for turn in turns {
        tokio::time::timeout(std::time::Duration::from_secs(60), turn)
            .await
            .expect("ends")
            .expect("runs");
    }
}

#[tokio::test]
async fn the_h2_crate_keeps_to_windows_that_shrink_and_grow() {
    let (near, mut far) = tokio::io::duplex(50_000);
    let (client, connection) = h2::client::handshake(near).await.expect("speaks HTTP/2");
    tokio::spawn(async move { connection.await.expect("we break no rule") });
    let sending = tokio::spawn(async move {
        let request = Request::builder().method("CONNECT").uri("10.0.0.1:80").body(());
        let mut client = client.ready().await.expect("open");
        let (answer, mut body) = client.send_request(request.expect("valid"), false).expect("asks");
        body.send_data(vec![7; 3_000_000].into(), true).expect("sends");
        let mut answer = answer.await.expect("answers").into_body();
        while let Some(chunk) = answer.data().await {
            assert_eq!(chunk.expect("lives"), "");
        }
    });
    let mut endpoint = Endpoint::<()>::new(Side::Server, settings());
    let (mut buffer, mut unread, mut got, mut round) = (vec![0; 30_000], 0, 0, 0);
    let mut ended = false;
    while !ended {
        let out = sent(&mut endpoint);
        far.write_all(&out).await.expect("lives");
        let read = tokio::select! {
            read = far.read(&mut buffer) => read.expect("lives"),
            // Nothing more comes by this window.
            () = tokio::time::sleep(std::time::Duration::from_millis(20)) => 0,
        };
        for event in fed(&mut endpoint, &buffer[..read]) {
            match event {
                Seen::Opened(stream, _) => assert!(endpoint.answer(stream, &Response::new(()), false)),
                Seen::Data(_, bytes) => unread += bytes.len(),
                Seen::Ended(_) => ended = true,
                other => panic!("{other:?}"),
            }
        }
        got += read;
        round += 1;
        let window = [100_000, 1000, 30_000, 0][round / 8 % 4];
        endpoint.allow(window);
        if read == 0 {
            endpoint.release(1, std::mem::take(&mut unread));
        }
        assert!(round < 100_000, "it goes on: {got}");
    }
    endpoint.finish(1);
    far.write_all(&sent(&mut endpoint)).await.expect("lives");
    sending.await.expect("ends in order");
}

#[tokio::test]
async fn the_h2_crate_as_server_reads_what_we_send() {
    let (near, far) = tokio::io::duplex(50_000);
    let serving = tokio::spawn(async move {
        let mut server = h2::server::handshake(far).await.expect("speaks HTTP/2");
        let (request, mut answer) = server.accept().await.expect("asked").expect("a request");
        assert_eq!(request.uri().to_string(), "10.0.0.1:80");
        assert_eq!(request.headers()["forwarded"], "for=a");
        answer.send_response(Response::new(()), true).expect("answers");
        tokio::spawn(async move { while server.accept().await.is_some() {} });
        let mut body = request.into_body();
        let mut read = Vec::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.expect("lives");
            body.flow_control().release_capacity(chunk.len()).expect("held");
            read.extend_from_slice(&chunk);
        }
        read
    });
    let mut endpoint = Endpoint::<Vec<u8>>::new(Side::Client, settings());
    let text: Vec<u8> = (0..300_000).map(|at| letter(1, at)).collect();
    let stream = endpoint.open(&request(), text.clone()).expect("opens");
    let (mut io, mut buffer) = (near, vec![0; 50_000]);
    while !serving.is_finished() {
        let waiting = std::mem::take(endpoint.user(stream).expect("known"));
        let done = endpoint.send(stream, &waiting);
        *endpoint.user(stream).expect("known") = waiting[done..].to_vec();
        if done == waiting.len() {
            endpoint.finish(stream);
        }
        let out = sent(&mut endpoint);
        io.write_all(&out).await.expect("lives");
        tokio::select! {
            read = io.read(&mut buffer) => {
                let read = read.expect("lives");
                let seen = fed(&mut endpoint, &buffer[..read]);
                assert!(seen.iter().all(|it| matches!(it, Seen::Answered(1, 200) | Seen::Ended(1))), "{seen:?}");
            }
            () = tokio::time::sleep(std::time::Duration::from_millis(10)) => {}
        }
    }
    assert!(serving.await.expect("runs") == text);
}
