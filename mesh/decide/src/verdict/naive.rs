//! The evaluator the laws compare with: two-valued, everything known, nothing broken, no headers repeated.
//! Written from Istio's reference alone, as plainly as possible.

use std::net::{IpAddr, SocketAddr};

use super::Request;
use crate::model::{
    Action, Condition, ConditionKey, Identity, IpMatch, Operation, PolicySet, PortMatch, Rule, Source, StringMatch,
};

/// Everything about one request.
#[derive(Clone, Copy)]
pub(super) struct Whole<'a> {
    pub(super) peer: Option<&'a Identity>,
    pub(super) address: IpAddr,
    pub(super) destination: SocketAddr,
    pub(super) request: Request<'a>,
}

/// "If any DENY policy matches, deny. If there are no ALLOW policies, allow. If any ALLOW policy matches,
/// allow. Deny."
pub(super) fn allows(set: &PolicySet, whole: Whole<'_>) -> bool {
    let covers = |ports: &Option<std::sync::Arc<[u16]>>| match ports {
        Some(ports) => ports.contains(&whole.destination.port()),
        None => true,
    };
    let mut policies: Vec<_> = set.policies.iter().filter(|applied| covers(&applied.ports)).collect();
    policies.retain(|applied| !applied.policy.dry_run);
    let matches = |action: &[Action]| {
        policies
            .iter()
            .filter(|applied| action.contains(&applied.policy.action))
            .any(|applied| applied.policy.rules.iter().any(|rule| rule_matches(rule, whole)))
    };
    if matches(&[Action::Custom, Action::Deny]) {
        return false;
    }
    let no_allow = policies.iter().all(|applied| applied.policy.action != Action::Allow);
    no_allow || matches(&[Action::Allow])
}

fn rule_matches(rule: &Rule, whole: Whole<'_>) -> bool {
    (rule.from.is_empty() || rule.from.iter().any(|source| source_matches(source, whole)))
        && (rule.to.is_empty() || rule.to.iter().any(|operation| operation_matches(operation, whole)))
        && rule.when.iter().all(|condition| condition_matches(condition, whole))
}

fn source_matches(source: &Source, whole: Whole<'_>) -> bool {
    let principal = whole.peer.map(|peer| peer.to_string().replace("spiffe://", ""));
    let namespace = whole.peer.map(|peer| peer.namespace().to_owned());
    let account = whole
        .peer
        .map(|peer| format!("{}/{}", peer.namespace(), peer.service_account()));
    let domain = whole.peer.map(|peer| peer.trust_domain().to_owned());
    strings(&source.principals, &source.not_principals, principal)
        && strings(&source.namespaces, &source.not_namespaces, namespace)
        && strings(&source.service_accounts, &source.not_service_accounts, account)
        && strings(&source.trust_domains, &source.not_trust_domains, domain)
        && networks(&source.ip_blocks, &source.not_ip_blocks, whole.address)
        && networks(&source.remote_ip_blocks, &source.not_remote_ip_blocks, whole.address)
}

fn operation_matches(operation: &Operation, whole: Whole<'_>) -> bool {
    let host = |patterns: &[StringMatch]| patterns.iter().any(|pattern| host_matches(pattern, whole.request.host));
    let port = |ports: &[PortMatch]| ports.contains(&PortMatch::Is(whole.destination.port()));
    (operation.hosts.is_empty() || host(&operation.hosts))
        && !host(&operation.not_hosts)
        && (operation.ports.is_empty() || port(&operation.ports))
        && !port(&operation.not_ports)
        && strings(
            &operation.methods,
            &operation.not_methods,
            Some(whole.request.method.into()),
        )
        && strings(&operation.paths, &operation.not_paths, Some(whole.request.path.into()))
}

fn condition_matches(condition: &Condition, whole: Whole<'_>) -> bool {
    let value = match &condition.key {
        ConditionKey::SourceIp | ConditionKey::RemoteIp => {
            return networks(&condition.networks, &condition.not_networks, whole.address);
        }
        ConditionKey::DestinationIp => {
            return networks(&condition.networks, &condition.not_networks, whole.destination.ip());
        }
        ConditionKey::DestinationPort => Some(whole.destination.port().to_string()),
        ConditionKey::SourceNamespace => whole.peer.map(|peer| peer.namespace().to_owned()),
        ConditionKey::SourcePrincipal => whole.peer.map(|peer| peer.to_string().replace("spiffe://", "")),
        ConditionKey::SourceServiceAccount => whole
            .peer
            .map(|peer| format!("{}/{}", peer.namespace(), peer.service_account())),
        ConditionKey::RequestHeader(name) => whole
            .request
            .headers
            .get(&**name)
            .map(|value| value.to_str().unwrap().to_owned()),
        ConditionKey::Unsupported(_) => unreachable!("nothing broken comes here"),
    };
    strings(&condition.values, &condition.not_values, value)
}

fn strings(wanted: &[StringMatch], unwanted: &[StringMatch], value: Option<String>) -> bool {
    let any = |patterns: &[StringMatch]| {
        let value = value.as_deref();
        value.is_some_and(|value| patterns.iter().any(|pattern| string_matches(pattern, value)))
    };
    (wanted.is_empty() || any(wanted)) && !any(unwanted)
}

fn networks(wanted: &[IpMatch], unwanted: &[IpMatch], address: IpAddr) -> bool {
    let any = |networks: &[IpMatch]| {
        networks
            .iter()
            .any(|network| matches!(network, IpMatch::In(network) if network.contains(&address)))
    };
    (wanted.is_empty() || any(wanted)) && !any(unwanted)
}

fn string_matches(pattern: &StringMatch, value: &str) -> bool {
    let expression = match pattern {
        StringMatch::Exact(text) => regex::escape(text),
        StringMatch::Prefix(text) => regex::escape(text) + ".*",
        StringMatch::Suffix(text) => format!(".*{}", regex::escape(text)),
        StringMatch::Present => ".+".to_owned(),
        StringMatch::Template(text) => regex::escape(text)
            .replace(r"\{\*\*\}", ".*")
            .replace(r"\{\*\}", "[^/]+"),
        StringMatch::Broken(_) => unreachable!("nothing broken comes here"),
    };
    regex::Regex::new(&format!("^(?s:{expression})$"))
        .unwrap()
        .is_match(value)
}

/// Hosts as Istio matches them: in any case, with and without port.
fn host_matches(pattern: &StringMatch, host: &str) -> bool {
    let lower = |text: &std::sync::Arc<str>| std::sync::Arc::from(text.to_lowercase());
    let (pattern, text) = match pattern {
        StringMatch::Exact(text) => (StringMatch::Exact(lower(text)), text.clone()),
        StringMatch::Prefix(text) => (StringMatch::Prefix(lower(text)), text.clone()),
        StringMatch::Suffix(text) => (StringMatch::Suffix(lower(text)), text.clone()),
        other => (other.clone(), "".into()),
    };
    let names_port = text.contains(':');
    let name = host.split(':').next().unwrap();
    string_matches(&pattern, if names_port { host } else { name })
}
