//! Every line that a policy can hold about a connection: who matches it, who its not-form, and whose case is open.

use std::{net::SocketAddr, sync::Arc};

use super::{Client, Facts, Verdict, verdict};
use crate::model::{
    Action, AppliedPolicy, Condition, ConditionKey, Identity, IpMatch, ObjectRef, Operation, Policy, PolicySet,
    PortMatch, Rule, Source, StringMatch,
};

/// `shop/web` of our trust domain, `pay/web` of it, `shop/web` of another one, a client without identity; then
/// somebody behind a waypoint. Each with its address.
const CLIENTS: [(&str, &str); 4] = [
    ("cluster.local/ns/shop/sa/web", "10.0.0.1"),
    ("cluster.local/ns/pay/sa/web", "10.0.1.1"),
    ("partner.example/ns/shop/sa/web", "fd00::1"),
    ("", "10.0.0.9"),
];

/// For each client: `X` the rule matches, `-` it does not, `?` that cannot be said here.
fn matched(rule: &Rule) -> String {
    let by = |action| -> String {
        let policy = Policy {
            object: ObjectRef {
                kind: "AuthorizationPolicy".into(),
                namespace: "shop".into(),
                name: "line".into(),
            },
            action,
            rules: vec![rule.clone()],
            dry_run: false,
            broken: None,
        };
        let set = PolicySet {
            policies: vec![AppliedPolicy {
                policy: Arc::new(policy),
                ports: None,
            }],
            ..PolicySet::default()
        };
        let peers: Vec<Option<Identity>> = CLIENTS
            .iter()
            .map(|(principal, _)| format!("spiffe://{principal}").parse().ok())
            .collect();
        let known = CLIENTS.iter().zip(&peers).map(|((_, address), peer)| Client::Known {
            peer: peer.as_ref(),
            address: address.parse().expect("an address"),
        });
        let destination: SocketAddr = "10.9.0.1:8080".parse().expect("an address");
        known
            .chain([Client::BehindWaypoint])
            .map(|client| {
                let facts = Facts {
                    client,
                    destination,
                    request: None,
                };
                match (action, verdict(&set, &facts)) {
                    (Action::Allow, Verdict::Allow(Some(_))) | (Action::Deny, Verdict::Deny(_)) => 'X',
                    (_, Verdict::NeedsWaypoint(_)) => '?',
                    (Action::Allow, Verdict::Deny(_)) | (Action::Deny, Verdict::Allow(None)) => '-',
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    };
    let (allowed, denied) = (by(Action::Allow), by(Action::Deny));
    assert_eq!(
        allowed, denied,
        "a rule matches the same whatever it leads to: {rule:?}"
    );
    allowed
}

fn string(text: &str) -> StringMatch {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        (Some(""), _) => StringMatch::Present,
        (Some(suffix), _) => StringMatch::Suffix(suffix.into()),
        (None, Some(prefix)) => StringMatch::Prefix(prefix.into()),
        (None, None) => StringMatch::Exact(text.into()),
    }
}

fn network(text: &str) -> IpMatch {
    IpMatch::In(text.parse().expect("a network"))
}

fn from(set: impl Fn(&mut Source)) -> Rule {
    let mut source = Source::default();
    set(&mut source);
    Rule {
        from: vec![source],
        ..Rule::default()
    }
}

fn when(key: ConditionKey, values: &[&str], not_values: &[&str]) -> Rule {
    let addresses = matches!(
        key,
        ConditionKey::SourceIp | ConditionKey::RemoteIp | ConditionKey::DestinationIp
    );
    let strings = |texts: &[&str]| match addresses {
        true => Vec::new(),
        false => texts.iter().map(|text| string(text)).collect(),
    };
    let networks = |texts: &[&str]| match addresses {
        true => texts.iter().map(|text| network(text)).collect(),
        false => Vec::new(),
    };
    Rule {
        when: vec![Condition {
            values: strings(values),
            not_values: strings(not_values),
            networks: networks(values),
            not_networks: networks(not_values),
            key,
        }],
        ..Rule::default()
    }
}

/// A list that a rule may hold, filled with one pattern.
type Line = fn(&str) -> Rule;

const PRINCIPALS: [Line; 2] = [
    |it| from(|source| source.principals.push(string(it))),
    |it| from(|source| source.not_principals.push(string(it))),
];
const NAMESPACES: [Line; 2] = [
    |it| from(|source| source.namespaces.push(string(it))),
    |it| from(|source| source.not_namespaces.push(string(it))),
];
const SERVICE_ACCOUNTS: [Line; 2] = [
    |it| from(|source| source.service_accounts.push(string(it))),
    |it| from(|source| source.not_service_accounts.push(string(it))),
];
const TRUST_DOMAINS: [Line; 2] = [
    |it| from(|source| source.trust_domains.push(string(it))),
    |it| from(|source| source.not_trust_domains.push(string(it))),
];
const IP_BLOCKS: [Line; 2] = [
    |it| from(|source| source.ip_blocks.push(network(it))),
    |it| from(|source| source.not_ip_blocks.push(network(it))),
];
const REMOTE_IP_BLOCKS: [Line; 2] = [
    |it| from(|source| source.remote_ip_blocks.push(network(it))),
    |it| from(|source| source.not_remote_ip_blocks.push(network(it))),
];
const SOURCE_PRINCIPAL: [Line; 2] = [
    |it| when(ConditionKey::SourcePrincipal, &[it], &[]),
    |it| when(ConditionKey::SourcePrincipal, &[], &[it]),
];
const SOURCE_NAMESPACE: [Line; 2] = [
    |it| when(ConditionKey::SourceNamespace, &[it], &[]),
    |it| when(ConditionKey::SourceNamespace, &[], &[it]),
];
const SOURCE_SERVICE_ACCOUNT: [Line; 2] = [
    |it| when(ConditionKey::SourceServiceAccount, &[it], &[]),
    |it| when(ConditionKey::SourceServiceAccount, &[], &[it]),
];
const SOURCE_IP: [Line; 2] = [
    |it| when(ConditionKey::SourceIp, &[it], &[]),
    |it| when(ConditionKey::SourceIp, &[], &[it]),
];
const REMOTE_IP: [Line; 2] = [
    |it| when(ConditionKey::RemoteIp, &[it], &[]),
    |it| when(ConditionKey::RemoteIp, &[], &[it]),
];
const DESTINATION_IP: [Line; 2] = [
    |it| when(ConditionKey::DestinationIp, &[it], &[]),
    |it| when(ConditionKey::DestinationIp, &[], &[it]),
];
const DESTINATION_PORT: [Line; 2] = [
    |it| when(ConditionKey::DestinationPort, &[it], &[]),
    |it| when(ConditionKey::DestinationPort, &[], &[it]),
];
const PORTS: [Line; 2] = [
    |it| to(|operation| operation.ports.push(PortMatch::Is(it.parse().expect("a port")))),
    |it| to(|operation| operation.not_ports.push(PortMatch::Is(it.parse().expect("a port")))),
];

fn to(set: impl Fn(&mut Operation)) -> Rule {
    let mut operation = Operation::default();
    set(&mut operation);
    Rule {
        to: vec![operation],
        ..Rule::default()
    }
}

#[test]
fn every_line_about_a_connection_matches_whom_it_names_and_its_not_form_everybody_else() {
    let table: &[(&[[Line; 2]], &str, &str, &str)] = &[
        (
            &[PRINCIPALS, SOURCE_PRINCIPAL],
            "cluster.local/ns/shop/sa/web",
            "X---?",
            "-XXX?",
        ),
        (&[PRINCIPALS, SOURCE_PRINCIPAL], "cluster.local/ns/*", "XX--?", "--XX?"),
        (&[PRINCIPALS, SOURCE_PRINCIPAL], "*/ns/shop/sa/web", "X-X-?", "-X-X?"),
        (&[PRINCIPALS, SOURCE_PRINCIPAL], "*", "XXX-?", "---X?"),
        (&[NAMESPACES, SOURCE_NAMESPACE], "shop", "X-X-?", "-X-X?"),
        (&[NAMESPACES, SOURCE_NAMESPACE], "sh*", "X-X-?", "-X-X?"),
        (&[NAMESPACES, SOURCE_NAMESPACE], "*ay", "-X--?", "X-XX?"),
        (&[NAMESPACES, SOURCE_NAMESPACE], "*", "XXX-?", "---X?"),
        (&[SERVICE_ACCOUNTS, SOURCE_SERVICE_ACCOUNT], "pay/web", "-X--?", "X-XX?"),
        (&[SERVICE_ACCOUNTS, SOURCE_SERVICE_ACCOUNT], "shop/*", "X-X-?", "-X-X?"),
        (&[SERVICE_ACCOUNTS, SOURCE_SERVICE_ACCOUNT], "*/web", "XXX-?", "---X?"),
        (&[SERVICE_ACCOUNTS, SOURCE_SERVICE_ACCOUNT], "*", "XXX-?", "---X?"),
        (&[TRUST_DOMAINS], "cluster.local", "XX--?", "--XX?"),
        (&[TRUST_DOMAINS], "cluster*", "XX--?", "--XX?"),
        (&[TRUST_DOMAINS], "*.example", "--X-?", "XX-X?"),
        (&[TRUST_DOMAINS], "*", "XXX-?", "---X?"),
        (
            &[IP_BLOCKS, REMOTE_IP_BLOCKS, SOURCE_IP, REMOTE_IP],
            "10.0.0.0/24",
            "X--X?",
            "-XX-?",
        ),
        (
            &[IP_BLOCKS, REMOTE_IP_BLOCKS, SOURCE_IP, REMOTE_IP],
            "10.0.1.1/32",
            "-X--?",
            "X-XX?",
        ),
        (
            &[IP_BLOCKS, REMOTE_IP_BLOCKS, SOURCE_IP, REMOTE_IP],
            "fd00::/8",
            "--X-?",
            "XX-X?",
        ),
        (
            &[IP_BLOCKS, REMOTE_IP_BLOCKS, SOURCE_IP, REMOTE_IP],
            "0.0.0.0/0",
            "XX-X?",
            "--X-?",
        ),
        (&[DESTINATION_IP], "10.9.0.0/16", "XXXXX", "-----"),
        (&[DESTINATION_IP], "10.8.0.0/16", "-----", "XXXXX"),
        (&[PORTS, DESTINATION_PORT], "8080", "XXXXX", "-----"),
        (&[PORTS, DESTINATION_PORT], "80", "-----", "XXXXX"),
    ];
    for (lines, pattern, wanted, unwanted) in table {
        for (at, [line, not]) in lines.iter().enumerate() {
            assert_eq!(matched(&line(pattern)), *wanted, "{pattern}, list {at}");
            assert_eq!(matched(&not(pattern)), *unwanted, "not {pattern}, list {at}");
        }
    }
}

#[test]
fn within_a_list_any_counts_and_of_lists_all() {
    let two = from(|source| source.namespaces = vec![string("pay"), string("shop")]);
    assert_eq!(matched(&two), "XXX-?");
    let both = from(|source| {
        source.namespaces.push(string("shop"));
        source.trust_domains.push(string("cluster.local"));
    });
    assert_eq!(matched(&both), "X---?");
    let but = from(|source| {
        source.namespaces.push(string("shop"));
        source.not_principals.push(string("partner.example/*"));
    });
    assert_eq!(matched(&but), "X---?");
    let or = Rule {
        from: [PRINCIPALS[0]("cluster.local/ns/pay/sa/web"), IP_BLOCKS[0]("fd00::/8")]
            .into_iter()
            .flat_map(|rule| rule.from)
            .collect(),
        ..Rule::default()
    };
    assert_eq!(matched(&or), "-XX-?");
    let and = Rule {
        when: SOURCE_NAMESPACE[0]("shop").when,
        ..IP_BLOCKS[0]("10.0.0.0/8")
    };
    assert_eq!(matched(&and), "X---?");
    let elsewhere = Rule {
        to: PORTS[0]("80").to,
        ..PRINCIPALS[0]("*")
    };
    assert_eq!(
        matched(&elsewhere),
        "-----",
        "what is false for everybody is false behind a waypoint too"
    );
}
