//! The head of a CONNECT, as the field writes and reads it (`wire.md` 1.4).

use std::{fmt, net::SocketAddr, num::NonZeroU128, sync::Arc};

use decide::model::{Refusal, Workload};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header::FORWARDED, uri};

/// Response header that says which refusal it was.
const REFUSAL: &str = "weft-refusal";
/// Response header that says why, in one sentence.
const REASON: &str = "weft-reason";
/// Longest sentence sent or believed, in bytes.
const LONGEST_REASON: usize = 512;

/// What a tunnel is asked for.
#[derive(Debug, Clone)]
pub struct Connect {
    /// Pod address and port, or what was addressed, towards a waypoint.
    pub authority: SocketAddr,
    /// The client as it connected to us; telemetry of the other side.
    pub client: SocketAddr,
    /// Host name of the Service that was addressed, if one was; telemetry of the other side.
    pub host: Option<Arc<str>>,
    /// Who sends, by [`baggage`]; telemetry of the other side.
    pub baggage: Option<HeaderValue>,
    /// The trace this connection belongs to.
    pub traceparent: Option<Traceparent>,
}

/// A W3C trace context that is valid (Trace Context, level 1, section 3.2): version 00, trace and parent not zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traceparent {
    trace: NonZeroU128,
    /// Parent id, not zero.
    parent: u64,
    /// Flags.
    flags: u8,
}

impl Traceparent {
    /// A new trace from the caller's randomness. Not sampled.
    pub fn new(trace: u128, parent: u64) -> Self {
        Self {
            trace: NonZeroU128::new(trace).unwrap_or(NonZeroU128::MIN),
            parent: parent.max(1),
            flags: 0,
        }
    }

    /// The same trace, from us on: `parent` is our randomness.
    pub fn onward(self, parent: u64) -> Self {
        Self {
            parent: parent.max(1),
            ..self
        }
    }

    /// The trace's id.
    pub fn trace(&self) -> NonZeroU128 {
        self.trace
    }

    /// Reads the header's value; `None` when anything about it is not as it must be.
    pub fn parse(value: &str) -> Option<Self> {
        let mut parts = value.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let lower_hex = |part: &str, length: usize| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        let fits = version == "00" && parts.next().is_none();
        if !(fits && lower_hex(trace, 32) && lower_hex(parent, 16) && lower_hex(flags, 2)) {
            return None;
        }
        let read = Self {
            trace: NonZeroU128::new(u128::from_str_radix(trace, 16).ok()?)?,
            parent: u64::from_str_radix(parent, 16).ok()?,
            flags: u8::from_str_radix(flags, 16).ok()?,
        };
        (read.parent != 0).then_some(read)
    }

    /// The first valid `traceparent` among these headers.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        Self::parse(headers.get("traceparent")?.to_str().ok()?)
    }
}

impl fmt::Display for Traceparent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "00-{:032x}-{:016x}-{:02x}", self.trace, self.parent, self.flags)
    }
}

/// What `baggage` says of the sender of a CONNECT: values outside `[A-Za-z0-9._-]` are left out.
pub fn baggage(workload: &Workload) -> Option<HeaderValue> {
    let kind = if workload.owner == workload.name {
        "k8s.pod.name"
    } else {
        "k8s.deployment.name"
    };
    let label = |names: &[&str]| names.iter().find_map(|name| workload.labels.get(name)).cloned();
    let service = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let version = label(&[
        "service.istio.io/canonical-revision",
        "app.kubernetes.io/version",
        "version",
    ]);
    let entries = [
        ("k8s.namespace.name", Some(workload.namespace.clone())),
        (kind, Some(workload.owner.clone())),
        ("service.name", service.or_else(|| Some(workload.owner.clone()))),
        ("service.version", version),
    ];
    let plain = |value: &str| {
        !value.is_empty()
            && value.len() <= 253
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    let written: Vec<String> = entries
        .iter()
        .filter_map(|(key, value)| Some((key, value.as_ref().filter(|value| plain(value))?)))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    HeaderValue::from_str(&written.join(",")).ok()
}

impl Connect {
    /// The request as it is sent: classic CONNECT (RFC 9113 8.5), no `:scheme`, no `:path`, no `:protocol`.
    pub(super) fn request(&self) -> Result<Request<()>, http::Error> {
        let authority: uri::Authority = self.authority.to_string().parse()?;
        let mut target = uri::Parts::default();
        target.authority = Some(authority);
        let host = self
            .host
            .as_ref()
            .map_or_else(String::new, |host| format!(";host={host}"));
        let mut request = Request::builder()
            .method(Method::CONNECT)
            .uri(Uri::from_parts(target)?)
            .header(FORWARDED, format!("for=\"{}\"{host}", self.client));
        if let Some(baggage) = &self.baggage {
            request = request.header("baggage", baggage);
        }
        if let Some(trace) = &self.traceparent {
            request = request.header("traceparent", trace.to_string());
        }
        request.body(())
    }
}

/// The authority of a request that came in.
///
/// # Errors
/// The refusal for everything that is not a CONNECT to an address and a port.
pub(super) fn authority<B>(request: &Request<B>) -> Result<SocketAddr, Refusal> {
    let malformed = |what: String| Err(Refusal::Malformed(what.into()));
    if request.method() != Method::CONNECT {
        return malformed(format!(
            "only CONNECT is served here, not {}",
            shortened(request.method().as_str(), 16)
        ));
    }
    let Some(authority) = request.uri().authority() else {
        return malformed("CONNECT without an authority".into());
    };
    let shown = shortened(authority.as_str(), 128);
    let Ok(address) = authority.as_str().parse::<SocketAddr>() else {
        return malformed(format!("the authority {shown} is no address and port"));
    };
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
        return malformed(format!("the authority {shown} cannot be connected to"));
    }
    Ok(address)
}

/// The `host=` of the first `forwarded` element (RFC 7239), bounded; a label for telemetry, never believed further.
pub(super) fn forwarded_host(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(FORWARDED)?.to_str().ok()?;
    let first = value.split(',').next()?;
    let host = first.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("host").then(|| value.trim_matches('"'))
    })?;
    (host.len() <= 253).then_some(host)
}

/// The answer to a refused CONNECT.
pub(super) fn refused(refusal: &Refusal) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(refusal.status())
        .ok()
        .filter(|status| !status.is_informational() && !status.is_success())
        .unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let headers = response.headers_mut();
    headers.insert(REFUSAL, HeaderValue::from_static(refusal.label()));
    if let Ok(reason) = HeaderValue::from_str(&printable(&refusal.to_string())) {
        headers.insert(REASON, reason);
    }
    response
}

/// What a peer's answer means, if it is no 200.
pub(super) fn refused_by_peer<B>(response: &Response<B>) -> Refusal {
    let said = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|value| printable(&String::from_utf8_lossy(value.as_bytes())))
    };
    let why = match (said(REFUSAL), said(REASON)) {
        (Some(label), Some(reason)) => format!("{label}: {reason}"),
        (Some(said), None) | (None, Some(said)) => said,
        (None, None) => "it gave no reason".into(),
    };
    Refusal::RefusedByPeer(response.status().as_u16(), why.into())
}

/// A text as the reason in a header: printable ASCII, at most 512 bytes.
pub fn printable(text: &str) -> String {
    text.chars()
        .take(LONGEST_REASON)
        .map(|letter| if matches!(letter, ' '..='~') { letter } else { '?' })
        .collect()
}

fn shortened(text: &str, longest: usize) -> String {
    format!("{:?}", text.chars().take(longest).collect::<String>())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(method: Method, target: &str) -> Result<SocketAddr, Refusal> {
        let mut request = Request::new(());
        *request.method_mut() = method;
        let mut parts = uri::Parts::default();
        parts.authority = Some(target.parse().expect("an authority"));
        *request.uri_mut() = Uri::from_parts(parts).expect("a target");
        authority(&request)
    }

    fn connect() -> Connect {
        Connect {
            authority: "10.1.0.2:8080".parse().expect("an address"),
            client: "10.1.0.1:40000".parse().expect("an address"),
            host: Some("echo.shop.svc.cluster.local".into()),
            baggage: None,
            traceparent: Some(Traceparent::new(7, 9)),
        }
    }

    #[test]
    fn what_is_asked_is_what_is_read() {
        let request = connect().request().expect("valid");
        assert_eq!(authority(&request), Ok(connect().authority));
        assert_eq!(forwarded_host(request.headers()), Some("echo.shop.svc.cluster.local"));
        assert_eq!(Traceparent::of(request.headers()), Some(Traceparent::new(7, 9)));
        assert_eq!(
            request.headers()["forwarded"],
            "for=\"10.1.0.1:40000\";host=echo.shop.svc.cluster.local"
        );
        assert!(request.uri().scheme().is_none() && request.uri().path_and_query().is_none());
    }

    #[test]
    fn ipv6_authorities_are_read() {
        assert_eq!(
            asked(Method::CONNECT, "[fd00::2]:80"),
            Ok("[fd00::2]:80".parse().expect("an address"))
        );
    }

    #[test]
    fn mapped_authorities_mean_the_ipv4_address() {
        assert_eq!(
            asked(Method::CONNECT, "[::ffff:10.0.0.1]:80"),
            Ok("10.0.0.1:80".parse().expect("an address"))
        );
    }

    #[test]
    fn what_is_no_connect_to_an_address_is_malformed() {
        for (method, target) in [
            (Method::GET, "10.0.0.1:80"),
            (Method::CONNECT, "10.0.0.1"),
            (Method::CONNECT, "10.0.0.1:0"),
            (Method::CONNECT, "0.0.0.0:80"),
            (Method::CONNECT, "224.0.0.1:80"),
            (Method::CONNECT, "echo.shop.svc:80"),
            (Method::CONNECT, "user@10.0.0.1:80"),
            (Method::CONNECT, "10.0.0.1:99999"),
        ] {
            assert!(matches!(asked(method, target), Err(Refusal::Malformed(_))), "{target}");
        }
    }

    #[test]
    fn only_a_valid_traceparent_is_read() {
        let zeroes = "0".repeat(55);
        for (value, valid) in [
            ("00-960aa7e1688279c3826a82b5a85c8773-e68141810719af1d-00", true),
            ("00-00000000000000000000000000000000-e68141810719af1d-00", false),
            ("00-960aa7e1688279c3826a82b5a85c8773-0000000000000000-00", false),
            ("ff-960aa7e1688279c3826a82b5a85c8773-e68141810719af1d-00", false),
            ("00-960AA7E1688279C3826A82B5A85C8773-e68141810719af1d-00", false),
            ("00-960aa7e1688279c3826a82b5a85c8773-e68141810719af1d", false),
            ("00-+60aa7e1688279c3826a82b5a85c8773-e68141810719af1d-00", false),
            (zeroes.as_str(), false),
            ("", false),
        ] {
            assert_eq!(Traceparent::parse(value).is_some(), valid, "{value}");
        }
    }

    #[test]
    fn a_refusal_is_one_bounded_printable_line() {
        let response = refused(&Refusal::Malformed("line\nbreak ü ".repeat(200).into()));
        assert_eq!(response.status(), 400);
        assert_eq!(response.headers()[REFUSAL], "MALFORMED");
        let reason = response.headers()[REASON].to_str().expect("ASCII");
        assert!(reason.len() <= LONGEST_REASON && reason.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
    }

    #[test]
    fn no_refusal_reads_as_success() {
        for status in [0, 100, 200, 204, 999] {
            let response = refused(&Refusal::RefusedByPeer(status, "odd".into()));
            assert!(!response.status().is_success() && !response.status().is_informational());
        }
    }

    proptest! {
        #[test]
        fn no_header_panics(value in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                let mut headers = HeaderMap::new();
                headers.insert("traceparent", value.clone());
                headers.insert(FORWARDED, value);
                let _ = (Traceparent::of(&headers), forwarded_host(&headers));
            }
        }
    }
}
