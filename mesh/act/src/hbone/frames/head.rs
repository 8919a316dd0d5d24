//! Heads: the fields of a header block, and what they must be (RFC 9113 8.2, 8.3).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{CONNECTION, TE, TRANSFER_ENCODING, UPGRADE},
    uri,
};

/// What a field counts beside its bytes (RFC 9113 6.5.2).
const OVERHEAD: usize = 32;

/// Not a message of HTTP/2 (RFC 9113 8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The head of a request.
#[derive(Debug)]
pub(in crate::hbone) enum Head {
    /// What a client asks.
    Request(Box<Request<()>>),
    /// A request whose head is longer than we allow, in so many bytes.
    TooLong(usize),
}

/// The fields of one block as they come in.
#[derive(Debug)]
pub(super) struct Fields {
    most: usize,
    size: usize,
    malformed: bool,
    pseudo: [Option<Bytes>; PSEUDO.len()],
    headers: HeaderMap,
}

/// Pseudo-header fields (RFC 9113 8.3, RFC 8441 4).
const PSEUDO: [&str; 6] = [":method", ":scheme", ":authority", ":path", ":protocol", ":status"];

impl Fields {
    /// Collects at most `most` bytes of fields; the rest is left out.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            size: 0,
            malformed: false,
            pseudo: Default::default(),
            headers: HeaderMap::new(),
        }
    }

    /// Whether there was more than is collected.
    pub(super) fn is_too_long(&self) -> bool {
        self.size > self.most
    }

    pub(super) fn add(&mut self, name: &Bytes, value: Bytes) {
        self.size = self.size.saturating_add(name.len() + value.len() + OVERHEAD);
        if self.is_too_long() || self.malformed {
            return;
        }
        if name.first() == Some(&b':') {
            // Before all others, and each once (RFC 9113 8.3).
            let place = PSEUDO.iter().position(|it| it.as_bytes() == name);
            match place.and_then(|place| self.pseudo.get_mut(place)) {
                Some(place) if place.is_none() && self.headers.is_empty() => *place = Some(value),
                _ => self.malformed = true,
            }
            return;
        }
        match header(name, value) {
            Some((name, value)) => {
                self.headers.append(name, value);
            }
            None => self.malformed = true,
        }
    }

    /// As a request.
    pub(super) fn request(self) -> Result<Head, Malformed> {
        if self.is_too_long() {
            return Ok(Head::TooLong(self.most));
        }
        let [method, scheme, authority, path, protocol, status] = self.pseudo;
        let method = method.and_then(|it| Method::from_bytes(&it).ok()).ok_or(Malformed)?;
        let connect = method == Method::CONNECT;
        // Extended CONNECT is for those who were told that it is served (RFC 8441 3).
        let targeted = if connect {
            scheme.is_none() && path.is_none() && authority.is_some()
        } else {
            scheme.is_some() && path.is_some_and(|path| !path.is_empty())
        };
        if self.malformed || status.is_some() || protocol.is_some() || !targeted {
            return Err(Malformed);
        }
        let mut target = uri::Parts::default();
        // One that is none is missing: whoever asked is told so.
        target.authority = authority.and_then(|it| uri::Authority::from_maybe_shared(it).ok());
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = Uri::from_parts(target).unwrap_or_default();
        *request.headers_mut() = self.headers;
        Ok(Head::Request(request.into()))
    }

    /// As a response.
    pub(super) fn response(self) -> Result<Response<()>, Malformed> {
        let [method, scheme, authority, path, protocol, status] = self.pseudo;
        let asks = [method, scheme, authority, path, protocol].iter().any(Option::is_some);
        let status = status
            .and_then(|it| StatusCode::from_bytes(&it).ok())
            .ok_or(Malformed)?;
        if self.malformed || asks {
            return Err(Malformed);
        }
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = self.headers;
        Ok(response)
    }

    /// As trailers, which nobody reads.
    pub(super) fn trailers(self) -> Result<(), Malformed> {
        let valid = !self.malformed && self.pseudo.iter().all(Option::is_none);
        valid.then_some(()).ok_or(Malformed)
    }
}

/// A field that may be in a message of HTTP/2 (RFC 9113 8.2.1, 8.2.2).
fn header(name: &[u8], value: Bytes) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_lowercase(name).ok()?;
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let hop = [CONNECTION, TRANSFER_ENCODING, UPGRADE].contains(&name)
        || matches!(name.as_str(), "proxy-connection" | "keep-alive")
        || (name == TE && value != "trailers");
    if hop || blank(value.first()) || blank(value.last()) {
        return None;
    }
    Some((name, HeaderValue::from_maybe_shared(value).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> Fields {
        let mut fields = Fields::new(1000);
        for (name, value) in list {
            fields.add(
                &Bytes::from_static(name.as_bytes()),
                Bytes::from_static(value.as_bytes()),
            );
        }
        fields
    }

    const CONNECT: [(&str, &str); 2] = [(":method", "CONNECT"), (":authority", "10.0.0.1:80")];

    #[test]
    fn a_connect_has_a_method_and_an_authority_and_nothing_else_before_its_headers() {
        let Ok(Head::Request(request)) = fields(&CONNECT).request() else {
            panic!("a request");
        };
        assert_eq!(
            (request.method(), request.uri().to_string()),
            (&Method::CONNECT, "10.0.0.1:80".into())
        );
        for more in [
            (":scheme", "http"),
            (":path", "/"),
            (":protocol", "websocket"),
            (":status", "200"),
            (":method", "CONNECT"),
            (":unknown", "x"),
            ("Upper", "x"),
            ("bad name", "x"),
            ("connection", "close"),
            ("keep-alive", "5"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("te", "gzip"),
            ("padded", " x"),
            ("padded", "x\t"),
            ("control", "a\nb"),
        ] {
            assert_eq!(
                fields(&[&CONNECT[..], &[more]].concat()).request().err(),
                Some(Malformed),
                "{more:?}"
            );
        }
        assert!(
            fields(&[&CONNECT[..], &[("te", "trailers")]].concat())
                .request()
                .is_ok()
        );
        let late = [(":method", "CONNECT"), ("x", "y"), (":authority", "10.0.0.1:80")];
        assert_eq!(fields(&late).request().err(), Some(Malformed));
        assert_eq!(fields(&CONNECT[..1]).request().err(), Some(Malformed));
        assert_eq!(fields(&CONNECT[1..]).request().err(), Some(Malformed));
    }

    #[test]
    fn other_requests_have_scheme_and_path() {
        let get = [(":method", "GET"), (":scheme", "http"), (":path", "/")];
        assert!(fields(&get).request().is_ok());
        for left_out in 0..3 {
            let mut get = get.to_vec();
            get.remove(left_out);
            assert_eq!(fields(&get).request().err(), Some(Malformed));
        }
        let empty = [(":method", "GET"), (":scheme", "http"), (":path", "")];
        assert_eq!(fields(&empty).request().err(), Some(Malformed));
    }

    #[test]
    fn a_response_has_a_status_of_three_digits() {
        assert_eq!(fields(&[(":status", "200")]).response().expect("valid").status(), 200);
        for bad in ["", "20", "2000", "abc", "+20"] {
            assert!(fields(&[(":status", bad)]).response().is_err(), "{bad}");
        }
        assert!(fields(&[]).response().is_err());
        assert!(fields(&[(":status", "200"), (":path", "/")]).response().is_err());
        assert!(fields(&[(":status", "200")]).trailers().is_err());
        assert!(fields(&[("grpc-status", "0")]).trailers().is_ok());
    }

    #[test]
    fn a_head_beyond_its_bound_is_told_and_not_kept() {
        let mut long = fields(&CONNECT);
        for _ in 0..1000 {
            long.add(&Bytes::from_static(b"name"), Bytes::from_static(b"value"));
        }
        assert!(long.headers.len() < 30);
        assert!(matches!(long.request(), Ok(Head::TooLong(1000))));
    }
}
