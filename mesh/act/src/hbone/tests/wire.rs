//! What is seen on the wire, and what hostile peers send.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::*;

/// SETTINGS by identifier (RFC 9113 6.5.2), and the tunnel's window, out of the first frames of a side.
async fn opening(io: &mut DuplexStream, preface: bool) -> (HashMap<u16, u32>, u32) {
    if preface {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.expect("a preface");
    }
    let (mut settings, mut window) = (HashMap::new(), None);
    while settings.is_empty() || window.is_none() {
        let mut head = [0; 9];
        io.read_exact(&mut head).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut body = vec![0; length];
        io.read_exact(&mut body).await.expect("its body");
        match head[3] {
            4 if head[4] == 0 => {
                settings = body
                    .chunks(6)
                    .map(|it| {
                        (
                            u16::from_be_bytes([it[0], it[1]]),
                            u32::from_be_bytes([it[2], it[3], it[4], it[5]]),
                        )
                    })
                    .collect();
            }
            8 => window = Some(65_535 + u32::from_be_bytes([body[0], body[1], body[2], body[3]])),
            _ => {}
        }
    }
    (settings, window.expect("read"))
}

#[tokio::test]
async fn a_client_opens_with_large_windows_and_without_push() {
    let (near, mut far) = tokio::io::duplex(PIPE);
    let transport = Transport::new(near, SystemTime::now() + HOUR);
    let (_tunnel, driving) = crate::hbone::client::ClientTunnel::over(transport, false, &TunnelOptions::default());
    let driving = tokio::spawn(driving.run(|| false));
    let (settings, window) = opening(&mut far, true).await;
    assert_eq!(settings[&2], 0, "ENABLE_PUSH");
    assert_eq!(settings[&4], 1 << 20, "INITIAL_WINDOW_SIZE");
    assert_eq!(settings[&5], 64 << 10, "MAX_FRAME_SIZE");
    assert_eq!(settings[&6], 16 << 10, "MAX_HEADER_LIST_SIZE");
    assert_eq!(window, 8 << 20);
    driving.abort();
}

#[tokio::test]
async fn a_server_opens_with_large_windows_and_bounded_streams_and_headers() {
    let (mut near, far) = tokio::io::duplex(PIPE);
    near.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
        .await
        .expect("takes");
    let serving = tokio::spawn(async move {
        let transport = Transport::new(far, SystemTime::now() + HOUR);
        let mut tunnel = Tunnel::over(transport, &TunnelOptions::default())
            .await
            .expect("speaks HTTP/2");
        tunnel.next().await.is_none()
    });
    let (settings, window) = opening(&mut near, false).await;
    assert_eq!(settings[&3], 200, "MAX_CONCURRENT_STREAMS");
    assert_eq!(settings[&4], 1 << 20, "INITIAL_WINDOW_SIZE");
    assert_eq!(settings[&5], 64 << 10, "MAX_FRAME_SIZE");
    assert_eq!(settings[&6], 64 << 10, "MAX_HEADER_LIST_SIZE");
    assert_eq!(window, 8 << 20);
    serving.abort();
}

/// Asks a server with a hand-made request, which is all of it unless it is a CONNECT; answers status and `weft-refusal`.
async fn asked(request: Request<()>) -> Result<(u16, Option<String>), h2::Error> {
    let whole = request.method() != Method::CONNECT;
    asked_with(request, if whole { &[""] } else { &[] }).await
}

/// As [`asked`], with content, whose last piece ends it.
async fn asked_with(request: Request<()>, content: &[&'static str]) -> Result<(u16, Option<String>), h2::Error> {
    let (near, far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        let transport = Transport::new(far, SystemTime::now() + HOUR);
        let mut tunnel = Tunnel::over(transport, &TunnelOptions::default())
            .await
            .expect("speaks HTTP/2");
        let mut accepted = Vec::new();
        while let Some(incoming) = tunnel.next().await {
            let _ = (incoming.traceparent(), incoming.host());
            match incoming.authority() {
                Ok(_) => accepted.push(incoming.accept()),
                Err(refusal) => incoming.refuse(&refusal),
            }
        }
    });
    let (requests, connection) = h2::client::Builder::new().handshake::<_, Bytes>(near).await?;
    tokio::spawn(connection);
    let (answer, mut sender) = requests.ready().await?.send_request(request, false)?;
    for (index, piece) in content.iter().enumerate() {
        sender.send_data(Bytes::from_static(piece.as_bytes()), index + 1 == content.len())?;
    }
    let answer = answer.await?;
    let label = answer
        .headers()
        .get("weft-refusal")
        .map(|it| it.to_str().expect("ASCII").to_owned());
    Ok((answer.status().as_u16(), label))
}

fn connect_to(authority: &str) -> http::request::Builder {
    Request::builder().method(Method::CONNECT).uri(authority)
}

#[tokio::test]
async fn a_connect_to_an_address_is_accepted() {
    let request = connect_to("10.0.0.1:80").body(()).expect("a request");
    assert_eq!(asked(request).await.expect("answers"), (200, None));
}

#[tokio::test]
async fn malformed_heads_are_refused_with_400_and_a_label() {
    for request in [
        Request::get("http://10.0.0.1/").body(()),
        Request::post("http://10.0.0.1:80/x").body(()),
        connect_to("echo.shop.svc:80").body(()),
        connect_to("10.0.0.1").body(()),
        connect_to("0.0.0.0:80").body(()),
    ] {
        let (status, label) = asked(request.expect("a request")).await.expect("answers");
        assert_eq!((status, label.as_deref()), (400, Some("MALFORMED")));
    }
}

#[tokio::test]
async fn what_is_no_connect_is_answered_when_it_is_whole_and_reset_when_it_is_malformed() {
    let post = |length: &str| {
        Request::post("http://10.0.0.1/")
            .header("content-length", length)
            .body(())
    };
    let request = post("10").expect("a request");
    let (status, _) = asked_with(request, &["hello", "world"]).await.expect("answers");
    assert_eq!(status, 400);
    for (length, content) in [("9", ["hello", "world"]), ("11", ["hello", "world"]), ("", ["", ""])] {
        let error = asked_with(post(length).expect("a request"), &content).await;
        let error = error.expect_err("a stream error (RFC 9113 8.1.1)");
        assert_eq!(error.reason(), Some(h2::Reason::PROTOCOL_ERROR), "{length}");
    }
}

#[tokio::test]
async fn odd_headers_change_nothing() {
    for (name, value) in [
        ("traceparent", "0".repeat(55)),
        ("traceparent", "-".repeat(55)),
        ("baggage", "k=v,".repeat(4000)),
        ("forwarded", "for=;;;host=;=;\"".to_owned()),
        ("forwarded", "host=".repeat(1000)),
    ] {
        let request = connect_to("10.0.0.1:80")
            .header(name, value)
            .body(())
            .expect("a request");
        assert_eq!(asked(request).await.expect("answers").0, 200, "{name}");
    }
    let bytes = HeaderValue::from_bytes(&[0xff; 64]).expect("opaque");
    let request = connect_to("10.0.0.1:80")
        .header("traceparent", bytes.clone())
        .header("forwarded", bytes)
        .body(())
        .expect("a request");
    assert_eq!(asked(request).await.expect("answers").0, 200);
}

#[tokio::test]
async fn a_head_beyond_its_bound_is_refused() {
    let request = connect_to("10.0.0.1:80")
        .header("baggage", "x".repeat(100_000))
        .body(())
        .expect("a request");
    let (status, label) = asked(request).await.expect("answers");
    assert_eq!((status, label.as_deref()), (400, Some("MALFORMED")));
}

#[tokio::test]
async fn a_peer_that_breaks_the_protocol_hears_why_whatever_it_still_sends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound"))
        .await
        .expect("connects");
    let (socket, _) = listener.accept().await.expect("accepts");
    let serving = tokio::spawn(async move {
        let transport = Transport::new(socket, SystemTime::now() + HOUR);
        let mut tunnel = Tunnel::over(transport, &TunnelOptions::default()).await?;
        while tunnel.next().await.is_some() {}
        Ok::<_, Refusal>(())
    });
    let greeting = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    client.write_all(&greeting).await.expect("takes");
    // A frame beyond what we allow, and much more behind it.
    client
        .write_all(&[255, 255, 255, 0, 0, 0, 0, 0, 1])
        .await
        .expect("takes");
    client.write_all(&vec![0; 3 << 20]).await.expect("takes");
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.expect("an end, not a reset");
    let frame_size_error = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6];
    assert!(heard.ends_with(&frame_size_error), "GOAWAY comes last: {heard:?}");
    drop(client);
    let _ = serving.await.expect("ends");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_listen_is_not_answered_without_end() {
    let (mut near, far) = tokio::io::duplex(1024);
    tokio::spawn(async move {
        let transport = Transport::new(far, SystemTime::now() + HOUR);
        let mut tunnel = Tunnel::over(transport, &TunnelOptions::default()).await?;
        while let Some(incoming) = tunnel.next().await {
            if let Err(refusal) = incoming.authority() {
                incoming.refuse(&refusal);
            }
        }
        Ok::<_, Refusal>(())
    });
    let greeting = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    near.write_all(&greeting).await.expect("takes");
    let (mut taken, mut stream) = (0, 1u32);
    let get = [0x82, 0x86, 0x84, 0x41, 1, b'a'];
    while taken < 32 << 20 {
        let [a, b, c, d] = stream.to_be_bytes();
        let asked = [&[0, 0, 6, 1, 5, a, b, c, d], &get[..]].concat();
        match tokio::time::timeout(Duration::from_secs(5), near.write_all(&asked)).await {
            Ok(written) => written.expect("takes"),
            Err(_) => break,
        }
        taken += asked.len();
        stream += 2;
    }
    assert!(taken > 1000, "it listens while it is listened to: {taken}");
    assert!(taken < 4 << 20, "{taken} bytes of requests, whose answers nobody reads");
}

#[tokio::test]
async fn what_is_no_http2_is_refused() {
    let (mut near, far) = tokio::io::duplex(PIPE);
    near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("takes");
    let refused = Tunnel::over(Transport::new(far, SystemTime::now() + HOUR), &TunnelOptions::default()).await;
    assert!(matches!(refused, Err(Refusal::Malformed(_))));
}

/// A pool and a server, over mutual TLS and loopback; what the server was asked comes out.
async fn secured() -> (Pool, crate::hbone::Target, mpsc::UnboundedReceiver<Incoming>) {
    let authority = crate::certs::local::LocalAuthority::new().expect("an authority");
    let (web, echo) = ("spiffe://cluster.local/ns/shop/sa/web", key().expected);
    let web = authority.leaf(&web.parse().expect("an identity")).expect("a leaf");
    let leaf = authority.leaf(&echo).expect("a leaf");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let (give, incoming) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("accepts");
        let (mut tunnel, peer) = Tunnel::accept(socket, &leaf, &TunnelOptions::default())
            .await
            .expect("a tunnel");
        assert_eq!(peer.identity().to_string(), "spiffe://cluster.local/ns/shop/sa/web");
        while let Some(incoming) = tunnel.next().await {
            let _ = give.send(incoming);
        }
    });
    let target = crate::hbone::Target {
        source: "client-uid".into(),
        source_address: address.ip(),
        leaf: web,
        dialer: crate::net::Dialer::own(),
        expected: echo,
        workload: "echo-uid".into(),
        address,
    };
    (pool(), target, incoming)
}

#[tokio::test]
async fn bulk_and_messages_pass_a_tunnel_over_mutual_tls_both_ways() {
    let (pool, target, mut incoming) = secured().await;
    let (near, far) = tokio::join!(pool_open(&pool, &target), async {
        incoming.recv().await.expect("asked").accept().expect("accepts")
    });
    let (mut near, mut far) = (near.into_io(), far.into_io());
    let text: Vec<u8> = (0..8u32 << 20).map(|at| (at % 251) as u8).collect();
    for _ in 0..10 {
        near.write_all(b"question").await.expect("writes");
        let mut asked = [0; 8];
        far.read_exact(&mut asked).await.expect("reads");
        far.write_all(b"answer").await.expect("writes");
        let mut answered = [0; 6];
        near.read_exact(&mut answered).await.expect("reads");
        assert_eq!((&asked, &answered), (b"question", b"answer"));
    }
    let (mut near_in, mut near_out) = tokio::io::split(near);
    let (mut far_in, mut far_out) = tokio::io::split(far);
    let (mut at_near, mut at_far) = (Vec::new(), Vec::new());
    let passing = async {
        tokio::join!(
            async {
                near_out.write_all(&text).await.expect("writes");
                near_out.shutdown().await.expect("ends");
            },
            async {
                far_out.write_all(&text).await.expect("writes");
                far_out.shutdown().await.expect("ends");
            },
            async { near_in.read_to_end(&mut at_near).await.expect("reads") },
            async { far_in.read_to_end(&mut at_far).await.expect("reads") },
        )
    };
    tokio::time::timeout(Duration::from_secs(60), passing)
        .await
        .expect("flows");
    assert!(at_near == text && at_far == text);
}

async fn pool_open(pool: &Pool, target: &crate::hbone::Target) -> Stream {
    pool.open(target, &connect()).await.expect("opens")
}
