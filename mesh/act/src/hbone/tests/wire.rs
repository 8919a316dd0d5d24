//! What is seen on the wire, and what hostile peers send.

use std::collections::HashMap;

use bytes::Bytes;
use http::{HeaderValue, Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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

/// Asks a server with a hand-made request; answers status and `weft-refusal`.
async fn asked(request: Request<()>) -> Result<(u16, Option<String>), h2::Error> {
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
    let (answer, _sender) = requests.ready().await?.send_request(request, false)?;
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
async fn what_is_no_http2_is_refused() {
    let (mut near, far) = tokio::io::duplex(PIPE);
    near.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .expect("takes");
    let refused = Tunnel::over(Transport::new(far, SystemTime::now() + HOUR), &TunnelOptions::default()).await;
    assert!(matches!(refused, Err(Refusal::Malformed(_))));
}
