//! Which route? The L7 decision, by Gateway API's precedence.

use std::sync::Arc;

use crate::{
    model::{HttpRoute, Refusal, Service},
    verdict::Request,
};

/// The rule a request falls under.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// No route is attached to this port of the Service: to the Service itself.
    Unrouted,
    /// This rule and this backend of it.
    Rule {
        /// The route.
        route: Arc<HttpRoute>,
        /// Index of its rule.
        rule: usize,
        /// Index of the backend that the weights chose.
        backend: usize,
    },
    /// No rule matches, or the one that does cannot be honoured.
    Refused(Refusal),
}

/// The route of a request to a port of a Service. `caller` is the client's namespace (for consumer routes);
/// `random` chooses among weighted backends.
pub fn route(service: &Arc<Service>, port: u16, caller: Option<&str>, request: &Request<'_>, random: u64) -> Route {
    let _ = (service, port, caller, request, random);
    todo!()
}
