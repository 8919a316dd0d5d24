//! May it? One evaluator, three answers (design 25).

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use crate::model::{Decider, Identity, PolicySet, Refusal};

/// What is known of a connection or request so far.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Who asks.
    pub client: Client<'a>,
    /// The workload's address and port that is asked for (target port, never a Service port).
    pub destination: SocketAddr,
    /// The request, once it is known.
    pub request: Option<Request<'a>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub enum Client<'a> {
    /// A client we see ourselves.
    Known {
        /// Its verified identity; `None` over plaintext.
        peer: Option<&'a Identity>,
        /// Its address.
        address: IpAddr,
    },
    /// A client behind a bound waypoint, which has judged it: nothing about it is known here.
    BehindWaypoint,
}

/// An HTTP request's head.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Method.
    pub method: &'a str,
    /// Path without query, as it will be forwarded (normalised by the caller).
    pub path: &'a str,
    /// Query without `?`; empty when there is none.
    pub query: &'a str,
    /// Authority or Host, in lower case.
    pub host: &'a str,
    /// Headers.
    pub headers: &'a HeaderMap,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every request is allowed; by this rule, if a rule was needed.
    Allow(Option<Decider>),
    /// Every request is denied.
    Deny(Decider),
    /// It depends on what is not known yet.
    NeedsWaypoint(Decider),
}

/// Judges by a policy set. Pure policies only: mutual TLS modes are [`admit`]'s matter.
pub fn verdict(set: &PolicySet, facts: &Facts<'_>) -> Verdict {
    let _ = (set, facts);
    todo!()
}

/// What dry-run policies of the set would have refused.
pub fn dry_run(set: &PolicySet, facts: &Facts<'_>) -> Option<Decider> {
    let _ = (set, facts);
    todo!()
}

/// Whether a destination's ztunnel lets a connection in: mutual TLS mode, then [`verdict`], with the
/// exception for waypoints that this set binds to the port. `Ok` holds what allowed it, if a rule did.
///
/// # Errors
/// The refusal.
pub fn admit(
    set: &PolicySet,
    peer: Option<&Identity>,
    client: IpAddr,
    destination: SocketAddr,
) -> Result<Option<Decider>, Refusal> {
    let _ = (set, peer, client, destination);
    todo!()
}
