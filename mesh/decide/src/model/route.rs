//! L7 routes of Gateway API, compiled.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, Serializer};

use super::{ObjectRef, ServiceKey};

/// One HTTPRoute attached to one Service (Gateway API, GAMMA).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpRoute {
    /// The HTTPRoute.
    pub object: ObjectRef,
    /// `parentRefs[].port`: only requests to this port of the Service; `None`: every port.
    pub parent_port: Option<u16>,
    /// In the Service's own namespace (producer), or in the callers' (consumer)?
    pub consumer: bool,
    /// Its rules, as written.
    pub rules: Vec<RouteRule>,
}

/// One rule of a route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteRule {
    /// `name`, else empty.
    pub name: Arc<str>,
    /// Any of these matches. The translation writes Gateway API's default (prefix `/`) when none is given.
    pub matches: Vec<RouteMatch>,
    /// Where to, by weight.
    pub backends: Vec<Backend>,
    /// `timeouts.request`; `None`: no limit.
    pub request_timeout: Option<Duration>,
    /// Set when something in this rule cannot be honoured: requests it matches answer 500, with this reason.
    pub broken: Option<Arc<str>>,
}

/// All of these conditions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RouteMatch {
    /// Path.
    pub path: PathMatch,
    /// Headers, all of them; names in lower case.
    pub headers: Vec<HeaderMatch>,
    /// Query parameters, all of them.
    pub query: Vec<HeaderMatch>,
    /// Method, in upper case.
    pub method: Option<Arc<str>>,
    /// Set when this match cannot be compiled: never true.
    pub broken: bool,
}

/// A condition on the path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum PathMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Prefix by whole path elements; stored without trailing slash, so `/` is empty.
    Prefix(Arc<str>),
    /// RE2-like expression, matching the whole path.
    Regex(Pattern),
}

/// A condition on a header or query parameter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HeaderMatch {
    /// Name.
    pub name: Arc<str>,
    /// Value.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum ValueMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Matching the whole value.
    Regex(Pattern),
}

/// A compiled expression, equal when its source is.
#[derive(Debug, Clone)]
pub struct Pattern(pub regex::Regex);

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

/// One weighted destination of a rule.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Backend {
    /// The Service.
    pub service: ServiceKey,
    /// Its port.
    pub port: u16,
    /// Weight, 0 to 1,000,000.
    pub weight: u32,
    /// Set when it cannot be honoured (absent, unknown kind, not granted): its share of requests answers 500.
    pub broken: Option<Arc<str>>,
}
