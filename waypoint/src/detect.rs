//! What do these bytes speak? Decided by the first 14 bytes at most.
//!
//! Biased to neither side: only what starts as an HTTP/1 request line (token, space, target) or as HTTP/2's
//! connection preface is HTTP, everything else is opaque. That is safe either way: opaque bytes pass only
//! where no rule could need HTTP to decide, and HTTP is judged request by request.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{self, AsyncRead, AsyncReadExt},
    time::timeout,
};

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// HTTP/1.0 or HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
    /// Anything else.
    Opaque,
}

/// Bytes that decide, at most.
const DECIDING: usize = 14;
/// The first bytes of HTTP/2's connection preface (RFC 9113 3.4).
const PREFACE: &[u8; DECIDING] = b"PRI * HTTP/2.0";
/// Room for the first read: most request heads fit.
const FIRST_READ: usize = 1024;

/// Reads until it is clear what the client speaks: one read, nearly always. Returns what was read. A client
/// that says nothing for `patience`, or ends before it is clear, is opaque; without patience it is waited for.
///
/// # Errors
/// When reading fails.
pub(crate) async fn detect(
    io: &mut (impl AsyncRead + Unpin),
    patience: Option<Duration>,
) -> io::Result<(Protocol, Bytes)> {
    let mut read = BytesMut::with_capacity(FIRST_READ);
    let detecting = async {
        loop {
            if io.read_buf(&mut read).await? == 0 {
                return Ok::<_, io::Error>(Protocol::Opaque);
            }
            if let Some(protocol) = classify(&read) {
                return Ok(protocol);
            }
        }
    };
    let protocol = match patience {
        Some(patience) => timeout(patience, detecting).await.unwrap_or(Ok(Protocol::Opaque)),
        None => detecting.await,
    }?;
    Ok((protocol, read.freeze()))
}

/// What starts with these bytes; `None` while it is not clear.
fn classify(bytes: &[u8]) -> Option<Protocol> {
    if bytes.starts_with(PREFACE) {
        return Some(Protocol::Http2);
    }
    let undecided = |guess| (bytes.len() >= DECIDING).then_some(guess);
    if PREFACE.starts_with(bytes) {
        return undecided(Protocol::Opaque);
    }
    let Some(end) = bytes.iter().position(|byte| !is_token(*byte)) else {
        return undecided(Protocol::Opaque);
    };
    let (method, rest) = bytes.split_at(end);
    match rest {
        _ if method.is_empty() => Some(Protocol::Opaque),
        [b' '] => undecided(Protocol::Opaque),
        [b' ', b'/' | b'*', ..] => Some(Protocol::Http1),
        [b' ', ..] if method == b"CONNECT" => Some(Protocol::Http1),
        [b' ', target @ ..] => {
            let start = target.get(..4).unwrap_or(target).to_ascii_lowercase();
            match (b"http".starts_with(&start), target.len() >= 4) {
                (true, true) => Some(Protocol::Http1),
                (true, false) => undecided(Protocol::Opaque),
                (false, _) => Some(Protocol::Opaque),
            }
        }
        _ => Some(Protocol::Opaque),
    }
}

/// RFC 9110 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn the_first_bytes_tell() {
        for (bytes, protocol) in [
            (&b"GET / HTTP/1.1\r\n"[..], Some(Protocol::Http1)),
            (b"PROPFIND /x", Some(Protocol::Http1)),
            (b"OPTIONS * HTTP/1.1", Some(Protocol::Http1)),
            (b"GET http://web/ HTTP/1.1", Some(Protocol::Http1)),
            (b"CONNECT web:80 HTTP/1.1", Some(Protocol::Http1)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Protocol::Http2)),
            (b"PRI * HTTP/2.0", Some(Protocol::Http2)),
            (b"PRI * HTTP/2", None),
            (b"P", None),
            (b"GET", None),
            (b"GET ", None),
            (b"GET ht", None),
            (b"SSH-2.0-OpenSSH_9.6", Some(Protocol::Opaque)),
            (b"PING\r\n", Some(Protocol::Opaque)),
            (b"*1\r\n$4\r\nPING", Some(Protocol::Opaque)),
            (b"EHLO host", Some(Protocol::Opaque)),
            (b"\x16\x03\x01\x02\x00", Some(Protocol::Opaque)),
            (b" GET /", Some(Protocol::Opaque)),
            (b"SET key value", Some(Protocol::Opaque)),
        ] {
            assert_eq!(classify(bytes), protocol, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn fourteen_bytes_always_decide() {
        for byte in 0..=255 {
            for start in [&b""[..], b"GET", b"GET ", b"GET h", b"PRI * HTTP/2"] {
                let mut bytes = start.to_vec();
                bytes.resize(DECIDING, byte);
                assert!(classify(&bytes).is_some(), "{bytes:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_in_pieces_is_recognised_and_kept() {
        let (mut client, mut server) = io::duplex(64);
        tokio::spawn(async move {
            for piece in [&b"GE"[..], b"T", b" /x HTTP/1.1\r\n"] {
                client.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        let (protocol, read) = detect(&mut server, Some(Duration::from_secs(1))).await.unwrap();
        assert_eq!(protocol, Protocol::Http1);
        assert!(read.starts_with(b"GET /"));
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_opaque_once_patience_ends() {
        let (_client, mut server) = io::duplex(64);
        let (protocol, read) = detect(&mut server, Some(Duration::from_secs(5))).await.unwrap();
        assert_eq!((protocol, &read[..]), (Protocol::Opaque, &b""[..]));
    }
}
