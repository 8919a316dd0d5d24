//! A refusal as an HTTP response: its status, headers for programs, one line for people.

use decide::model::Refusal;
use http::{HeaderName, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};

use crate::{body::Download, tale::Tale};

/// Which refusal it was.
const REFUSAL: HeaderName = HeaderName::from_static("weft-refusal");
/// Why, in one sentence of printable ASCII.
const REASON: HeaderName = HeaderName::from_static("weft-reason");
/// Longest sentence sent, in bytes.
const LONGEST_REASON: usize = 512;

/// The response, and with it the end of the tale.
pub(crate) fn refused(refusal: Refusal, mut tale: Box<Tale>) -> Response<Download> {
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
