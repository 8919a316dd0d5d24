//! Why? Every decision on the way of one connection or request, in order, each with what decided it.
//! Asks the same functions as the proxies do, so that it cannot tell another story.

mod asked;
mod near;
mod outside;
mod way;
mod waypoint;
mod words;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{model::Decider, snapshot::Snapshot};

/// A question. `from` and `to` are written as people do: see [`why`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// A pod (`namespace/pod`, or the pod's name if only one has it), or an address.
    pub from: String,
    /// `name.namespace:port`, `namespace/name:port` (Service, else pod) or `address:port`. The port may be left
    /// out where there is only one.
    pub to: String,
    /// Method and path, if HTTP.
    pub request: Option<(String, String)>,
    /// Headers, if any matter.
    pub headers: Vec<(String, String)>,
}

/// One decision on the way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Which part decides: `ztunnel on node-1`, `waypoint shop/waypoint` …
    pub at: Arc<str>,
    /// Which decision: `hop`, `verify`, `bound`, `route`, `verdict`, `dry run`, `pick`.
    pub decision: Arc<str>,
    /// What it came to, one plain sentence.
    pub answer: Arc<str>,
    /// The object and field that decided.
    pub by: Option<Decider>,
}

/// The whole way.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// Every decision, in order.
    pub steps: Vec<Step>,
    /// Whether it arrives.
    pub allowed: bool,
    /// The end, one plain sentence.
    pub outcome: Arc<str>,
}

/// Explains what becomes of a connection, or of a request on it, as the proxies would decide it now. Where one of
/// several endpoints would be picked, the first is followed and all are named.
///
/// # Errors
/// One plain sentence when the question names something that does not exist, with what may have been meant.
pub fn why(snapshot: &Snapshot, question: &Question) -> Result<Explanation, String> {
    let from = asked::client(snapshot, &question.from)?;
    let to = asked::destination(snapshot, &question.to, &from)?;
    let request = asked::request(question, &to)?;
    Ok(way::explain(snapshot, &from, to.address, request.as_ref()))
}

#[cfg(test)]
mod tests;
