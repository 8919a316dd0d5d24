//! NetworkPolicies that admit an application's ports but not 15008, on which captured pods talk. Pure.
//!
//! Policies add up: a pod that any policy selects for a direction is isolated in it, and what any of them admits is
//! admitted. So a rule is a trap when it admits a port to or from captured pods for which no rule over the same pods
//! admits 15008: their packets now carry 15008, and are dropped. What lies outside the mesh keeps using the port.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::{
    api::{
        core::v1::Pod,
        networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use crate::finding::{Finding, names};

const CHECK: &str = "NetworkPolicies";
/// Where captured pods talk.
const HBONE: i32 = 15008;

/// A way packets take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    Ingress,
    Egress,
}

/// One rule, of either direction.
#[derive(Debug, Clone, Copy)]
struct Rule<'p> {
    policy: &'p NetworkPolicy,
    index: usize,
    ports: &'p [NetworkPolicyPort],
    /// From or to whom; empty: everybody.
    peers: &'p [NetworkPolicyPeer],
}

/// The pods that are, or are to be, captured, and the labels of namespaces.
pub(super) struct Meshed<'p> {
    pub(super) pods: Vec<&'p Pod>,
    pub(super) namespaces: BTreeMap<&'p str, &'p BTreeMap<String, String>>,
}

/// What the policies of enabled namespaces do to the pods there.
pub(super) fn judge(policies: &[NetworkPolicy], meshed: &Meshed<'_>) -> Vec<Finding> {
    let mut trapped: BTreeMap<(String, Direction, usize), BTreeSet<String>> = BTreeMap::new();
    for pod in &meshed.pods {
        let own: Vec<_> = policies.iter().filter(|policy| selects(policy, pod)).collect();
        for direction in [Direction::Ingress, Direction::Egress] {
            for rule in traps(&own, pod, direction, meshed) {
                let key = (name(rule.policy), direction, rule.index);
                let pod = pod.metadata.name.clone().unwrap_or_default();
                trapped.entry(key).or_default().insert(pod);
            }
        }
    }
    if trapped.is_empty() {
        let what = match policies.len() {
            0 => "none in enabled namespaces".to_owned(),
            count => format!("{count} in enabled namespaces, none keeps captured pods from port {HBONE}"),
        };
        return vec![Finding::ok(CHECK, what)];
    }
    let finding = |((policy, direction, index), pods): (&(String, Direction, usize), &BTreeSet<String>)| {
        let (field, whose) = match direction {
            Direction::Ingress => ("ingress", "towards"),
            Direction::Egress => ("egress", "from"),
        };
        Finding::fail(
            CHECK,
            format!(
                "NetworkPolicy {policy} spec.{field}[{index}] admits ports but not {HBONE}, on which captured pods talk, \
                 so connections {whose} {} time out; add TCP port {HBONE} to that rule, and say who may reach which port \
                 in an AuthorizationPolicy",
                names(pods)
            ),
        )
    };
    trapped.iter().map(finding).collect()
}

impl Meshed<'_> {
    /// Whether a peer of a policy's rule may be a pod of the mesh.
    fn holds(&self, peer: &NetworkPolicyPeer, policy: &NetworkPolicy) -> bool {
        self.pods.iter().any(|pod| {
            let block = peer
                .ip_block
                .as_ref()
                .map(|block| addresses(pod).any(|it| within(&block.cidr, it)));
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let here = match &peer.namespace_selector {
                None => policy.metadata.namespace.as_deref() == Some(namespace),
                Some(selector) => self
                    .namespaces
                    .get(namespace)
                    .is_some_and(|labels| matches(selector, labels)),
            };
            let chosen = || {
                peer.pod_selector
                    .as_ref()
                    .is_none_or(|selector| matches(selector, labels(pod)))
            };
            block.unwrap_or_else(|| here && chosen())
        })
    }
}

fn addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    ips.filter_map(|ip| ip.ip.parse().ok())
}

/// Whether a range holds an address; one we cannot read might.
fn within(cidr: &str, address: IpAddr) -> bool {
    cidr.parse::<IpNet>().map_or(true, |range| range.contains(&address))
}

fn labels(pod: &Pod) -> &BTreeMap<String, String> {
    static NONE: BTreeMap<String, String> = BTreeMap::new();
    pod.metadata.labels.as_ref().unwrap_or(&NONE)
}

/// Rules that admit some TCP port, but 15008 for the same peers neither themselves nor with the others' help.
fn traps<'p>(own: &[&'p NetworkPolicy], pod: &Pod, direction: Direction, meshed: &Meshed<'_>) -> Vec<Rule<'p>> {
    let rules: Vec<_> = own.iter().flat_map(|policy| rules(policy, direction)).collect();
    let admits_hbone =
        |rule: &Rule<'_>| rule.ports.is_empty() || rule.ports.iter().any(|port| admits(port, pod, direction));
    let open: Vec<_> = rules.iter().filter(|rule| admits_hbone(rule)).copied().collect();
    let helped = |rule: &Rule<'_>| {
        open.iter().any(|other| {
            other.peers.is_empty()
                || (!rule.peers.is_empty() && rule.peers.iter().all(|peer| other.peers.contains(peer)))
        })
    };
    let admits_tcp = |rule: &Rule<'_>| rule.ports.iter().any(is_tcp);
    rules
        .into_iter()
        .filter(|rule| admits_tcp(rule) && !helped(rule))
        .filter(|rule| rule.peers.is_empty() || rule.peers.iter().any(|peer| meshed.holds(peer, rule.policy)))
        // Name lookups are no business of the mesh's.
        .filter(|rule| direction == Direction::Ingress || !rule.ports.iter().all(is_dns))
        .collect()
}

fn rules(policy: &NetworkPolicy, direction: Direction) -> Vec<Rule<'_>> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let says = |kind: &str| types.iter().any(|it| it == kind);
    match direction {
        // Without types a policy is about ingress, and about egress where it has rules for it.
        Direction::Ingress if types.is_empty() || says("Ingress") => {
            let all = spec.ingress.as_deref().unwrap_or_default().iter().enumerate();
            all.map(|(index, rule)| Rule {
                policy,
                index,
                ports: rule.ports.as_deref().unwrap_or_default(),
                peers: rule.from.as_deref().unwrap_or_default(),
            })
            .collect()
        }
        Direction::Egress if types.is_empty() || says("Egress") => {
            let all = spec.egress.as_deref().unwrap_or_default().iter().enumerate();
            all.map(|(index, rule)| Rule {
                policy,
                index,
                ports: rule.ports.as_deref().unwrap_or_default(),
                peers: rule.to.as_deref().unwrap_or_default(),
            })
            .collect()
        }
        Direction::Ingress | Direction::Egress => Vec::new(),
    }
}

/// Whether a port of a rule is 15008. A name is that of a port of the pod the packets go to: for ingress this one.
fn admits(port: &NetworkPolicyPort, pod: &Pod, direction: Direction) -> bool {
    if !is_tcp(port) {
        return false;
    }
    match (&port.port, port.end_port) {
        (None, _) => true,
        (Some(IntOrString::Int(first)), last) => (*first..=last.unwrap_or(*first)).contains(&HBONE),
        (Some(IntOrString::String(name)), _) if direction == Direction::Ingress => {
            let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
            let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
            ports.any(|port| port.name.as_ref() == Some(name) && port.container_port == HBONE)
        }
        (Some(IntOrString::String(_)), _) => false,
    }
}

fn is_tcp(port: &NetworkPolicyPort) -> bool {
    port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP")
}

fn is_dns(port: &NetworkPolicyPort) -> bool {
    port.port == Some(IntOrString::Int(53)) && port.end_port.is_none()
}

fn selects(policy: &NetworkPolicy, pod: &Pod) -> bool {
    let same_namespace = policy.metadata.namespace == pod.metadata.namespace;
    let selector = policy.spec.as_ref().and_then(|spec| spec.pod_selector.as_ref());
    same_namespace && selector.is_none_or(|selector| matches(selector, labels(pod)))
}

/// Whether labels are as a selector wants them. One we do not understand selects: better one warning too many.
fn matches(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector
        .match_labels
        .iter()
        .flatten()
        .all(|(key, value)| labels.get(key) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|wanted| {
            let found = labels.get(&wanted.key);
            let listed = || found.is_some_and(|value| wanted.values.iter().flatten().any(|it| it == value));
            match wanted.operator.as_str() {
                "In" => listed(),
                "NotIn" => !listed(),
                "Exists" => found.is_some(),
                "DoesNotExist" => found.is_none(),
                _ => true,
            }
        })
}

fn name(policy: &NetworkPolicy) -> String {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    format!("{}/{}", text(&policy.metadata.namespace), text(&policy.metadata.name))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn client() -> Pod {
        let pod = json!({ "metadata": { "name": "client", "namespace": "shop", "labels": { "app": "client" } },
            "status": { "podIPs": [{ "ip": "10.0.0.7" }] } });
        serde_json::from_value(pod).expect("a pod")
    }

    fn judged(policies: &[NetworkPolicy]) -> Vec<Finding> {
        let (pod, client, labels) = (pod(), client(), BTreeMap::from([("team".into(), "a".into())]));
        let meshed = Meshed {
            pods: vec![&pod, &client],
            namespaces: BTreeMap::from([("shop", &labels)]),
        };
        judge(policies, &meshed)
    }

    fn pod() -> Pod {
        let pod = json!({ "metadata": { "name": "web-1", "namespace": "shop", "labels": { "app": "web" } },
            "spec": { "containers": [{ "name": "c", "ports": [
                { "name": "http", "containerPort": 8080 }, { "name": "hbone", "containerPort": 15008 }] }] } });
        serde_json::from_value(pod).expect("a pod")
    }

    fn policy(name: &str, spec: Value) -> NetworkPolicy {
        let policy = json!({ "metadata": { "name": name, "namespace": "shop" }, "spec": spec });
        serde_json::from_value(policy).expect("a policy")
    }

    /// The fields found to be traps.
    fn found(specs: &[Value]) -> Vec<String> {
        let policies: Vec<_> = specs.iter().map(|spec| policy("p", spec.clone())).collect();
        let findings = judged(&policies);
        let field = |finding: &Finding| finding.what.split(' ').nth(2).map(str::to_owned);
        findings
            .iter()
            .filter(|it| it.result == crate::finding::Severity::Fail)
            .filter_map(field)
            .collect()
    }

    fn ingress(rules: Value) -> Value {
        json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": rules })
    }

    #[test]
    fn a_rule_that_admits_ports_but_not_15008_is_named() {
        let client = json!([{ "podSelector": { "matchLabels": { "app": "client" } } }]);
        let web = json!([{ "podSelector": { "matchLabels": { "app": "web" } } }]);
        for rules in [
            json!([{ "ports": [{ "port": 8080 }] }]),
            json!([{ "ports": [{ "port": "http" }], "from": client }]),
            json!([{ "ports": [{ "port": 8080, "endPort": 9000 }] }]),
            json!([{ "ports": [{ "port": 15008, "protocol": "UDP" }, { "port": 80 }] }]),
            json!([{ "ports": [{ "port": 8080 }], "from": client }, { "ports": [{ "port": 15008 }], "from": web }]),
        ] {
            assert_eq!(found(&[ingress(rules.clone())]), ["spec.ingress[0]"], "{rules}");
        }
    }

    #[test]
    fn a_rule_that_admits_15008_or_nothing_is_no_trap() {
        let client = json!([{ "podSelector": { "matchLabels": { "app": "client" } } }]);
        for rules in [
            json!([{ "ports": [{ "port": 8080 }], "from": client }, { "ports": [{ "port": 15008 }], "from": client }]),
            json!([{ "ports": [{ "port": 8080 }], "from": client }, { "ports": [{ "port": 15008 }] }]),
            json!([{ "ports": [{ "port": 8080 }, { "port": 15008 }] }]),
            json!([{ "ports": [{ "port": 8080 }, { "port": "hbone" }] }]),
            json!([{ "ports": [{ "port": 8080, "endPort": 16000 }] }]),
            json!([{ "ports": [{ "protocol": "TCP" }] }]),
            json!([{ "ports": [{ "port": 53, "protocol": "UDP" }] }]),
            json!([{ "from": client }]),
            json!([]),
        ] {
            assert_eq!(found(&[ingress(rules.clone())]), [""; 0], "{rules}");
        }
        let rule = json!([{ "ports": [{ "port": 8080 }] }]);
        let not_web = json!([{ "key": "app", "operator": "NotIn", "values": ["web", "client"] }]);
        for spec in [
            json!({ "podSelector": { "matchLabels": { "app": "other" } }, "ingress": rule }),
            json!({ "podSelector": { "matchExpressions": not_web }, "ingress": rule }),
            json!({ "podSelector": {}, "policyTypes": ["Egress"], "ingress": rule }),
        ] {
            assert_eq!(found(std::slice::from_ref(&spec)), [""; 0], "{spec}");
        }
    }

    #[test]
    fn a_rule_for_peers_outside_the_mesh_is_none_of_its_business() {
        let from = |peer: Value| {
            let rule = json!({ "ports": [{ "port": 8080 }], "from": [peer] });
            let spec = json!({ "podSelector": { "matchLabels": { "app": "web" } }, "ingress": [rule] });
            found(&[spec]).len()
        };
        for (peer, traps) in [
            (json!({ "podSelector": { "matchLabels": { "app": "client" } } }), 1),
            (json!({ "podSelector": { "matchLabels": { "app": "nobody" } } }), 0),
            (json!({ "namespaceSelector": { "matchLabels": { "team": "a" } } }), 1),
            (
                json!({ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }),
                0,
            ),
            (
                json!({ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "client" } } }),
                1,
            ),
            (json!({ "ipBlock": { "cidr": "10.0.0.0/8" } }), 1),
            (json!({ "ipBlock": { "cidr": "192.0.2.0/24" } }), 0),
        ] {
            assert_eq!(from(peer.clone()), traps, "{peer}");
        }
    }

    #[test]
    fn what_one_policy_keeps_out_another_may_admit() {
        let app = json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": 8080 }] }] });
        let hbone = json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": 15008 }] }] });
        assert_eq!(found(std::slice::from_ref(&app)).len(), 1);
        assert!(found(&[app, hbone]).is_empty());
    }

    #[test]
    fn a_client_must_be_let_out_to_15008_too_but_names_may_be_looked_up_without() {
        let egress =
            |ports: Value| json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{ "ports": ports }] });
        assert_eq!(found(&[egress(json!([{ "port": 8080 }]))]), ["spec.egress[0]"]);
        assert!(found(&[egress(json!([{ "port": 8080 }, { "port": 15008 }]))]).is_empty());
        assert!(
            found(&[egress(
                json!([{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }])
            )])
            .is_empty()
        );
    }

    #[test]
    fn policies_of_other_namespaces_do_not_concern_a_pod() {
        let mut other = policy(
            "p",
            json!({ "podSelector": {}, "ingress": [{ "ports": [{ "port": 8080 }] }] }),
        );
        other.metadata.namespace = Some("elsewhere".into());
        let findings = judged(&[other]);
        assert!(findings[0].what.starts_with("1 in enabled"), "{findings:?}");
    }
}
