use std::time::{Duration, SystemTime};

use decide::model::{Condition, IpMatch, StringMatch};

use super::*;
use crate::config::Object;

fn read(spec: &str) -> CompiledPolicy {
    let yaml = format!(
        "{{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: p, namespace: shop}}, spec: {spec}}}"
    );
    let value = serde_yaml::from_str(&yaml).expect("YAML");
    match Object::parse(&value) {
        Ok(Some(Object::AuthorizationPolicy(written))) => compile(object(), &written),
        other => panic!("{other:?}"),
    }
}

fn object() -> ObjectRef {
    ObjectRef {
        kind: "AuthorizationPolicy".into(),
        namespace: "shop".into(),
        name: "p".into(),
    }
}

fn fields(compiled: &CompiledPolicy) -> Vec<&str> {
    compiled.found.iter().map(|it| it.field.as_str()).collect()
}

#[test]
fn a_whole_policy_is_read() {
    let compiled = read(
        "{selector: {matchLabels: {app: web}}, action: DENY, dryRun: true, rules: [{
            from: [{source: {principals: [cluster.local/ns/shop/sa/web], notNamespaces: [other*], serviceAccounts: [web, x/y],
                             ipBlocks: [10.0.0.0/8], trustDomains: ['*']}}],
            to: [{operation: {hosts: [shop.example], ports: ['8080', 90], methods: [GET], notPaths: [/public/*, '/{*}/x']}}],
            when: [{key: 'request.headers[X-User]', values: [a*]}, {key: source.ip, notValues: [10.1.1.1]},
                   {key: destination.port, values: ['80']}]}]}",
    );
    assert!(compiled.found.is_empty(), "{:?}", compiled.found);
    let exact = |text: &str| StringMatch::Exact(text.into());
    let policy = &compiled.policy;
    assert_eq!(
        (policy.action, policy.dry_run, &policy.broken),
        (Action::Deny, true, &None)
    );
    let rule = &policy.rules[0];
    let source = &rule.from[0];
    assert_eq!(source.principals, [exact("cluster.local/ns/shop/sa/web")]);
    assert_eq!(source.not_namespaces, [StringMatch::Prefix("other".into())]);
    assert_eq!(source.service_accounts, [exact("shop/web"), exact("x/y")]);
    assert_eq!(source.ip_blocks, [IpMatch::In("10.0.0.0/8".parse().unwrap())]);
    assert_eq!(source.trust_domains, [StringMatch::Present]);
    let operation = &rule.to[0];
    assert_eq!(operation.ports, [PortMatch::Is(8080), PortMatch::Is(90)]);
    assert_eq!(
        operation.not_paths,
        [
            StringMatch::Prefix("/public/".into()),
            StringMatch::Template("/{*}/x".into())
        ]
    );
    assert_eq!(rule.when[0].key, ConditionKey::RequestHeader("x-user".into()));
    assert_eq!(rule.when[1].not_networks, [IpMatch::In("10.1.1.1/32".parse().unwrap())]);
    assert_eq!(rule.when[2].values, [exact("80")]);
    assert_eq!(
        compiled.http_rules,
        [HttpRule {
            index: 0,
            ports: Some(BTreeSet::from([90, 8080]))
        }]
    );
}

#[test]
fn every_list_of_a_rule_is_read_into_its_own() {
    type Strings = (&'static str, fn(&Rule) -> &Vec<StringMatch>);
    let sources: [Strings; 10] = [
        ("principals", |rule| &rule.from[0].principals),
        ("notPrincipals", |rule| &rule.from[0].not_principals),
        ("requestPrincipals", |rule| &rule.from[0].request_principals),
        ("notRequestPrincipals", |rule| &rule.from[0].not_request_principals),
        ("namespaces", |rule| &rule.from[0].namespaces),
        ("notNamespaces", |rule| &rule.from[0].not_namespaces),
        ("serviceAccounts", |rule| &rule.from[0].service_accounts),
        ("notServiceAccounts", |rule| &rule.from[0].not_service_accounts),
        ("trustDomains", |rule| &rule.from[0].trust_domains),
        ("notTrustDomains", |rule| &rule.from[0].not_trust_domains),
    ];
    type Networks = (&'static str, fn(&Rule) -> &Vec<IpMatch>);
    let networks: [Networks; 4] = [
        ("ipBlocks", |rule| &rule.from[0].ip_blocks),
        ("notIpBlocks", |rule| &rule.from[0].not_ip_blocks),
        ("remoteIpBlocks", |rule| &rule.from[0].remote_ip_blocks),
        ("notRemoteIpBlocks", |rule| &rule.from[0].not_remote_ip_blocks),
    ];
    let read = |rule: String| read(&format!("{{rules: [{rule}]}}")).policy.rules[0].clone();
    let forms = ["abc", "ab*", "*bc", "*"];
    let as_read = [
        StringMatch::Exact("abc".into()),
        StringMatch::Prefix("ab".into()),
        StringMatch::Suffix("bc".into()),
        StringMatch::Present,
    ];
    for (field, of) in &sources {
        // Service accounts are written out, and mean the policy's own namespace.
        let (written, as_read) = match field.to_lowercase().contains("serviceaccounts") {
            true => (&forms[..1], vec![StringMatch::Exact("shop/abc".into())]),
            false => (&forms[..], as_read.to_vec()),
        };
        let rule = read(format!("{{from: [{{source: {{{field}: {written:?}}}}}]}}"));
        assert_eq!(*of(&rule), as_read, "{field}");
        let mut others = sources.iter().filter(|(other, _)| other != field);
        assert!(others.all(|(_, of)| of(&rule).is_empty()), "{field}: {rule:?}");
    }
    for (field, of) in &networks {
        let rule = read(format!(
            "{{from: [{{source: {{{field}: [10.0.0.0/8, 10.1.2.3, 'fd00::/8']}}}}]}}"
        ));
        let written = ["10.0.0.0/8", "10.1.2.3/32", "fd00::/8"].map(|it| IpMatch::In(it.parse().unwrap()));
        assert_eq!(of(&rule)[..], written, "{field}");
        let mut others = networks.iter().filter(|(other, _)| other != field);
        assert!(others.all(|(_, of)| of(&rule).is_empty()), "{field}: {rule:?}");
    }
    let ports = &read("{to: [{operation: {ports: ['80'], notPorts: ['90']}}]}".into()).to[0];
    assert_eq!(
        (&ports.ports[..], &ports.not_ports[..]),
        (&[PortMatch::Is(80)][..], &[PortMatch::Is(90)][..])
    );
}

#[test]
fn every_condition_about_a_connection_is_read() {
    for (key, read_as, value) in [
        ("source.ip", ConditionKey::SourceIp, "10.0.0.0/8"),
        ("remote.ip", ConditionKey::RemoteIp, "10.0.0.0/8"),
        ("destination.ip", ConditionKey::DestinationIp, "10.0.0.0/8"),
        ("source.namespace", ConditionKey::SourceNamespace, "shop"),
        (
            "source.principal",
            ConditionKey::SourcePrincipal,
            "cluster.local/ns/a/sa/b",
        ),
        ("source.serviceAccount", ConditionKey::SourceServiceAccount, "shop/web"),
        ("destination.port", ConditionKey::DestinationPort, "80"),
    ] {
        let condition = |list: &str| {
            let compiled = read(&format!("{{rules: [{{when: [{{key: {key}, {list}: ['{value}']}}]}}]}}"));
            assert!(compiled.found.is_empty(), "{key}: {:?}", compiled.found);
            compiled.policy.rules[0].when[0].clone()
        };
        let (positive, negative) = (condition("values"), condition("notValues"));
        assert_eq!((&positive.key, &negative.key), (&read_as, &read_as));
        let counts = |it: &Condition| {
            (
                it.values.len() + it.networks.len(),
                it.not_values.len() + it.not_networks.len(),
            )
        };
        assert_eq!((counts(&positive), counts(&negative)), ((1, 0), (0, 1)), "{key}");
    }
}

#[test]
fn a_spec_nobody_understands_refuses_everything_it_covers() {
    for (spec, field) in [
        ("{ruels: [{}]}", "spec.ruels"),
        ("{action: ALOW, rules: [{}]}", "spec.action"),
        ("{action: allow, rules: [{}]}", "spec.action"),
        ("{action: null, rules: [{}]}", "spec.action"),
        ("{dryRun: maybe, rules: [{}]}", "spec.dryRun"),
        ("{rules: {}}", "spec.rules"),
        ("{rules: null}", "spec.rules"),
        ("{dryRun: true, extra: 1, rules: [{}]}", "spec.extra"),
    ] {
        let compiled = read(spec);
        assert_eq!(compiled.policy.broken.as_deref(), Some(field), "{spec}");
        assert_eq!(fields(&compiled), [field], "{spec}");
        assert!(
            compiled.found[0].what.contains("refuses everything it covers"),
            "{}",
            compiled.found[0].what
        );
    }
}

#[test]
fn a_part_of_a_rule_nobody_understands_is_broken_where_it_stands() {
    type Broken = fn(&Policy) -> Option<Arc<str>>;
    let rule: Broken = |policy| policy.rules[0].broken.clone();
    let source: Broken = |policy| policy.rules[0].from[0].broken.clone();
    let operation: Broken = |policy| policy.rules[0].to[0].broken.clone();
    let table: &[(&str, &str, Broken)] = &[
        ("{form: []}", "spec.rules[0].form", rule),
        ("7", "spec.rules[0]", rule),
        ("null", "spec.rules[0]", rule),
        ("{from: []}", "spec.rules[0].from", rule),
        ("{from: null}", "spec.rules[0].from", rule),
        ("{to: {}}", "spec.rules[0].to", rule),
        ("{when: []}", "spec.rules[0].when", rule),
        ("{from: [{sorce: {}}]}", "spec.rules[0].from[0].sorce", source),
        ("{from: [{}]}", "spec.rules[0].from[0]", source),
        ("{from: [7]}", "spec.rules[0].from[0]", source),
        ("{from: [{source: {}}]}", "spec.rules[0].from[0].source", source),
        ("{from: [{source: null}]}", "spec.rules[0].from[0].source", source),
        (
            "{from: [{source: {namespaces: [a], principal: [b]}}]}",
            "spec.rules[0].from[0].source.principal",
            source,
        ),
        (
            "{from: [{source: {namespaces: [a]}, extra: 1}]}",
            "spec.rules[0].from[0].extra",
            source,
        ),
        (
            "{to: [{operation: {method: [GET]}}]}",
            "spec.rules[0].to[0].operation.method",
            operation,
        ),
        (
            "{to: [{operations: {methods: [GET]}}]}",
            "spec.rules[0].to[0].operations",
            operation,
        ),
    ];
    for (written, field, broken) in table {
        for (action, consequence) in [
            ("ALLOW", "never matches and allows nothing"),
            ("DENY", "always matches and refuses"),
        ] {
            let compiled = read(&format!("{{action: {action}, rules: [{written}]}}"));
            assert_eq!(broken(&compiled.policy).as_deref(), Some(*field), "{written}");
            assert_eq!(compiled.policy.broken, None);
            assert_eq!(fields(&compiled), [*field], "{written}");
            assert!(
                compiled.found[0].what.contains(consequence),
                "{}",
                compiled.found[0].what
            );
        }
    }
}

#[test]
fn a_value_nobody_understands_is_broken_among_those_that_are_understood() {
    let first = |list: &str| format!("{{rules: [{{from: [{{source: {{{list}}}}}]}}]}}");
    let compiled = read(&first("ipBlocks: [10.0.0.0/8, 10.0.0.0/99]"));
    let blocks = &compiled.policy.rules[0].from[0].ip_blocks;
    assert!(matches!(&blocks[..], [IpMatch::In(_), IpMatch::Broken(text)] if &**text == "10.0.0.0/99"));
    assert_eq!(fields(&compiled), ["spec.rules[0].from[0].source.ipBlocks[1]"]);
    for list in [
        "principals: []",
        "principals: null",
        "principals: a",
        "principals: [[]]",
        "principals: ['']",
        "notNamespaces: [a*b]",
        "remoteIpBlocks: ['']",
    ] {
        let compiled = read(&first(list));
        let source = &compiled.policy.rules[0].from[0];
        let broken = |list: &[StringMatch]| matches!(list, [StringMatch::Broken(_)]);
        let addresses = matches!(&source.remote_ip_blocks[..], [IpMatch::Broken(_)]);
        assert!(
            broken(&source.principals) || broken(&source.not_namespaces) || addresses,
            "{list}"
        );
        assert_eq!(compiled.found.len(), 1);
    }
    let compiled = read("{rules: [{to: [{operation: {ports: [http, 70000, -1, 1.5]}}]}]}");
    let ports = &compiled.policy.rules[0].to[0].ports;
    assert!(ports.len() == 4 && ports.iter().all(|port| matches!(port, PortMatch::Broken(_))));
}

#[test]
fn a_condition_nobody_understands_asks_for_something_unsupported() {
    for condition in [
        "{key: request.auth.claims, values: [a]}",
        "{key: 'request.headers[a b]', values: [a]}",
        "{key: 'request.headers[]', values: [a]}",
        "{values: [a]}",
        "{key: source.ip}",
        "{key: source.ip, value: [a]}",
        "7",
    ] {
        let compiled = read(&format!("{{rules: [{{when: [{condition}]}}]}}"));
        let key = &compiled.policy.rules[0].when[0].key;
        assert!(matches!(key, ConditionKey::Unsupported(_)), "{condition}");
        assert_eq!(compiled.found.len(), 1, "{condition}");
    }
    let compiled = read("{rules: [{when: [{key: source.ip, values: []}, {key: destination.port, values: [http]}]}]}");
    let when = &compiled.policy.rules[0].when;
    assert!(matches!(&when[0].networks[..], [IpMatch::Broken(_)]));
    assert!(matches!(&when[1].values[..], [StringMatch::Broken(_)]));
    assert_eq!(compiled.found.len(), 2);
}

#[test]
fn what_is_not_built_yet_is_told() {
    let compiled = read("{action: CUSTOM, provider: {name: x}, rules: [{}]}");
    assert_eq!(
        (compiled.policy.action, fields(&compiled)),
        (Action::Custom, vec!["spec.action"])
    );
    let compiled = read("{rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}");
    assert_eq!(fields(&compiled), ["spec.rules[0].from[0].source.requestPrincipals"]);
    assert_eq!(compiled.http_rules.len(), 1);
    assert_eq!(fields(&read("{action: DENY}")), ["spec"]);
    assert!(read("{}").found.is_empty());
}

#[test]
fn a_hostile_policy_is_read_in_time() {
    let long = format!("[{}]", vec!["'*a*'"; 20_000].join(","));
    let started = SystemTime::now();
    let compiled = read(&format!("{{rules: [{{from: [{{source: {{principals: {long}}}}}]}}]}}"));
    assert_eq!(compiled.found.len(), 20_000);
    assert!(started.elapsed().unwrap_or_default() < Duration::from_secs(20));
}
