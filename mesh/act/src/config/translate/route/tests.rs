use std::time::Duration;

use decide::model::{PathMatch, ValueMatch};

use super::*;
use crate::config::Object;

fn read(spec: &str) -> CompiledRoute {
    let yaml = format!(
        "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: r, namespace: shop}}, spec: {spec}}}"
    );
    let value = serde_yaml::from_str(&yaml).expect("YAML");
    match Object::parse(&value) {
        Ok(Some(Object::HttpRoute(written))) => compile(&written),
        other => panic!("{other:?}"),
    }
}

fn rule(rule: &str) -> CompiledRoute {
    read(&format!(
        "{{parentRefs: [{{group: '', kind: Service, name: web}}], rules: [{rule}]}}"
    ))
}

#[test]
fn a_whole_rule_is_read() {
    let compiled = rule(
        "{name: first, timeouts: {request: 1m30s}, backendRefs: [{name: v1, port: 80, weight: 90}, {name: v2, namespace: other, port: 81}],
          matches: [{path: {type: Exact, value: /a}, method: GET, headers: [{name: X-A, value: b}, {name: x-a, value: c}, {type: RegularExpression, name: y, value: 'a|b'}],
                     queryParams: [{name: q, value: '1'}, {name: Q, value: '2'}]},
                    {path: {value: /b/}}, {path: {type: RegularExpression, value: '/c/[0-9]+'}}, {}]}",
    );
    assert!(compiled.found.is_empty(), "{:?}", compiled.found);
    let rule = &compiled.rules[0];
    assert_eq!((&*rule.rule.name, &rule.rule.broken), ("first", &None));
    assert_eq!(rule.rule.request_timeout, Some(Duration::from_secs(90)));
    let [first, second, third, fourth] = &rule.rule.matches[..] else {
        panic!("four")
    };
    assert_eq!(first.path, PathMatch::Exact("/a".into()));
    assert_eq!(first.method.as_deref(), Some("GET"));
    assert_eq!(
        first.headers.iter().map(|it| &*it.name).collect::<Vec<_>>(),
        ["x-a", "y"]
    );
    assert_eq!(first.headers[0].value, ValueMatch::Exact("b".into()));
    let ValueMatch::Regex(pattern) = &first.headers[1].value else {
        panic!("a pattern")
    };
    assert!(pattern.0.is_match("a") && pattern.0.is_match("b") && !pattern.0.is_match("ab"));
    assert_eq!(first.query.iter().map(|it| &*it.name).collect::<Vec<_>>(), ["q", "Q"]);
    assert_eq!(second.path, PathMatch::Prefix("/b".into()));
    let PathMatch::Regex(pattern) = &third.path else {
        panic!("a pattern")
    };
    assert!(pattern.0.is_match("/c/12") && !pattern.0.is_match("/c/12/x"));
    assert_eq!(fourth, &matches::everything());
    let backends: Vec<_> = rule
        .backends
        .iter()
        .map(|it| (it.service.to_string(), it.port, it.weight))
        .collect();
    assert_eq!(
        backends,
        [("shop/v1".to_owned(), 80, 90), ("other/v2".to_owned(), 81, 1)]
    );
}

#[test]
fn a_route_without_rules_matches_everything() {
    for spec in ["{}", "{rules: [{}]}", "{rules: [{matches: []}]}"] {
        assert_eq!(read(spec).rules[0].rule, empty_rule(), "{spec}");
    }
}

#[test]
fn what_a_rule_asks_for_and_cannot_have_breaks_it() {
    let root = "spec.rules[0]";
    for (written, field) in [
        ("{filters: [{type: RequestRedirect}]}", "filters"),
        ("{filters: 7}", "filters"),
        ("{retry: {attempts: 3}}", "retry"),
        ("{sessionPersistence: {}}", "sessionPersistence"),
        ("{backendRef: []}", "backendRef"),
        ("{backendRefs: {}}", "backendRefs"),
        ("{timeouts: {backendRequest: 1s}}", "timeouts.backendRequest"),
        ("{timeouts: {request: 10}}", "timeouts.request"),
        ("{timeouts: {request: 10 seconds}}", "timeouts.request"),
        ("{timeouts: {requests: 1s}}", "timeouts.requests"),
        ("{timeouts: 7}", "timeouts"),
        ("{matches: {}}", "matches"),
        ("{matches: [7]}", "matches[0]"),
        ("{matches: [{paths: {}}]}", "matches[0].paths"),
        ("{matches: [{path: {value: /a, kind: x}}]}", "matches[0].path.kind"),
        (
            "{matches: [{headers: [{name: a, value: b, invert: true}]}]}",
            "matches[0].headers[0].invert",
        ),
    ] {
        let compiled = rule(written);
        assert!(compiled.rules[0].rule.broken.is_some(), "{written}");
        assert_eq!(compiled.found.len(), 1, "{written} {:?}", compiled.found);
        assert_eq!(compiled.found[0].field, format!("{root}.{field}"));
        assert!(
            compiled.found[0].what.contains("answered 500"),
            "{}",
            compiled.found[0].what
        );
    }
    let whole = read("{parentRefs: [{group: '', kind: Service, name: web}], ruels: [], rules: [{}, {}]}");
    assert!(whole.rules.iter().all(|rule| rule.rule.broken.is_some()));
}

#[test]
fn a_match_that_cannot_be_compared_is_never_true() {
    for written in [
        "{path: {type: RegularExpression, value: '('}}",
        "{path: {type: RegularExpression, value: 'a)|(b'}}",
        "{path: {type: RegularExpression, value: '(?=a)'}}",
        "{path: {type: RegularExpression, value: '((a{100}){100}){100}'}}",
        "{path: {type: Exact, value: a}}",
        "{path: {value: ''}}",
        "{path: {type: Glob, value: /a}}",
        "{method: get}",
        "{method: 7}",
        "{headers: [{name: 'a b', value: c}]}",
        "{headers: [{name: a}]}",
        "{headers: [{value: a}]}",
        "{headers: [{name: a, value: '[', type: RegularExpression}]}",
        "{queryParams: [{name: a, value: b, type: Prefix}]}",
        "{queryParams: [{name: '', value: b}]}",
    ] {
        let compiled = rule(&format!("{{matches: [{written}, {{path: {{value: /good}}}}]}}"));
        let matches = &compiled.rules[0].rule.matches;
        assert!(matches[0].broken && !matches[1].broken, "{written}");
        assert_eq!(compiled.rules[0].rule.broken, None, "{written}");
        assert_eq!(compiled.found.len(), 1, "{written} {:?}", compiled.found);
    }
}

#[test]
fn a_backend_that_cannot_be_honoured_is_broken_alone() {
    for (backend, field) in [
        ("{name: a}", ""),
        ("{name: a, port: 0}", ""),
        ("{name: a, port: 80, kind: Bucket}", ""),
        (
            "{name: a, port: 80, group: multicluster.x-k8s.io, kind: ServiceImport}",
            "",
        ),
        ("{name: a, port: 80, filters: [{}]}", ".filters"),
        ("{name: a, port: 80, weight: -1}", ".weight"),
        ("{name: a, port: 80, weight: 1000001}", ".weight"),
        ("{name: a, port: 80, wieght: 1}", ".wieght"),
    ] {
        let compiled = rule(&format!("{{backendRefs: [{backend}, {{name: b, port: 80}}]}}"));
        let [bad, good] = &compiled.rules[0].backends[..] else {
            panic!("two")
        };
        assert!(bad.broken.is_some() && good.broken.is_none(), "{backend}");
        assert_eq!(compiled.rules[0].rule.broken, None);
        assert_eq!(compiled.found.len(), 1, "{backend}");
        assert_eq!(compiled.found[0].field, format!("spec.rules[0].backendRefs[0]{field}"));
    }
}

#[test]
fn hostnames_of_a_service_are_told_to_mean_nothing() {
    let compiled = read("{hostnames: [a.example], parentRefs: [{group: '', kind: Service, name: web}]}");
    assert_eq!(compiled.found[0].field, "spec.hostnames");
    assert!(compiled.rules[0].rule.broken.is_none());
    assert!(
        read("{hostnames: [a.example], parentRefs: [{name: gateway}]}")
            .found
            .is_empty()
    );
}

#[test]
fn a_list_without_end_is_cut_and_breaks_the_rule() {
    let long = format!("[{}]", vec!["{path: {value: /a}}"; 1000].join(","));
    let compiled = rule(&format!("{{matches: {long}}}"));
    assert_eq!(compiled.rules[0].rule.matches.len(), MOST);
    assert!(compiled.rules[0].rule.broken.is_some());
}
