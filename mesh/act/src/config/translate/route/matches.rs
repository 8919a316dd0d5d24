//! `matches` of a rule.

use std::sync::Arc;

use decide::model::{HeaderMatch, PathMatch, Pattern, RouteMatch, ValueMatch};
use regex::RegexBuilder;

use super::Reading;
use crate::config::translate::written::Field;

/// Most memory of one compiled expression, in bytes.
const LARGEST_PATTERN: usize = 256 << 10;

const METHODS: &[&str] = &[
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
];

/// Gateway API's default: every path.
pub(super) fn everything() -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix("".into()),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
        broken: false,
    }
}

impl Reading {
    /// One entry. What of it is unknown breaks the rule: what is known then decides what is answered 500. What
    /// cannot be compared at all matches nothing.
    pub(super) fn route_match(&mut self, field: &Field<'_>, broken: &mut Option<Arc<str>>) -> RouteMatch {
        let mut read = everything();
        if field.fields().is_none() {
            self.breaks(
                field,
                broken,
                "is no object",
                "Write path, headers, queryParams or method below it.",
            );
        }
        self.unknown(field, &["path", "headers", "queryParams", "method"], broken);
        if let Some(path) = field.some("path") {
            match self.path(&path, broken) {
                Some(path) => read.path = path,
                None => read.broken = true,
            }
        }
        if let Some(method) = field.some("method") {
            match method.text().filter(|it| METHODS.contains(it)) {
                Some(text) => read.method = Some(text.into()),
                None => {
                    self.never(&method, "is no HTTP method", "Write one in upper case, such as GET.");
                    read.broken = true;
                }
            }
        }
        for (key, is_header) in [("headers", true), ("queryParams", false)] {
            for item in self.list(field, key, broken) {
                match self.named_value(&item, is_header, broken) {
                    Some(value) => {
                        let list = if is_header { &mut read.headers } else { &mut read.query };
                        // Of several of one name the first alone counts.
                        if !list.iter().any(|it| it.name == value.name) {
                            list.push(value);
                        }
                    }
                    None => read.broken = true,
                }
            }
        }
        read
    }

    fn path(&mut self, field: &Field<'_>, broken: &mut Option<Arc<str>>) -> Option<PathMatch> {
        self.unknown(field, &["type", "value"], broken);
        let kind = field.some("type").map_or(Some("PathPrefix"), |it| it.text());
        let value = field.some("value").map_or(Some("/"), |it| it.text());
        match (kind, value) {
            (Some("Exact"), Some(value)) if value.starts_with('/') => Some(PathMatch::Exact(value.into())),
            (Some("PathPrefix"), Some(value)) if value.starts_with('/') => {
                Some(PathMatch::Prefix(value.trim_end_matches('/').into()))
            }
            (Some("RegularExpression"), Some(value)) => self.pattern(field, value).map(PathMatch::Regex),
            (Some("Exact" | "PathPrefix"), _) => {
                self.never(field, "has no value that starts with /", "Write an absolute path.");
                None
            }
            _ => {
                self.never(
                    field,
                    "has no type the mesh knows",
                    "Write Exact, PathPrefix or RegularExpression.",
                );
                None
            }
        }
    }

    fn named_value(
        &mut self,
        field: &Field<'_>,
        is_header: bool,
        broken: &mut Option<Arc<str>>,
    ) -> Option<HeaderMatch> {
        self.unknown(field, &["type", "name", "value"], broken);
        let text = |key: &str| field.some(key).and_then(|it| it.text());
        let name = text("name").filter(|name| !name.is_empty());
        let name: Option<Arc<str>> = if is_header {
            name.and_then(|name| http::HeaderName::from_bytes(name.as_bytes()).ok())
                .map(|name| name.as_str().into())
        } else {
            name.map(Arc::from)
        };
        let (Some(name), Some(value)) = (name, text("value")) else {
            self.never(field, "lacks a name or a value", "Write both, as text.");
            return None;
        };
        let value = match field.some("type").map_or(Some("Exact"), |it| it.text()) {
            Some("Exact") => ValueMatch::Exact(value.into()),
            Some("RegularExpression") => ValueMatch::Regex(self.pattern(field, value)?),
            _ => {
                self.never(field, "has no type the mesh knows", "Write Exact or RegularExpression.");
                return None;
            }
        };
        Some(HeaderMatch { name, value })
    }

    fn pattern(&mut self, field: &Field<'_>, expression: &str) -> Option<Pattern> {
        // The expression alone must be one: `a)|(b` would otherwise break out of the group around it.
        let build = |text: &str| RegexBuilder::new(text).size_limit(LARGEST_PATTERN).build();
        let built = build(expression).and_then(|_| build(&format!("^(?:{expression})$")));
        match built {
            Ok(built) => Some(Pattern(built)),
            Err(_) => {
                self.never(
                    field,
                    "holds no regular expression that can be compiled",
                    "Write one in RE2's syntax, without look-around and not too large.",
                );
                None
            }
        }
    }

    fn never(&mut self, field: &Field<'_>, what: &str, remedy: &str) {
        self.found
            .push(field.error(format!("{what}; this match is never true."), remedy));
    }
}
