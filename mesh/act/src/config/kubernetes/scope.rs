//! Which kinds a process watches, and so what its RBAC must allow.

use super::shape::{self, Shape};

const GATEWAY_API: &str = "gateway.networking.k8s.io";

/// What watching needs.
const VERBS: &[&str] = &["get", "list", "watch"];

/// Which objects a process needs to know: its RBAC allows no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything that decides about the traffic of a node.
    Ztunnel,
    /// What decides about traffic that a waypoint is asked for.
    Waypoint,
    /// What decides which pods of this node are captured, and how.
    Agent {
        /// `spec.nodeName` of the pods.
        node: String,
    },
    /// What decides who may hold which identity.
    Authority,
}

/// A right at the API server, as a rule of a ClusterRole has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural name.
    pub resource: &'static str,
    /// What may be done with it.
    pub verbs: &'static [&'static str],
}

/// A kind that is watched.
#[derive(Debug, PartialEq)]
pub(super) struct Kind {
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    pub(super) group: &'static str,
    /// The one we prefer first.
    pub(super) versions: &'static [&'static str],
    /// What of an object is read at all.
    pub(super) shape: &'static Shape,
    /// Whether metadata is all we ask the server for.
    pub(super) only_metadata: bool,
}

impl Kind {
    const fn new(kind: &'static str, plural: &'static str, group: &'static str, shape: &'static Shape) -> Self {
        Self {
            kind,
            plural,
            group,
            versions: &["v1"],
            shape,
            only_metadata: false,
        }
    }

    const fn named(kind: &'static str, plural: &'static str) -> Self {
        Self {
            only_metadata: true,
            ..Self::new(kind, plural, "", &shape::NAMED)
        }
    }

    const fn of_gateway_api(kind: &'static str, plural: &'static str) -> Self {
        Self {
            versions: &["v1", "v1beta1"],
            ..Self::new(kind, plural, GATEWAY_API, &shape::SPEC)
        }
    }

    const fn ours(kind: &'static str, plural: &'static str) -> Self {
        Self {
            versions: &[crds::VERSION],
            ..Self::new(kind, plural, crds::GROUP, &shape::SPEC)
        }
    }

    /// Whether a server may not know it: then nobody can have written one.
    pub(super) fn may_be_missing(&self) -> bool {
        self.group == GATEWAY_API || self.is_ours() || self.may_be_unread()
    }

    /// What is so while it may not be read, of a kind that we can do without: what it would say counts as whatever
    /// is safe.
    pub(super) fn unread(&self) -> Option<&'static str> {
        if *self == NETWORK_POLICIES {
            Some("Pods of one node talk over the wire meanwhile.")
        } else if *self == NODES {
            Some("Which endpoints are near is known by zones alone, as EndpointSlices and pods tell them.")
        } else {
            None
        }
    }

    /// Whether we can do without.
    pub(super) fn may_be_unread(&self) -> bool {
        self.unread().is_some()
    }

    /// Whether it tells what the network asks of pods.
    pub(super) fn is_fence(&self) -> bool {
        *self == NETWORK_POLICIES
    }

    /// Whether its schema is ours.
    pub(super) fn is_ours(&self) -> bool {
        self.group == crds::GROUP
    }

    /// As people name it: `gateways.gateway.networking.k8s.io`.
    pub(super) fn full_name(&self) -> String {
        match self.group {
            "" => self.plural.to_owned(),
            group => format!("{}.{group}", self.plural),
        }
    }
}

const NAMESPACES: Kind = Kind::named("Namespace", "namespaces");
const ACCOUNTS: Kind = Kind::named("ServiceAccount", "serviceaccounts");
const NODES: Kind = Kind::named("Node", "nodes");
const PODS: Kind = Kind::new("Pod", "pods", "", &shape::POD);
const SERVICES: Kind = Kind::new("Service", "services", "", &shape::SPEC);
const SLICES: Kind = Kind::new("EndpointSlice", "endpointslices", "discovery.k8s.io", &shape::SLICE);
const NETWORK_POLICIES: Kind = Kind::new(
    "NetworkPolicy",
    "networkpolicies",
    "networking.k8s.io",
    &shape::NETWORK_POLICY,
);
const GATEWAYS: Kind = Kind::of_gateway_api("Gateway", "gateways");
const ROUTES: Kind = Kind::of_gateway_api("HTTPRoute", "httproutes");
const GRANTS: Kind = Kind::of_gateway_api("ReferenceGrant", "referencegrants");
const POLICIES: Kind = Kind::ours("AuthorizationPolicy", "authorizationpolicies");
const PEERS: Kind = Kind::ours("PeerAuthentication", "peerauthentications");
const TRAFFIC: Kind = Kind::ours("TrafficPolicy", "trafficpolicies");
const EXTERNAL: Kind = Kind::ours("ExternalService", "externalservices");
const MESH: Kind = Kind::ours("MeshConfig", "meshconfigs");

/// Nodes for where they are; NetworkPolicies for which pods of the node may not be spared the wire.
const ZTUNNEL: &[Kind] = &[
    NAMESPACES,
    NODES,
    ACCOUNTS,
    PODS,
    SERVICES,
    SLICES,
    NETWORK_POLICIES,
    GATEWAYS,
    ROUTES,
    GRANTS,
    POLICIES,
    PEERS,
    TRAFFIC,
    EXTERNAL,
    MESH,
];
/// Neither Nodes nor NetworkPolicies: a waypoint prefers no endpoint for being near, and reaches all by the wire.
const WAYPOINT: &[Kind] = &[
    NAMESPACES, ACCOUNTS, PODS, SERVICES, SLICES, GATEWAYS, ROUTES, GRANTS, POLICIES, PEERS, TRAFFIC, EXTERNAL, MESH,
];
/// Services and their slices, because a policy may bind a pod's ports by way of a Service.
const AGENT: &[Kind] = &[NAMESPACES, PODS, SERVICES, SLICES, GATEWAYS, POLICIES, PEERS, MESH];
/// Whether a pod is a waypoint's is told by Gateways; whether it is enrolled, by labels of namespaces.
const AUTHORITY: &[Kind] = &[NAMESPACES, PODS, GATEWAYS, MESH];

impl Scope {
    /// What this process reads: the rights its role must have, and no others.
    pub fn resources(&self) -> Vec<Resource> {
        let rights = self.kinds().iter().map(|kind| Resource {
            group: kind.group,
            resource: kind.plural,
            verbs: VERBS,
        });
        rights.collect()
    }

    pub(super) fn kinds(&self) -> &'static [Kind] {
        match self {
            Self::Ztunnel => ZTUNNEL,
            Self::Waypoint => WAYPOINT,
            Self::Agent { .. } => AGENT,
            Self::Authority => AUTHORITY,
        }
    }

    /// Which objects of a kind, if not all.
    pub(super) fn fields(&self, kind: &Kind) -> Option<String> {
        match self {
            Self::Agent { node } if *kind == PODS => Some(format!("spec.nodeName={node}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Object;

    #[test]
    fn a_ztunnel_watches_every_kind_that_is_read_and_the_others_a_part_of_them() {
        for kind in ZTUNNEL {
            assert!(Object::is_cluster_scoped(kind.kind).is_some(), "{}", kind.kind);
        }
        let ours = crds::all();
        assert!(ours.iter().all(|crd| ZTUNNEL.iter().any(|kind| {
            kind.kind == crd.spec.names.kind && kind.plural == crd.spec.names.plural && kind.is_ours()
        })));
        for scope in [Scope::Waypoint, Scope::Agent { node: "n".into() }, Scope::Authority] {
            let all = Scope::Ztunnel.resources();
            assert!(scope.resources().iter().all(|right| all.contains(right)), "{scope:?}");
        }
    }

    #[test]
    fn only_an_agent_asks_for_the_pods_of_one_node() {
        let agent = Scope::Agent { node: "node1".into() };
        assert_eq!(agent.fields(&PODS).as_deref(), Some("spec.nodeName=node1"));
        assert_eq!(agent.fields(&SERVICES), None);
        assert_eq!(Scope::Ztunnel.fields(&PODS), None);
    }

    #[test]
    fn a_waypoint_reads_neither_nodes_nor_network_policies() {
        let resources = Scope::Waypoint.resources();
        for kind in [NODES, NETWORK_POLICIES] {
            assert!(
                resources.iter().all(|right| right.resource != kind.plural),
                "{}",
                kind.plural
            );
        }
        assert_eq!(resources.len() + 2, Scope::Ztunnel.resources().len());
    }

    #[test]
    fn no_scope_reads_secrets_or_writes() {
        let agent = Scope::Agent { node: "n".into() };
        for scope in [Scope::Ztunnel, Scope::Waypoint, agent, Scope::Authority] {
            for right in scope.resources() {
                assert_ne!(right.resource, "secrets");
                assert_eq!(right.verbs, ["get", "list", "watch"]);
            }
        }
    }
}
