//! Whether one match of a rule holds for a request, and how specific it is.

use std::borrow::Cow;

use crate::{
    model::{HeaderMatch, PathMatch, Pattern, RouteMatch, ValueMatch},
    verdict::Request,
};

/// How specific a match is: the greater of two wins (HTTPRoute, `spec.rules[].matches`). Field order is precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Specificity {
    path: PathRank,
    method: bool,
    headers: usize,
    query: usize,
}

/// Gateway API leaves the rank of expressions open. Here they stand below every prefix but `/`, which asks for
/// nothing: else a catch-all rule would hide them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Any,
    Regex,
    /// By its length in bytes.
    Prefix(usize),
    Exact,
}

/// How specifically this match holds; `None` when it does not.
pub(super) fn specificity(wanted: &RouteMatch, request: &Request<'_>) -> Option<Specificity> {
    let method_holds = wanted.method.as_ref().is_none_or(|method| **method == *request.method);
    let header_holds = |header: &HeaderMatch| {
        header_value(request, &header.name).is_some_and(|value| value_holds(&header.value, &value))
    };
    let query_holds = |parameter: &HeaderMatch| {
        query_value(request.query, &parameter.name).is_some_and(|value| value_holds(&parameter.value, &value))
    };
    let holds = !wanted.broken
        && method_holds
        && path_holds(&wanted.path, request.path)
        && named_once(&wanted.headers).all(header_holds)
        && named_once(&wanted.query).all(query_holds);
    holds.then(|| Specificity {
        path: match &wanted.path {
            PathMatch::Exact(_) => PathRank::Exact,
            PathMatch::Prefix(prefix) if prefix.is_empty() => PathRank::Any,
            PathMatch::Prefix(prefix) => PathRank::Prefix(prefix.len()),
            PathMatch::Regex(_) => PathRank::Regex,
        },
        method: wanted.method.is_some(),
        headers: named_once(&wanted.headers).count(),
        query: named_once(&wanted.query).count(),
    })
}

fn path_holds(wanted: &PathMatch, path: &str) -> bool {
    match wanted {
        PathMatch::Exact(exact) => **exact == *path,
        PathMatch::Prefix(prefix) => path
            .strip_prefix(&**prefix)
            .is_some_and(|rest| prefix.is_empty() || rest.is_empty() || rest.starts_with('/')),
        PathMatch::Regex(pattern) => matches_whole(pattern, path),
    }
}

fn value_holds(wanted: &ValueMatch, value: &str) -> bool {
    match wanted {
        ValueMatch::Exact(exact) => **exact == *value,
        ValueMatch::Regex(pattern) => matches_whole(pattern, value),
    }
}

/// The translation anchors what it compiles; an expression that is not anchored must still not match a part.
fn matches_whole(pattern: &Pattern, value: &str) -> bool {
    pattern
        .0
        .find(value)
        .is_some_and(|found| found.range() == (0..value.len()))
}

/// Of conditions with the same name only the first counts (HTTPHeaderMatch, HTTPQueryParamMatch).
fn named_once(conditions: &[HeaderMatch]) -> impl Iterator<Item = &HeaderMatch> {
    conditions.iter().enumerate().filter_map(|(index, condition)| {
        let earlier = conditions.iter().take(index).any(|it| it.name == condition.name);
        (!earlier).then_some(condition)
    })
}

/// A header's value, several joined by commas (RFC 9110, 5.3); `None` when absent or not text.
fn header_value<'r>(request: &Request<'r>, name: &str) -> Option<Cow<'r, str>> {
    if name == "host" {
        return Some(request.host.into());
    }
    let mut values = request.headers.get_all(name).iter().map(|value| value.to_str().ok());
    let first = Cow::from(values.next()??);
    values.try_fold(first, |joined, value| Some(format!("{joined},{}", value?).into()))
}

/// The first value of a query parameter, decoded; `None` when absent or not text.
fn query_value<'r>(query: &'r str, name: &str) -> Option<Cow<'r, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(key)? == name).then(|| decoded(value))?
    })
}

/// `application/x-www-form-urlencoded`, decoded; `None` when that gives no UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains(['%', '+']) {
        return Some(text.into());
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, tail @ ..] = rest {
        let hex = match (first, tail) {
            (b'%', [high, low, ..]) => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        match hex {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = tail.get(2..).unwrap_or_default();
            }
            None => {
                out.push(if *first == b'+' { b' ' } else { *first });
                rest = tail;
            }
        }
    }
    String::from_utf8(out).ok().map(Cow::from)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}
