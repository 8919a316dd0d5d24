//! The values a rule compares with: names with a `*` at one end, networks, ports, paths.
//!
//! A value that could never match is as broken as one that cannot be read: in a DENY rule it would let pass
//! what somebody meant to refuse.

use std::{net::IpAddr, sync::Arc};

use decide::model::{IpMatch, PortMatch, StringMatch};
use ipnet::IpNet;

/// Why a value cannot be honoured, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) what: String,
    pub(super) remedy: String,
}

fn fault<T>(what: &str, remedy: &str) -> Result<T, Fault> {
    Err(Fault {
        what: what.to_owned(),
        remedy: remedy.to_owned(),
    })
}

/// `abc`, `abc*`, `*abc` or `*`.
pub(super) fn wildcard(text: &str) -> Result<StringMatch, Fault> {
    let shared = |text: &str| Arc::from(text);
    let inner = text.strip_prefix('*').unwrap_or(text);
    match (text.strip_suffix('*'), text.strip_prefix('*')) {
        _ if text.is_empty() => fault("is empty or no text.", "Write a value in quotes."),
        _ if text == "*" => Ok(StringMatch::Present),
        _ if inner.strip_suffix('*').unwrap_or(inner).contains('*') => {
            fault("has a * in its middle.", "Write the * at its start or its end.")
        }
        (Some(_), Some(_)) => fault("has more than one *.", "Write the * at its start or its end."),
        (Some(prefix), None) => Ok(StringMatch::Prefix(shared(prefix))),
        (None, Some(suffix)) => Ok(StringMatch::Suffix(shared(suffix))),
        (None, None) => Ok(StringMatch::Exact(shared(text))),
    }
}

/// `cluster.local/ns/shop/sa/web`, with wildcards.
pub(super) fn principal(text: &str) -> Result<StringMatch, Fault> {
    match text.strip_prefix("spiffe://") {
        Some(rest) => fault(
            "starts with spiffe://, which principals are written without.",
            &format!("Write {}.", rest.chars().take(100).collect::<String>()),
        ),
        None => wildcard(text),
    }
}

/// `namespace/name`, or `name` in the policy's own namespace.
pub(super) fn service_account(text: &str, own_namespace: &str) -> Result<StringMatch, Fault> {
    let (namespace, name) = text.split_once('/').unwrap_or((own_namespace, text));
    if text.contains('*') || namespace.is_empty() || name.is_empty() || name.contains('/') {
        return fault(
            "is neither a service account's name nor NAMESPACE/NAME.",
            "Write it without *, or use principals or namespaces.",
        );
    }
    Ok(StringMatch::Exact(format!("{namespace}/{name}").into()))
}

/// `GET`, with wildcards.
pub(super) fn method(text: &str) -> Result<StringMatch, Fault> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return fault(
            "would never match, because methods are written in upper case.",
            &format!(
                "Write {}.",
                text.chars().take(100).collect::<String>().to_ascii_uppercase()
            ),
        );
    }
    wildcard(text)
}

/// `shop.example`, with wildcards and perhaps a port.
pub(super) fn host(text: &str) -> Result<StringMatch, Fault> {
    if text.contains('/') {
        return fault(
            "holds a /, which no host does.",
            "Write the host alone, without scheme and path.",
        );
    }
    wildcard(text)
}

/// `/admin`, with wildcards, or a template with `{*}` and `{**}`.
pub(super) fn path(text: &str) -> Result<StringMatch, Fault> {
    if text.contains(['?', '#']) {
        return fault("holds a query, which is no part of a path.", "Write the path alone.");
    }
    if text.contains(['{', '}']) {
        if is_template(text) {
            return Ok(StringMatch::Template(text.into()));
        }
        return fault(
            "is no path template.",
            "Write elements of text, {*} or one {**} after which stands text alone.",
        );
    }
    if !text.is_empty() && !text.starts_with(['/', '*']) {
        return fault(
            "would never match, because every path starts with /.",
            "Start it with / or *.",
        );
    }
    wildcard(text)
}

/// Every element is text, `{*}` or at most one `{**}`, after which only text stands.
fn is_template(text: &str) -> bool {
    let mut rest_seen = false;
    text.starts_with('/')
        && text.split('/').all(|element| match element {
            "{*}" => !rest_seen,
            "{**}" => !std::mem::replace(&mut rest_seen, true),
            text => !text.contains(['{', '}', '*']),
        })
}

/// `10.0.0.0/8` or `10.0.0.1`.
pub(super) fn network(text: &str) -> Result<IpMatch, Fault> {
    let network = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    match network {
        Ok(network) => Ok(IpMatch::In(network.trunc())),
        Err(_) => fault("is neither a network like 10.0.0.0/8 nor an address.", "Write one."),
    }
}

/// `8080`.
pub(super) fn port(text: &str) -> Result<PortMatch, Fault> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if plain && port != 0 => Ok(PortMatch::Is(port)),
        _ => fault("is no port.", "Write a number from 1 to 65535."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_at_one_end() {
        let exact = |text: &str| Ok(StringMatch::Exact(text.into()));
        assert_eq!(wildcard("abc"), exact("abc"));
        assert_eq!(wildcard("abc*"), Ok(StringMatch::Prefix("abc".into())));
        assert_eq!(wildcard("*abc"), Ok(StringMatch::Suffix("abc".into())));
        assert_eq!(wildcard("*"), Ok(StringMatch::Present));
        for broken in ["", "a*c", "*abc*", "**", "a**", "**a"] {
            assert!(wildcard(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_value_that_could_never_match_is_broken() {
        for broken in ["get", "Post", ""] {
            assert!(method(broken).is_err(), "{broken}");
        }
        for broken in [
            "admin",
            "/a?b",
            "/a#b",
            "/{a}",
            "/{**}/{*}",
            "/{**}/{**}",
            "/a{*}",
            "{*}",
            "",
        ] {
            assert!(path(broken).is_err(), "{broken}");
        }
        for good in ["/admin", "/admin/*", "*.png", "*", "/{*}/x", "/a/{**}/b", "/{**}"] {
            assert!(path(good).is_ok(), "{good}");
        }
        assert!(principal("spiffe://cluster.local/ns/a/sa/b").is_err());
        assert!(host("https://shop").is_err());
    }

    #[test]
    fn service_accounts_are_taken_from_the_own_namespace_unless_they_name_one() {
        let exact = |text: &str| Ok(StringMatch::Exact(text.into()));
        assert_eq!(service_account("web", "shop"), exact("shop/web"));
        assert_eq!(service_account("other/web", "shop"), exact("other/web"));
        for broken in ["", "/web", "shop/", "a/b/c", "shop/*", "*"] {
            assert!(service_account(broken, "shop").is_err(), "{broken}");
        }
    }

    #[test]
    fn networks_and_ports_are_read_or_broken() {
        assert_eq!(
            network("10.1.2.3/8"),
            Ok(IpMatch::In("10.0.0.0/8".parse().expect("network")))
        );
        assert_eq!(
            network("10.1.2.3"),
            Ok(IpMatch::In("10.1.2.3/32".parse().expect("network")))
        );
        assert_eq!(
            network("fd00::1"),
            Ok(IpMatch::In("fd00::1/128".parse().expect("network")))
        );
        for broken in ["10.0.0.0/33", "10.0.0/8", "ten", "", "10.0.0.0/"] {
            assert!(network(broken).is_err(), "{broken}");
        }
        assert_eq!(port("8080"), Ok(PortMatch::Is(8080)));
        for broken in ["0", "65536", "-1", "+1", "http", "", "80-90", " 80"] {
            assert!(port(broken).is_err(), "{broken}");
        }
    }
}
