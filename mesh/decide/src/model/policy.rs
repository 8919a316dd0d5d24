//! Authorization policies, compiled: what may be asked of a connection or request, and by whom.
//! A part that could not be understood stays in the model as *broken* and never widens (design 4).

use std::{collections::BTreeMap, sync::Arc};

use ipnet::IpNet;
use serde::Serialize;

use super::{Decider, Identity, ObjectRef, WaypointKey};

/// What a policy does when one of its rules matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub enum Action {
    /// Asks an external authorizer. Not built yet: treated as a DENY whose rules match as written.
    Custom,
    /// Refuses.
    Deny,
    /// Permits; any ALLOW policy makes everything no ALLOW permits denied.
    Allow,
}

/// One AuthorizationPolicy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policy {
    /// The object.
    pub object: ObjectRef,
    /// What it does.
    pub action: Action,
    /// Any of these rules. An ALLOW without rules permits nothing; a DENY without rules refuses nothing.
    pub rules: Vec<Rule>,
    /// Judged and reported, never enforced.
    pub dry_run: bool,
    /// Set when the spec itself holds something we do not know: the policy then refuses everything it covers,
    /// whatever its action. Holds the field.
    pub broken: Option<Arc<str>>,
}

/// All of: one of `from` (if any is given), one of `to` (if any), every one of `when`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Rule {
    /// Who.
    pub from: Vec<Source>,
    /// What.
    pub to: Vec<Operation>,
    /// Further conditions.
    pub when: Vec<Condition>,
    /// Set when the rule holds a field we do not know (by its path): such a part of an ALLOW rule never
    /// matches, of a DENY rule always does.
    pub broken: Option<Arc<str>>,
}

/// A client: all of the lists that are not empty; within one list, any.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[allow(
    missing_docs,
    reason = "the fields are those of Istio's AuthorizationPolicy Source, snake-cased"
)]
pub struct Source {
    pub principals: Vec<StringMatch>,
    pub not_principals: Vec<StringMatch>,
    pub request_principals: Vec<StringMatch>,
    pub not_request_principals: Vec<StringMatch>,
    pub namespaces: Vec<StringMatch>,
    pub not_namespaces: Vec<StringMatch>,
    /// `<namespace>/<name>`, or `<name>` in the policy's own namespace (resolved by the translation).
    pub service_accounts: Vec<StringMatch>,
    pub not_service_accounts: Vec<StringMatch>,
    pub trust_domains: Vec<StringMatch>,
    pub not_trust_domains: Vec<StringMatch>,
    pub ip_blocks: Vec<IpMatch>,
    pub not_ip_blocks: Vec<IpMatch>,
    pub remote_ip_blocks: Vec<IpMatch>,
    pub not_remote_ip_blocks: Vec<IpMatch>,
    /// A field we do not know, by its path; as [`Rule::broken`], for this source alone.
    pub broken: Option<Arc<str>>,
}

/// An operation: all of the lists that are not empty; within one list, any.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[allow(
    missing_docs,
    reason = "the fields are those of Istio's AuthorizationPolicy Operation, snake-cased"
)]
pub struct Operation {
    pub hosts: Vec<StringMatch>,
    pub not_hosts: Vec<StringMatch>,
    pub ports: Vec<PortMatch>,
    pub not_ports: Vec<PortMatch>,
    pub methods: Vec<StringMatch>,
    pub not_methods: Vec<StringMatch>,
    pub paths: Vec<StringMatch>,
    pub not_paths: Vec<StringMatch>,
    /// A field we do not know, by its path; as [`Rule::broken`], for this operation alone.
    pub broken: Option<Arc<str>>,
}

/// One entry of `when`: the attribute has one of `values` (if any) and none of `not_values`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Condition {
    /// Which attribute.
    pub key: ConditionKey,
    /// Any of these.
    pub values: Vec<StringMatch>,
    /// None of these.
    pub not_values: Vec<StringMatch>,
    /// For the keys that hold an address: `values` as networks.
    pub networks: Vec<IpMatch>,
    /// For the keys that hold an address: `not_values` as networks.
    pub not_networks: Vec<IpMatch>,
}

/// Attributes that `when` may ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[allow(
    missing_docs,
    reason = "each is the attribute of its name in Istio's condition table"
)]
pub enum ConditionKey {
    SourceIp,
    RemoteIp,
    SourceNamespace,
    SourcePrincipal,
    SourceServiceAccount,
    DestinationIp,
    DestinationPort,
    RequestHeader(Arc<str>),
    /// A key we do not know, or do not support yet: broken.
    Unsupported(Arc<str>),
}

/// How a string is matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// `abc*`
    Prefix(Arc<str>),
    /// `*abc`
    Suffix(Arc<str>),
    /// `*`: there, and not empty.
    Present,
    /// A path template with `{*}` and `{**}` (paths only), as written.
    Template(Arc<str>),
    /// Could not be understood.
    Broken(Arc<str>),
}

/// How an address is matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum IpMatch {
    /// Inside this network.
    In(IpNet),
    /// Could not be understood.
    Broken(Arc<str>),
}

/// How a port is matched.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum PortMatch {
    /// Equal.
    Is(u16),
    /// Could not be understood.
    Broken(Arc<str>),
}

/// A policy as it binds one workload or Service.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AppliedPolicy {
    /// The policy.
    pub policy: Arc<Policy>,
    /// Only on these ports: set when it came by a Service, whose target ports these are (in a workload's
    /// set; service ports never appear here). `None`: every port.
    pub ports: Option<Arc<[u16]>>,
}

/// Everything that judges traffic towards one workload, or requests towards one Service.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct PolicySet {
    /// Whether plaintext is accepted.
    pub mtls: MtlsRules,
    /// CUSTOM, DENY, ALLOW in this order, each by object.
    pub policies: Vec<AppliedPolicy>,
    /// Waypoints that may judge in our stead (workload sets only).
    pub waypoints: Vec<BoundWaypoint>,
}

/// A waypoint bound to a workload, directly or by a Service that selects it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BoundWaypoint {
    /// Which.
    pub key: WaypointKey,
    /// Who its pods are.
    pub identity: Identity,
    /// On these ports of the workload; `None`: all of them (bound to the workload itself).
    pub ports: Option<Arc<[u16]>>,
}

/// PeerAuthentication, resolved for one workload.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MtlsRules {
    /// The mode of ports not named, and what decided it (`None`: the default).
    pub default: (MtlsMode, Option<Decider>),
    /// Modes of single ports.
    pub ports: BTreeMap<u16, (MtlsMode, Decider)>,
}

/// Whether plaintext is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub enum MtlsMode {
    /// Plaintext and mutual TLS.
    #[default]
    Permissive,
    /// Mutual TLS only.
    Strict,
}

impl BoundWaypoint {
    /// Whether it stands in front of this port.
    pub fn covers(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }
}

impl AppliedPolicy {
    /// Whether it binds this port.
    pub fn covers(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }
}

impl MtlsRules {
    /// The mode of a port and what decided it.
    pub fn mode(&self, port: u16) -> (MtlsMode, Option<&Decider>) {
        match self.ports.get(&port) {
            Some((mode, by)) => (*mode, Some(by)),
            None => (self.default.0, self.default.1.as_ref()),
        }
    }
}
