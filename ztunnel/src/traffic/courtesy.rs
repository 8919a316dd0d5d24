//! A kind refusal: who speaks HTTP/1 is told the reason in HTTP/1 before the connection ends.

use std::{io, time::Duration};

use act::{
    hbone::printable,
    net::reset,
    telemetry::{Connection, FlowLabels},
};
use decide::model::Refusal;
use http::StatusCode;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Bytes of the client's request that are read before we close: a reset would take the answer away from it.
const DRAINED: u64 = 1 << 20;
/// Longest request line looked at.
const PEEKED: usize = 2048;

/// Tells of a refusal; then a client that speaks HTTP/1 is answered, every other one reset.
pub(super) async fn refuse_kindly(mut socket: TcpStream, labels: FlowLabels, refusal: &Refusal, patience: Duration) {
    Connection::refused(labels, refusal);
    let first = timeout(patience, first_bytes(&socket)).await;
    if !matches!(first, Ok(Ok(first)) if is_http1(&first)) {
        return reset(socket);
    }
    let answered = timeout(patience.max(Duration::from_secs(1)), async {
        socket.write_all(answer(refusal).as_bytes()).await?;
        socket.shutdown().await?;
        tokio::io::copy(&mut (&mut socket).take(DRAINED), &mut tokio::io::sink()).await
    });
    // A client that does not listen loses its answer, nothing else.
    let _ = answered.await;
}

async fn first_bytes(socket: &TcpStream) -> io::Result<Vec<u8>> {
    let mut buffer = [0; PEEKED];
    let length = socket.peek(&mut buffer).await?;
    Ok(buffer.get(..length).unwrap_or_default().to_vec())
}

/// Whether these bytes begin an HTTP/1 request: a method, a space, a target, and, as far as the line is there,
/// `HTTP/1.` at its end.
fn is_http1(bytes: &[u8]) -> bool {
    let line = bytes
        .split(|byte| *byte == b'\r' || *byte == b'\n')
        .next()
        .unwrap_or_default();
    let complete = line.len() < bytes.len();
    let mut words = line.split(|byte| *byte == b' ');
    let method = words.next().unwrap_or_default();
    let Some(target) = words.next() else { return false };
    let version = words.next();
    (3..=16).contains(&method.len())
        && method.iter().all(u8::is_ascii_uppercase)
        && !target.is_empty()
        && match version {
            Some(version) if complete => version.starts_with(b"HTTP/1."),
            Some(version) => b"HTTP/1.".starts_with(version) || version.starts_with(b"HTTP/1."),
            None => !complete,
        }
}

fn answer(refusal: &Refusal) -> String {
    let reason = printable(&refusal.to_string());
    let status = StatusCode::SERVICE_UNAVAILABLE;
    format!(
        "HTTP/1.1 {status}\r\nweft-refusal: {}\r\nweft-reason: {reason}\r\ncontent-type: text/plain\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{reason}\n",
        refusal.label(),
        reason.len() + 1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_http1_requests_are_answered_in_http1() {
        for (bytes, http) in [
            ("GET / HTTP/1.1\r\nhost: a\r\n\r\n", true),
            ("POST /x HTTP/1.0\r\n", true),
            ("GET /a/long/target/that/is/not/over", true),
            ("GET / HT", true),
            ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false),
            ("GET / SMTP/1.0\r\n", false),
            ("GET /\r\n", false),
            ("EHLO mail\r\n", false),
            ("\u{16}\u{3}\u{1}hello", false),
            ("get / HTTP/1.1\r\n", false),
            ("GET", false),
            ("", false),
        ] {
            assert_eq!(is_http1(bytes.as_bytes()), http, "{bytes:?}");
        }
    }

    #[test]
    fn the_answer_says_why_in_header_and_body() {
        let answer = answer(&Refusal::NotConfigured);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        assert!(head.contains("weft-refusal: NOT_CONFIGURED\r\n"));
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())));
    }
}
