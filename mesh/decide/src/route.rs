//! Which route? The L7 decision, by Gateway API's precedence.

mod matches;

use std::sync::Arc;

pub use matches::Specificity;

use crate::{
    model::{Decider, HttpRoute, Refusal, RouteRule, Service},
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
///
/// Where the caller's own namespace routes this Service, its routes stand instead of the Service's (GAMMA: no
/// merging). Of several rules that match, the most specific wins; of equals the oldest route, then the first rule.
pub fn route(service: &Arc<Service>, port: u16, caller: Option<&str>, request: &Request<'_>, random: u64) -> Route {
    let mut routes = attached(service, port, caller).peekable();
    if routes.peek().is_none() {
        return Route::Unrouted;
    }
    match best(routes, request) {
        None => Route::Refused(Refusal::NoRoute(service.key.clone())),
        Some((route, rule)) => honour(route, rule, random),
    }
}

/// The routes that hold for this caller on this port, oldest first.
pub fn attached<'a>(
    service: &'a Service,
    port: u16,
    caller: Option<&'a str>,
) -> impl Iterator<Item = &'a Arc<HttpRoute>> {
    let on_port = move |route: &&Arc<HttpRoute>| route.parent_port.is_none_or(|only| only == port);
    let own = move |route: &Arc<HttpRoute>| route.consumer && caller == Some(&*route.object.namespace);
    let consumes = service.routes.iter().filter(on_port).any(own);
    let holds = move |route: &&Arc<HttpRoute>| if consumes { own(route) } else { !route.consumer };
    service.routes.iter().filter(on_port).filter(holds)
}

/// The rule with the most specific match; the first of equals.
fn best<'s>(
    routes: impl Iterator<Item = &'s Arc<HttpRoute>>,
    request: &Request<'_>,
) -> Option<(&'s Arc<HttpRoute>, usize)> {
    let mut best: Option<(Specificity, &Arc<HttpRoute>, usize)> = None;
    for route in routes {
        for (index, rule) in route.rules.iter().enumerate() {
            let found = rule
                .matches
                .iter()
                .filter_map(|it| matches::specificity(it, request))
                .max();
            if let Some(found) = found
                && best.as_ref().is_none_or(|(so_far, ..)| found > *so_far)
            {
                best = Some((found, route, index));
            }
        }
    }
    best.map(|(_, route, rule)| (route, rule))
}

fn honour(route: &Arc<HttpRoute>, index: usize, random: u64) -> Route {
    let refused = |field: String, why: &str| {
        let by = Decider {
            object: route.object.clone(),
            field: field.into(),
        };
        Route::Refused(Refusal::BrokenRoute(by, why.into()))
    };
    let field = || format!("spec.rules[{index}]");
    let Some(rule) = route.rules.get(index) else {
        return refused(field(), "it is gone");
    };
    if let Some(why) = &rule.broken {
        return refused(field(), why);
    }
    match weighted(rule, random) {
        None => refused(format!("{}.backendRefs", field()), "no backend has a weight above 0"),
        Some(backend) => match rule.backends.get(backend).and_then(|it| it.broken.as_ref()) {
            Some(why) => refused(format!("{}.backendRefs[{backend}]", field()), why),
            None => Route::Rule {
                route: route.clone(),
                rule: index,
                backend,
            },
        },
    }
}

/// The backend that `random` falls on, each by its share of the weights; `None` when they sum to nothing.
fn weighted(rule: &RouteRule, random: u64) -> Option<usize> {
    let total: u64 = rule.backends.iter().map(|backend| u64::from(backend.weight)).sum();
    let mut left = random.checked_rem(total)?;
    rule.backends.iter().position(|backend| {
        let weight = u64::from(backend.weight);
        let falls_here = left < weight;
        left = left.saturating_sub(weight);
        falls_here
    })
}

#[cfg(test)]
mod tests;
