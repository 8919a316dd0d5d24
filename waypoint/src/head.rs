//! The head of a request, as it will be forwarded: what is judged is what the server gets.

use std::net::SocketAddr;

use decide::{
    model::{Identity, Refusal},
    path::normalise,
};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE},
    request::Parts,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::bounds::HEADERS;

/// Names the client to the server by its identity (Envoy's header).
const CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// Names the client to the server by its address.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Headers that concern one connection only (RFC 9110 7.6.1).
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// A request's head, cleaned.
#[derive(Debug)]
pub(crate) struct Head {
    /// Method.
    pub(crate) method: Method,
    /// Normalised path, and the query as it came.
    pub(crate) target: PathAndQuery,
    /// Authority or Host, in lower case.
    pub(crate) host: Authority,
    /// End-to-end headers and those the waypoint writes; Host among them for HTTP/1.
    pub(crate) headers: HeaderMap,
    /// HTTP/1 or HTTP/2.
    pub(crate) version: Version,
    /// The protocol the client asks to switch to, if it does.
    pub(crate) upgrade: Option<HeaderValue>,
}

/// Who the client is, for the server to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Forwarded<'a> {
    /// The client.
    pub(crate) client: &'a Identity,
    /// Its address.
    pub(crate) address: SocketAddr,
    /// Ourselves.
    pub(crate) by: &'a Identity,
}

/// The length of a head as HTTP/1 writes it, nearly.
pub(crate) fn length(parts: &Parts) -> usize {
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len() + 4);
    parts.method.as_str().len() + target + headers.sum::<usize>()
}

impl Head {
    /// Reads a head with at most `most` headers.
    ///
    /// # Errors
    /// [`Refusal::Malformed`]: what in it cannot be understood in one way only.
    pub(crate) fn read(parts: Parts, most: usize, forwarded: Forwarded<'_>) -> Result<Self, Refusal> {
        let Parts {
            method,
            uri,
            version,
            mut headers,
            ..
        } = parts;
        if method == Method::CONNECT {
            return Err(malformed("CONNECT is not served inside a tunnel"));
        }
        if headers.len() > most {
            return Err(malformed(&HEADERS.told(most)));
        }
        let host = host(&uri, &headers)?;
        let path = normalise(uri.path()).map_err(malformed)?;
        if path == "*" && method != Method::OPTIONS {
            return Err(malformed("only OPTIONS may ask for *"));
        }
        let target = match uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let target = PathAndQuery::try_from(target).map_err(|error| malformed(&error.to_string()))?;
        let upgrade = asked_upgrade(version, &headers);
        strip(&mut headers);
        // Whether to go on is decided here, where the body is streamed anyway (RFC 9110 10.1.1).
        headers.remove(EXPECT);
        let value = |text: String| HeaderValue::from_str(&text).map_err(|error| malformed(&error.to_string()));
        headers.insert(
            CLIENT_CERT,
            value(format!("By={};URI={}", forwarded.by, forwarded.client))?,
        );
        headers.insert(FORWARDED_FOR, value(forwarded.address.ip().to_canonical().to_string())?);
        headers.remove(HOST);
        if version < Version::HTTP_2 {
            headers.insert(HOST, value(host.to_string())?);
        }
        Ok(Self {
            method,
            target,
            host,
            headers,
            version,
            upgrade,
        })
    }

    /// Path and query.
    pub(crate) fn path_and_query(&self) -> (&str, &str) {
        (self.target.path(), self.target.query().unwrap_or_default())
    }

    /// The request line and headers to send to the server. Who asks is told `inside` the mesh alone.
    pub(crate) fn request<B>(&self, body: B, inside: bool) -> Result<http::Request<B>, http::Error> {
        let mut request = http::Request::new(body);
        let mut uri = http::uri::Parts::default();
        uri.path_and_query = Some(self.target.clone());
        if self.version == Version::HTTP_2 {
            uri.scheme = Some(Scheme::HTTP);
            uri.authority = Some(self.host.clone());
        }
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri)?;
        *request.version_mut() = if self.version == Version::HTTP_2 {
            Version::HTTP_2
        } else {
            Version::HTTP_11
        };
        let headers = request.headers_mut();
        headers.clone_from(&self.headers);
        if !inside {
            headers.remove(&CLIENT_CERT);
            headers.remove(&FORWARDED_FOR);
        }
        if let Some(upgrade) = &self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, upgrade.clone());
        }
        Ok(request)
    }

    /// Whether sending it twice does no more than sending it once (RFC 9110 9.2.2), its body aside.
    pub(crate) fn is_idempotent(&self) -> bool {
        self.method.is_idempotent() && self.upgrade.is_none()
    }

    /// `grpc` or `http`, for telemetry.
    pub(crate) fn protocol(&self) -> &'static str {
        let grpc = self
            .headers
            .get(http::header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
        if grpc { "grpc" } else { "http" }
    }
}

/// Takes away what concerned one connection only, and whatever `Connection` names. `TE: trailers` alone stays,
/// for gRPC asks for it.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .collect();
    let trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| {
            value
                .split(',')
                .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
        });
    for name in named.iter().chain(&HOP_BY_HOP).chain([&TE]) {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The one host a request names: the target's authority (RFC 9112 3.2.2), else Host.
fn host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Refusal> {
    let mut written = headers.get_all(HOST).iter();
    let header = match (written.next(), written.next()) {
        (None, _) => None,
        (Some(host), None) => Some(parse_host(host.as_bytes())?),
        (Some(_), Some(_)) => return Err(malformed("more than one Host header")),
    };
    let target = uri
        .authority()
        .map(|authority| parse_host(authority.as_str().as_bytes()))
        .transpose()?;
    match (target, header) {
        (Some(target), Some(header)) if target != header => Err(malformed("Host and the request's target differ")),
        (Some(host), _) | (None, Some(host)) => Ok(host),
        (None, None) => Err(malformed("no Host header")),
    }
}

fn parse_host(host: &[u8]) -> Result<Authority, Refusal> {
    let host = host.to_ascii_lowercase();
    // A name's last dot is the root of the DNS: with it, the name is the same and no pattern matches it.
    let dotted = |authority: &Authority| authority.host().ends_with('.');
    Authority::try_from(&*host)
        .ok()
        .filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@') && !dotted(authority))
        .ok_or_else(|| malformed("the host cannot be understood"))
}

fn asked_upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let connection_says = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|name| name.trim().eq_ignore_ascii_case("upgrade")));
    let upgrade = headers.get(UPGRADE)?;
    // h2c would lead around every decision taken per request.
    let h2c = upgrade
        .to_str()
        .is_ok_and(|value| value.to_ascii_lowercase().contains("h2c"));
    (version == Version::HTTP_11 && connection_says && !h2c).then(|| upgrade.clone())
}

fn malformed(what: &str) -> Refusal {
    Refusal::Malformed(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: http::request::Builder) -> Result<Head, Refusal> {
        let client = Identity::new("cluster.local", "shop", "web").unwrap();
        let by = Identity::new("cluster.local", "shop", "waypoint").unwrap();
        let forwarded = Forwarded {
            client: &client,
            address: "10.1.0.7:40000".parse().unwrap(),
            by: &by,
        };
        Head::read(request.body(()).unwrap().into_parts().0, 100, forwarded)
    }

    fn get(target: &str) -> http::request::Builder {
        http::Request::get(target).header("host", "web.shop")
    }

    #[test]
    fn the_client_cannot_say_who_it_is() {
        let spoofed = get("/")
            .header("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/admin")
            .header("x-forwarded-client-cert", "URI=x")
            .header("x-forwarded-for", "1.2.3.4")
            .header("connection", "x-forwarded-for, x-forwarded-client-cert");
        let head = read(spoofed).unwrap();
        let all = |name: &str| head.headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(
            all("x-forwarded-client-cert"),
            ["By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=spiffe://cluster.local/ns/shop/sa/web"]
        );
        assert_eq!(all("x-forwarded-for"), ["10.1.0.7"]);
    }

    #[test]
    fn headers_of_one_connection_are_not_passed_on() {
        let head = read(
            get("/")
                .header("connection", "close, X-Private")
                .header("x-private", "1")
                .header("keep-alive", "timeout=5")
                .header("te", "gzip, trailers")
                .header("transfer-encoding", "chunked")
                .header("traceparent", "00-1-2-00"),
        )
        .unwrap();
        let names: Vec<_> = head.headers.keys().map(HeaderName::as_str).collect();
        for gone in ["connection", "x-private", "keep-alive", "transfer-encoding"] {
            assert!(!names.contains(&gone), "{gone}");
        }
        assert_eq!(head.headers["te"], "trailers");
        assert_eq!(head.headers["traceparent"], "00-1-2-00");
    }

    #[test]
    fn what_is_judged_is_what_is_sent() {
        let head = read(get("/x/../%61dmin?q=/../a")).unwrap();
        assert_eq!(head.path_and_query(), ("/admin", "q=/../a"));
        assert_eq!(head.request((), true).unwrap().uri(), "/admin?q=/../a");
    }

    #[test]
    fn one_host_is_named_or_the_request_is_refused() {
        let host = |request| read(request).map(|head| head.headers[HOST].clone());
        assert_eq!(host(http::Request::get("http://Web.Shop:80/x")).unwrap(), "web.shop:80");
        for refused in [
            http::Request::get("/"),
            get("http://other/"),
            get("/").header("host", "two"),
            http::Request::get("/").header("host", ""),
            http::Request::get("/").header("host", "user@web"),
            http::Request::get("/").header("host", "web."),
            http::Request::get("/").header("host", "web/x"),
        ] {
            assert!(matches!(host(refused), Err(Refusal::Malformed(_))));
        }
    }

    #[test]
    fn connect_and_too_many_headers_are_refused() {
        assert!(read(http::Request::connect("web:80")).is_err());
        let many = (0..101).fold(get("/"), |request, index| request.header(format!("x-{index}"), "1"));
        assert!(read(many).is_err());
    }

    #[test]
    fn an_upgrade_is_asked_for_again_except_to_h2c() {
        let upgrade = |to: &str| {
            let head = read(
                get("/")
                    .header("connection", "keep-alive, Upgrade")
                    .header("upgrade", to),
            )
            .unwrap();
            head.request((), true).unwrap().headers().get(UPGRADE).cloned()
        };
        assert_eq!(upgrade("websocket"), Some(HeaderValue::from_static("websocket")));
        assert_eq!(upgrade("h2c"), None);
        let not_asked = read(get("/").header("upgrade", "websocket")).unwrap();
        assert!(not_asked.upgrade.is_none());
    }

    #[test]
    fn http2_names_its_host_in_the_target_alone() {
        let head = read(http::Request::get("http://web.shop/x").version(Version::HTTP_2)).unwrap();
        let request = head.request((), true).unwrap();
        assert_eq!(request.uri(), "http://web.shop/x");
        assert!(!request.headers().contains_key(HOST));
    }
}
