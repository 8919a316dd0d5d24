//! May it? One evaluator, three answers (design 25).
//!
//! ```text
//! Facts -> matches (one attribute, one list) -> rule (and/or/not over Tri) -> verdict (CUSTOM, DENY, ALLOW)
//! ```
//!
//! What is not known yet is `Tri::Unknown`; what could not be understood never widens: in an ALLOW rule it
//! never matches, in a rule that refuses it always does (design 4).

#[cfg(test)]
mod lines;
mod matches;
#[cfg(test)]
mod naive;
mod rule;
#[cfg(test)]
mod tests;
mod tri;

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use self::tri::Tri;
use crate::model::{Action, AppliedPolicy, Decider, Identity, MtlsMode, Policy, PolicySet, Refusal};

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
    judge(set.policies.iter().filter(|applied| !applied.policy.dry_run), facts)
}

/// What dry-run policies of the set would have refused: the rule that would refuse, were they enforced, what
/// the enforced ones do not.
pub fn dry_run(set: &PolicySet, facts: &Facts<'_>) -> Option<Decider> {
    if !set.policies.iter().any(|applied| applied.policy.dry_run) || matches!(verdict(set, facts), Verdict::Deny(_)) {
        return None;
    }
    match judge(set.policies.iter(), facts) {
        Verdict::Deny(by) => Some(by),
        Verdict::Allow(_) | Verdict::NeedsWaypoint(_) => None,
    }
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
    if let (None, (MtlsMode::Strict, by)) = (peer, set.mtls.mode(destination.port())) {
        return Err(Refusal::PlaintextRefused(by.cloned()));
    }
    let enforced = set.policies.iter().filter(|applied| !applied.policy.dry_run);
    admit_by(enforced, set, peer, client, destination)
}

/// What [`admit`] would refuse, were dry-run policies enforced, and does not refuse: by whom.
pub fn trial(set: &PolicySet, peer: Option<&Identity>, client: IpAddr, destination: SocketAddr) -> Option<Decider> {
    if !set.policies.iter().any(|applied| applied.policy.dry_run) || admit(set, peer, client, destination).is_err() {
        return None;
    }
    let refusal = admit_by(set.policies.iter(), set, peer, client, destination).err()?;
    refusal.decider().cloned()
}

fn admit_by<'a>(
    policies: impl Iterator<Item = &'a AppliedPolicy>,
    set: &PolicySet,
    peer: Option<&Identity>,
    client: IpAddr,
    destination: SocketAddr,
) -> Result<Option<Decider>, Refusal> {
    let waypoint = set
        .waypoints
        .iter()
        .any(|bound| Some(&bound.identity) == peer && bound.covers(destination.port()));
    let client = if waypoint {
        Client::BehindWaypoint
    } else {
        Client::Known { peer, address: client }
    };
    let facts = Facts {
        client,
        destination,
        request: None,
    };
    match judge(policies, &facts) {
        Verdict::Allow(by) => Ok(by),
        Verdict::NeedsWaypoint(_) if waypoint => Ok(None),
        Verdict::NeedsWaypoint(by) => Err(Refusal::WaypointRequired(by)),
        Verdict::Deny(by) => Err(Refusal::Denied(by)),
    }
}

/// Where a policy decided: one of its rules, or a field of its own.
#[derive(Clone, Copy)]
enum Spot<'a> {
    Rule(&'a Policy, usize),
    Field(&'a Policy, &'a str),
}

impl Spot<'_> {
    fn decider(self) -> Decider {
        let (policy, field) = match self {
            Self::Rule(policy, rule) => (policy, format!("spec.rules[{rule}]").into()),
            Self::Field(policy, field) => (policy, field.into()),
        };
        Decider {
            object: policy.object.clone(),
            field,
        }
    }
}

fn judge<'a>(policies: impl Iterator<Item = &'a AppliedPolicy>, facts: &Facts<'_>) -> Verdict {
    let mut undecided_refusal = None;
    let mut allow_policy = None;
    let mut allowed = None;
    let mut undecided_allow = None;
    let covering = policies.filter(|applied| applied.covers(facts.destination.port()));
    for policy in covering.map(|applied| &*applied.policy) {
        if let Some(field) = &policy.broken {
            return Verdict::Deny(Spot::Field(policy, field).decider());
        }
        let (fires, spot) = strongest(policy, facts);
        match (policy.action, fires) {
            (Action::Custom | Action::Deny, Tri::True) => return Verdict::Deny(spot.decider()),
            (Action::Custom | Action::Deny, Tri::Unknown) => {
                undecided_refusal.get_or_insert(spot);
            }
            (Action::Custom | Action::Deny, Tri::False) => {}
            (Action::Allow, fires) => {
                allow_policy.get_or_insert(policy);
                match fires {
                    Tri::True => drop(allowed.get_or_insert(spot)),
                    Tri::Unknown => drop(undecided_allow.get_or_insert(spot)),
                    Tri::False => {}
                }
            }
        }
    }
    match (undecided_refusal, allow_policy, allowed, undecided_allow) {
        (Some(spot), ..) => Verdict::NeedsWaypoint(spot.decider()),
        (None, None, ..) => Verdict::Allow(None),
        (None, Some(_), Some(spot), _) => Verdict::Allow(Some(spot.decider())),
        (None, Some(_), None, Some(spot)) => Verdict::NeedsWaypoint(spot.decider()),
        (None, Some(policy), None, None) => Verdict::Deny(Spot::Field(policy, "spec.rules").decider()),
    }
}

/// Whether any rule of the policy matches, and the first rule that says so.
fn strongest<'a>(policy: &'a Policy, facts: &Facts<'_>) -> (Tri, Spot<'a>) {
    let mut answer = (Tri::False, Spot::Field(policy, "spec.rules"));
    for (index, rule) in policy.rules.iter().enumerate() {
        match rule::matches(rule, policy.action, facts) {
            Tri::True => return (Tri::True, Spot::Rule(policy, index)),
            Tri::Unknown if answer.0 == Tri::False => answer = (Tri::Unknown, Spot::Rule(policy, index)),
            Tri::Unknown | Tri::False => {}
        }
    }
    answer
}
