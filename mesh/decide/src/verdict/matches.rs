//! One pattern against one attribute.

use super::tri::Tri;
use crate::model::StringMatch;

/// What is known of one attribute.
#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute<T> {
    /// Not yet.
    Unknown,
    /// There is none: no positive match holds, every negative one does.
    Absent,
    /// This.
    Is(T),
}

impl<T> Attribute<T> {
    /// What a test of the value comes to.
    pub(super) fn tri(&self, test: impl FnOnce(&T) -> bool) -> Tri {
        match self {
            Self::Unknown => Tri::Unknown,
            Self::Absent => Tri::False,
            Self::Is(value) => Tri::from(test(value)),
        }
    }
}

/// Whether a pattern cannot be honoured. Templates mean something in paths only.
pub(super) fn broken(pattern: &StringMatch) -> bool {
    matches!(pattern, StringMatch::Broken(_) | StringMatch::Template(_))
}

/// Whether a pattern for paths cannot be honoured.
pub(super) fn broken_path(pattern: &StringMatch) -> bool {
    match pattern {
        StringMatch::Broken(_) => true,
        StringMatch::Template(template) => !is_template(template),
        _ => false,
    }
}

/// Whether a value matches. Patterns that are [`broken`] match nothing.
pub(super) fn string(pattern: &StringMatch, value: &str) -> bool {
    match pattern {
        StringMatch::Exact(exact) => **exact == *value,
        StringMatch::Prefix(prefix) => value.starts_with(&**prefix),
        StringMatch::Suffix(suffix) => value.ends_with(&**suffix),
        StringMatch::Present => !value.is_empty(),
        StringMatch::Template(_) | StringMatch::Broken(_) => false,
    }
}

/// Whether a path matches.
pub(super) fn path(pattern: &StringMatch, path: &str) -> bool {
    match pattern {
        StringMatch::Template(template) => is_template(template) && template_matches(template, path),
        _ => string(pattern, path),
    }
}

/// Whether a host (in lower case) matches: by name alone, unless the pattern holds a port.
pub(super) fn host(pattern: &StringMatch, host: &str) -> bool {
    let (StringMatch::Exact(text) | StringMatch::Prefix(text) | StringMatch::Suffix(text)) = pattern else {
        return string(pattern, host);
    };
    let text = text.to_ascii_lowercase();
    let host = if without_port(&text) == text {
        without_port(host)
    } else {
        host
    };
    match pattern {
        StringMatch::Prefix(_) => host.starts_with(&text),
        StringMatch::Suffix(_) => host.ends_with(&text),
        _ => host == text,
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    }
}

/// Istio's path templates: every element is text, `{*}` or `{**}`, and nothing follows `{**}` but text.
fn is_template(template: &str) -> bool {
    let mut rest_allowed = true;
    template.starts_with('/')
        && template.split('/').all(|element| match element {
            "{*}" => rest_allowed,
            "{**}" => std::mem::take(&mut rest_allowed),
            text => !text.contains(['{', '}', '*']),
        })
}

/// `{*}` is one element that is not empty, `{**}` the rest up to what is written after it: any number of
/// elements. As a regular expression `[^/]+` and `.*`.
fn template_matches(template: &str, path: &str) -> bool {
    let (head, tail) = template.split_once("{**}").unwrap_or((template, ""));
    let open = head.len() < template.len();
    let mut elements = head.split('/').peekable();
    let mut rest = path;
    while let Some(element) = elements.next() {
        let last = elements.peek().is_none();
        if last && open {
            // What stands before `{**}` ends with the slash that led here.
            return rest.len() >= tail.len() && rest.ends_with(tail);
        }
        let (found, after) = match rest.split_once('/') {
            Some((found, after)) => (found, Some(after)),
            None => (rest, None),
        };
        let fits = if element == "{*}" {
            !found.is_empty()
        } else {
            element == found
        };
        match (fits, after, last) {
            (true, None, true) => return true,
            (true, Some(after), false) => rest = after,
            _ => return false,
        }
    }
    false
}
