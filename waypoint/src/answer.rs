//! A refusal as an HTTP response: its status, headers for programs, one line for people. A gRPC client gets what
//! it understands instead: a response of trailers alone, with gRPC's status and message.

use decide::model::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, Version, header::CONTENT_TYPE};

use crate::{body::Download, tale::Tale};

/// Which refusal it was.
const REFUSAL: HeaderName = HeaderName::from_static("weft-refusal");
/// Why, in one sentence of printable ASCII.
const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// The status of a gRPC call.
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Why.
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// Longest sentence sent, in bytes.
const LONGEST_REASON: usize = 512;

/// What a client understands of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Understands {
    Http,
    Grpc,
}

impl Understands {
    /// As a request's version and headers tell.
    pub(crate) fn of(version: Version, headers: &HeaderMap) -> Self {
        let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let grpc = kind.and_then(|kind| kind.strip_prefix(b"application/grpc"));
        match grpc {
            Some([] | [b'+' | b';' | b' ', ..]) if version == Version::HTTP_2 => Self::Grpc,
            _ => Self::Http,
        }
    }
}

/// The response, and with it the end of the tale.
pub(crate) fn refused(refusal: Refusal, mut tale: Box<Tale>, understands: Understands) -> Response<Download> {
    let status = StatusCode::from_u16(refusal.status())
        .ok()
        .filter(|status| status.is_client_error() || status.is_server_error())
        .unwrap_or(StatusCode::BAD_GATEWAY);
    let reason: String = refusal
        .to_string()
        .chars()
        .take(LONGEST_REASON)
        .map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' })
        .collect();
    let label = HeaderValue::from_static(refusal.label());
    if understands == Understands::Grpc {
        return grpc(refusal, &reason, label, tale);
    }
    tale.record.status = status.as_u16();
    tale.record.refusal = Some(refusal);
    let mut response = Response::new(Download::words(format!("{reason}\n"), tale));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(REFUSAL, label);
    if let Ok(reason) = HeaderValue::from_str(&reason) {
        headers.insert(REASON, reason);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Trailers alone: no body, gRPC's status among the headers.
fn grpc(refusal: Refusal, reason: &str, label: HeaderValue, mut tale: Box<Tale>) -> Response<Download> {
    let code = HeaderValue::from(u16::from(refusal.grpc_code()));
    tale.record.status = StatusCode::OK.as_u16();
    tale.record.refusal = Some(refusal);
    let mut response = Response::new(Download::words(String::new(), tale));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(GRPC_STATUS, code);
    // the message is percent-encoded, and what is left of the reason but % needs no encoding
    if let Ok(message) = HeaderValue::from_str(&reason.replace('%', "%25")) {
        headers.insert(GRPC_MESSAGE, message);
    }
    headers.insert(REFUSAL, label);
    response
}
