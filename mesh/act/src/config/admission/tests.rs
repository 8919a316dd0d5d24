use proptest::prelude::*;

use super::*;
use crate::config::document;

fn all(text: &str) -> Vec<Admission> {
    let documents = document::read(text.as_bytes()).expect("readable");
    let file = "shop.yaml".into();
    documents.into_iter().filter_map(|it| admit(it, &file)).collect()
}

fn one(text: &str) -> Admission {
    let mut all = all(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

/// A policy of our own with this body.
fn ours(kind: &str, spec: &str) -> String {
    let name = if kind == "MeshConfig" {
        "{name: default}"
    } else {
        "{name: it, namespace: shop}"
    };
    format!("{{apiVersion: weft.dev/v1alpha1, kind: {kind}, metadata: {name}, spec: {spec}}}")
}

fn admitted(text: &str) -> (Object, Arc<Origin>) {
    match one(text).ruling {
        Ruling::Admitted(object, origin) => (object, origin),
        Ruling::Refused { problems, .. } => panic!("{text}: {problems:?}"),
    }
}

fn refused(text: &str) -> (Vec<Problem>, Option<(Object, Arc<Origin>)>) {
    match one(text).ruling {
        Ruling::Refused { problems, stand_in } => (problems.into(), stand_in),
        Ruling::Admitted(object, _) => panic!("{text}: admitted {object:?}"),
    }
}

fn spec(object: &Object) -> &Value {
    match object {
        Object::AuthorizationPolicy(it) | Object::PeerAuthentication(it) | Object::MeshConfig(it) => &it.spec,
        other => panic!("{other:?} has no spec of ours"),
    }
}

#[test]
fn every_schema_of_ours_is_understood_whole() {
    let schemas = SCHEMAS.as_ref().expect("every keyword and rule is known");
    assert_eq!(schemas.len(), crds::all().len());
    for kind in schemas.keys() {
        assert!(Object::is_cluster_scoped(kind).is_some(), "{kind} is not read");
    }
}

#[test]
fn a_schema_with_a_keyword_or_rule_nobody_applies_is_a_defect() {
    for schema in [
        json!({"type": "object", "oneOf": []}),
        json!({"type": "string", "format": "ipv4"}),
        json!({"type": "object", "properties": {"a": {"type": "string", "x-kubernetes-int-or-string": true}}}),
        json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.a == self.b"}]}),
        json!({"type": "string", "pattern": "("}),
        json!({}),
    ] {
        assert!(Schema::compile(&schema).is_err(), "{schema}");
    }
}

#[test]
fn what_an_api_server_takes_is_admitted_with_defaults() {
    let (object, origin) = admitted(&ours("AuthorizationPolicy", "{rules: [{}]}"));
    assert_eq!(spec(&object), &json!({"action": "ALLOW", "rules": [{}]}));
    assert!(origin.problems.is_empty());
    for (kind, body) in [
        ("AuthorizationPolicy", "{}"),
        ("AuthorizationPolicy", "{selector: {matchLabels: {app: web}}, action: DENY, dryRun: true}"),
        ("AuthorizationPolicy", "{targetRefs: [{kind: Service, name: web}]}"),
        (
            "AuthorizationPolicy",
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: w}]}",
        ),
        (
            "AuthorizationPolicy",
            "{targetRefs: [{group: weft.dev, kind: ExternalService, name: e}]}",
        ),
        (
            "AuthorizationPolicy",
            "{rules: [{from: [{source: {principals: ['*'], ipBlocks: [10.0.0.0/99]}}], to: [{operation: {ports: ['80']}}],
              when: [{key: source.ip, notValues: [10.0.0.1]}]}]}",
        ),
        ("PeerAuthentication", "{mtls: {mode: STRICT}, portLevelMtls: {8080: {mode: PERMISSIVE}}}"),
        ("PeerAuthentication", "{}"),
        ("TrafficPolicy", "{targetRefs: [{kind: Service, name: a}], timeouts: {connect: 1s, idle: 1h30m}}"),
        (
            "ExternalService",
            "{hosts: [api.example.com, '*.example.com'], addresses: [240.0.0.7, '2001:db8::/32'], resolution: DNS,
              ports: [{number: 443, name: https, appProtocol: https, targetPort: 8443}],
              endpoints: [{address: a.example.com, ports: {https: 1}, zone: z}, {address: '2001:db8::1'}]}",
        ),
        ("ExternalService", "{hosts: [a.example], addresses: [192.0.2.1], visibility: Mesh}"),
        ("MeshConfig", "{trustDomain: a.b-c, outbound: RegistryOnly, podCidrs: [10.0.0.0/8, '2001:db8::/32']}"),
    ] {
        let (_, origin) = admitted(&ours(kind, body));
        assert_eq!(origin.problems, [], "{kind} {body}");
    }
}

/// Stand for bodies too long to write here.
const MANY: &str = "many";
const LONG: &str = "long";

/// Kind, spec, the field at fault, and a part of what is said.
const REFUSED: &[(&str, &str, &str, &str)] = &[
    ("AuthorizationPolicy", "7", "spec", "is a number, not an object"),
    (
        "AuthorizationPolicy",
        "{action: ALOW}",
        "spec.action",
        "\"ALOW\" is none of ALLOW, DENY, CUSTOM",
    ),
    ("AuthorizationPolicy", "{action: allow}", "spec.action", "none of"),
    (
        "AuthorizationPolicy",
        "{dryRun: 'true'}",
        "spec.dryRun",
        "is a string, not a boolean",
    ),
    (
        "AuthorizationPolicy",
        "{rules: {from: []}}",
        "spec.rules",
        "is an object, not a list",
    ),
    (
        "AuthorizationPolicy",
        MANY,
        "spec.rules",
        "has 300 items, more than 256",
    ),
    (
        "AuthorizationPolicy",
        LONG,
        "spec.rules[0].from[0].source.principals[0]",
        "2000 characters",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{to: [{operation: {ports: [8080]}}]}]}",
        "spec.rules[0].to[0].operation.ports[0]",
        "is a number, not a string",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{}]}]}",
        "spec.rules[0].from[0].source",
        "is missing",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {}}]}]}",
        "spec.rules[0].from[0].source",
        "holds nothing",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: [{source: {namespaces: []}}]}]}",
        "spec.rules[0].from[0].source.namespaces",
        "holds nothing",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{from: []}]}",
        "spec.rules[0].from",
        "holds nothing",
    ),
    (
        "AuthorizationPolicy",
        "{selector: {}, targetRefs: [{kind: Service, name: a}]}",
        "spec",
        "either selector or targetRefs",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: Pod, name: a}]}",
        "spec.targetRefs",
        "attached to a Service",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{kind: ExternalService, name: a}]}",
        "spec.targetRefs",
        "an ExternalService (group 'weft.dev')",
    ),
    (
        "AuthorizationPolicy",
        "{targetRefs: [{group: weft.dev, kind: ExternalServices, name: a}]}",
        "spec.targetRefs",
        "an ExternalService (group 'weft.dev')",
    ),
    (
        "TrafficPolicy",
        "{targetRefs: [{group: weft.dev, kind: ExternalService, name: a}]}",
        "spec.targetRefs",
        "attached to a Service",
    ),
    (
        "AuthorizationPolicy",
        "{rules: [{when: [{key: source.ip}]}]}",
        "spec.rules[0].when[0]",
        "values or notValues",
    ),
    (
        "PeerAuthentication",
        "{mtls: {mode: DISABLE}}",
        "spec.mtls.mode",
        "none of UNSET, PERMISSIVE, STRICT",
    ),
    (
        "PeerAuthentication",
        "{portLevelMtls: {http: {mode: STRICT}}}",
        "spec.portLevelMtls",
        "is a port",
    ),
    (
        "PeerAuthentication",
        "{portLevelMtls: {70000: {mode: STRICT}}}",
        "spec.portLevelMtls",
        "is a port",
    ),
    ("TrafficPolicy", "{}", "spec.targetRefs", "is missing"),
    (
        "TrafficPolicy",
        "{targetRefs: [{kind: Service, name: a}], timeouts: {idle: 1 hour}}",
        "spec.timeouts.idle",
        "does not match",
    ),
    ("ExternalService", "{}", "spec.hosts", "is missing"),
    (
        "ExternalService",
        "{hosts: [A.example]}",
        "spec.hosts[0]",
        "does not match",
    ),
    (
        "ExternalService",
        "{hosts: [a.example], ports: [{number: 0}]}",
        "spec.ports[0].number",
        "",
    ),
    (
        "ExternalService",
        "{hosts: [a.example], resolution: Static}",
        "spec",
        "needs endpoints",
    ),
    (
        "ExternalService",
        "{hosts: ['*.a.example'], resolution: DNS}",
        "spec",
        "cannot be resolved",
    ),
    (
        "MeshConfig",
        "{outbound: Nothing}",
        "spec.outbound",
        "none of AllowAny, RegistryOnly",
    ),
    (
        "MeshConfig",
        "{trustDomain: Cluster.Local}",
        "spec.trustDomain",
        "does not match",
    ),
    (
        "MeshConfig",
        "{outbond: RegistryOnly}",
        "spec.outbond",
        "not a field that is known",
    ),
    (
        "MeshConfig",
        "{podCidrs: [everything]}",
        "spec.podCidrs[0]",
        "does not match",
    ),
];

#[test]
fn what_an_api_server_refuses_is_refused_with_the_field_and_its_line() {
    let many = format!("{{rules: [{}]}}", "{},".repeat(300));
    let long = format!(
        "{{rules: [{{from: [{{source: {{principals: [{}]}}}}]}}]}}",
        "x".repeat(2000)
    );
    for (kind, body, field, what) in REFUSED {
        let body = match *body {
            MANY => &many,
            LONG => &long,
            body => body,
        };
        let (problems, _) = refused(&ours(kind, body));
        let found = problems.iter().find(|problem| &*problem.field == *field);
        let found = found.unwrap_or_else(|| panic!("{body}: {problems:?}"));
        assert!(found.what.contains(what), "{body}: {found}");
        assert_eq!(found.place.as_ref().map(|place| place.line), Some(1));
    }
    let text = "kind: MeshConfig\napiVersion: weft.dev/v1alpha1\nmetadata: {name: other}\nspec:\n  sameNode: Never\n";
    let (problems, _) = refused(text);
    assert_eq!(problems[0].place.as_ref().map(|place| place.line), Some(5));
    let (problems, stand_in) = refused(&text.replace("Never", "Wire"));
    assert!(problems[0].what.contains("its name is 'default'"), "{problems:?}");
    assert!(stand_in.is_none());
}

#[test]
fn a_field_left_empty_is_never_taken_for_absent() {
    for (kind, body, field) in [
        ("AuthorizationPolicy", "{rules: [{from: }]}", "spec.rules[0].from"),
        ("AuthorizationPolicy", "{rules: }", "spec.rules"),
        ("AuthorizationPolicy", "{rules: [~]}", "spec.rules[0]"),
        ("AuthorizationPolicy", "{action: }", "spec.action"),
        ("AuthorizationPolicy", "{selector: }", "spec.selector"),
        (
            "AuthorizationPolicy",
            "{selector: {matchLabels: }}",
            "spec.selector.matchLabels",
        ),
        ("AuthorizationPolicy", "", "spec"),
        (
            "AuthorizationPolicy",
            "{rules: [{from: [{source: {principals: }}]}]}",
            "spec.rules[0].from[0].source.principals",
        ),
        ("PeerAuthentication", "{mtls: {mode: }}", "spec.mtls.mode"),
        ("PeerAuthentication", "{portLevelMtls: {80: }}", "spec.portLevelMtls.80"),
        ("MeshConfig", "{outbound: }", "spec.outbound"),
    ] {
        let (problems, _) = refused(&ours(kind, body));
        assert!(problems.iter().any(|it| &*it.field == field), "{body}: {problems:?}");
    }
}

#[test]
fn unknown_fields_of_policies_are_kept_and_told_at_every_level() {
    for (body, field, remedy) in [
        (
            "{rules: [{form: [{source: {namespaces: [a]}}]}]}",
            "spec.rules[0].form",
            "Did you mean from?",
        ),
        ("{rule: []}", "spec.rule", "Did you mean rules?"),
        (
            "{selector: {matchLabel: {app: a}}}",
            "spec.selector.matchLabel",
            "Did you mean matchLabels?",
        ),
        (
            "{targetRefs: [{kind: Service, name: a, port: 1}]}",
            "spec.targetRefs[0].port",
            "Remove it",
        ),
        (
            "{rules: [{from: [{source: {namespaces: [a]}, scource: 1}]}]}",
            "spec.rules[0].from[0].scource",
            "Did you mean source?",
        ),
        (
            "{rules: [{from: [{source: {namespaces: [a], princpals: [b]}}]}]}",
            "spec.rules[0].from[0].source.princpals",
            "Did you mean principals?",
        ),
        (
            "{rules: [{to: [{operation: {method: [GET]}}]}]}",
            "spec.rules[0].to[0].operation.method",
            "Did you mean methods?",
        ),
        (
            "{rules: [{when: [{key: a, values: [b], exotic: 1}]}]}",
            "spec.rules[0].when[0].exotic",
            "Remove it",
        ),
        ("{provider: {name: a, url: b}}", "spec.provider.url", "Remove it"),
    ] {
        let (object, origin) = admitted(&ours("AuthorizationPolicy", body));
        let [problem] = origin.problems.as_slice() else {
            panic!("{body}: {:?}", origin.problems)
        };
        assert_eq!(&*problem.field, field);
        assert!(problem.remedy.starts_with(remedy), "{problem}");
        let pointer = format!(
            "/{}",
            field
                .trim_start_matches("spec.")
                .replace(['.', '['], "/")
                .replace(']', "")
        );
        assert!(
            spec(&object).pointer(&pointer).is_some(),
            "{body} is kept in {:?}",
            spec(&object)
        );
    }
    let (_, origin) = admitted(&ours("PeerAuthentication", "{mtls: {mod: STRICT}}"));
    assert_eq!(&*origin.problems[0].field, "spec.mtls.mod");
}

#[test]
fn unknown_fields_elsewhere_are_dropped_and_told() {
    for (text, field) in [
        (
            "{kind: Namespace, apiVersion: v1, metadata: {name: a, lables: {b: c}}}",
            "metadata.lables",
        ),
        (
            "{kind: Namespace, apiVersion: v1, metadata: {name: a}, labels: {b: c}}",
            "labels",
        ),
        ("{kind: Pod, apiVersion: v1, metadata: {name: a}, sepc: {}}", "sepc"),
        (
            "{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: a}, endpoint: []}",
            "endpoint",
        ),
        (
            "{kind: TrafficPolicy, apiVersion: weft.dev/v1alpha1, metadata: {name: a}, status: {},
              spec: {targetRefs: [{kind: Service, name: a}]}}",
            "status",
        ),
    ] {
        let (_, origin) = admitted(text);
        let fields: Vec<&str> = origin.problems.iter().map(|problem| &*problem.field).collect();
        assert_eq!(fields, [field], "{text}");
    }
}

#[test]
fn names_and_labels_are_those_an_api_server_takes() {
    let long = "a".repeat(64);
    for (metadata, field) in [
        ("{}", "metadata.name"),
        ("{generateName: a-}", "metadata.name"),
        ("{name: 5}", "metadata.name"),
        ("{name: Shop}", "metadata.name"),
        ("{name: -a}", "metadata.name"),
        ("{name: a..b}", "metadata.name"),
        ("{name: ''}", "metadata.name"),
        ("{name: a/b}", "metadata.name"),
        ("{name: a, namespace: b.c}", "metadata.namespace"),
        ("{name: a, namespace: 1}", "metadata.namespace"),
        ("{name: a, labels: [b]}", "metadata.labels"),
        ("{name: a, labels: {b: on}}", "metadata.labels.b"),
        ("{name: a, labels: {b: 8080}}", "metadata.labels.b"),
        ("{name: a, labels: {b: }}", "metadata.labels.b"),
        ("{name: a, labels: {b: 'c d'}}", "metadata.labels.b"),
        ("{name: a, labels: {'b c': d}}", "metadata.labels[b c]"),
        ("{name: a, labels: {'/b': d}}", "metadata.labels[/b]"),
        (&format!("{{name: a, labels: {{b: {long}}}}}"), "metadata.labels.b"),
        ("{name: a, annotations: {b: 1}}", "metadata.annotations.b"),
        ("[]", "metadata"),
    ] {
        let (problems, _) = refused(&format!(
            "{{kind: ServiceAccount, apiVersion: v1, metadata: {metadata}}}"
        ));
        assert!(
            problems.iter().any(|it| &*it.field == field),
            "{metadata}: {problems:?}"
        );
    }
    for (kind, name, fits) in [
        ("Namespace", "a.b", false),
        ("Service", "a.b", false),
        ("Pod", "a.b", true),
    ] {
        let text = format!("{{kind: {kind}, apiVersion: v1, metadata: {{name: {name}}}}}");
        assert_eq!(matches!(one(&text).ruling, Ruling::Admitted(..)), fits, "{kind} {name}");
    }
    let (problems, _) = refused("{kind: Namespace, apiVersion: v1, metadata: {name: a, namespace: b}}");
    assert_eq!(&*problems[0].field, "metadata.namespace");
}

#[test]
fn what_a_server_fills_in_is_filled_in() {
    let (object, _) = admitted("{kind: Pod, apiVersion: v1, metadata: {name: a}, status: {podIP: 10.0.0.1}}");
    assert_eq!(&*object.metadata().namespace, "default");
    let Object::Pod(pod) = object else { panic!("a pod") };
    assert!(pod.is_ready());
    assert_eq!((&*pod.uid(), pod.service_account()), ("default.a", "default"));
    let (object, _) = admitted("{kind: Namespace, apiVersion: v1, metadata: {name: shop, labels: {a: b}}}");
    let label = |key: &str| object.metadata().label(key).map(|value| value.to_string());
    assert_eq!(label("kubernetes.io/metadata.name").as_deref(), Some("shop"));
    assert_eq!(label("a").as_deref(), Some("b"));
}

#[test]
fn kinds_that_could_be_expected_to_have_an_effect_are_told_and_others_are_nothing() {
    for (text, object) in [
        ("{a: 1}", "Document shop.yaml:1"),
        ("{kind: 5, apiVersion: v1}", "Document shop.yaml:1"),
        (
            "{kind: AuthorizatonPolicy, apiVersion: weft.dev/v1alpha1, metadata: {name: a}}",
            "AuthorizatonPolicy a",
        ),
        (
            "{kind: GRPCRoute, apiVersion: gateway.networking.k8s.io/v1, metadata: {name: a, namespace: b}}",
            "GRPCRoute b/a",
        ),
        (
            "{kind: AuthorizationPolicy, apiVersion: security.istio.io/v1, metadata: {name: a}}",
            "Document shop.yaml:1",
        ),
        (
            "{kind: VirtualService, apiVersion: networking.istio.io/v1, metadata: {name: a}}",
            "VirtualService a",
        ),
        (
            "{kind: Service, apiVersion: serving.knative.dev/v1, metadata: {name: a}}",
            "Document shop.yaml:1",
        ),
        (
            "{kind: AuthorizationPolicy, apiVersion: weft.dev/v9, metadata: {name: a}}",
            "AuthorizationPolicy default/a",
        ),
        (
            "{kind: AuthorizationPolicy, metadata: {name: a}}",
            "AuthorizationPolicy default/a",
        ),
        (
            "{kind: Service, apiVersion: v2, metadata: {name: a}}",
            "Service default/a",
        ),
    ] {
        let (problems, _) = refused(text);
        assert_eq!(problems[0].object.to_string(), object, "{problems:?}");
        assert_eq!(one(text).object.to_string(), object);
    }
    let nothing = "{kind: Deployment, apiVersion: apps/v1, spec: 5}\n--- {kind: GatewayClass, apiVersion: gateway.networking.k8s.io/v1}\n";
    assert_eq!(all(nothing), []);
}

#[test]
fn a_refused_policy_has_a_stand_in_that_is_no_wider() {
    let stand_in = |text: &str| {
        let (problems, stand_in) = refused(text);
        let (object, origin) = stand_in.unwrap_or_else(|| panic!("{text} has a stand-in"));
        assert_eq!(origin.problems, problems);
        assert_eq!(object.key(), one(text).object);
        spec(&object).clone()
    };
    assert_eq!(
        stand_in(&ours("AuthorizationPolicy", "7")),
        json!({"action": "DENY", "rules": [{}]})
    );
    assert_eq!(
        stand_in(&ours("PeerAuthentication", "~")),
        json!({"mtls": {"mode": "STRICT"}})
    );
    assert_eq!(
        stand_in(&ours(
            "AuthorizationPolicy",
            "{action: ALOW, selector: {matchLabels: {a: b}}}"
        )),
        json!({"action": "ALOW", "selector": {"matchLabels": {"a": "b"}}}),
    );
    assert_eq!(
        stand_in(&ours(
            "MeshConfig",
            "{outbond: RegistryOnly, sameNode: Wire, podCidrs: [x], outbound: AllowAny}"
        )),
        json!({"sameNode": "Wire", "outbound": "RegistryOnly"}),
    );
    let without_name =
        "{kind: AuthorizationPolicy, apiVersion: weft.dev/v1alpha1, metadata: {namespace: shop}, spec: {}}";
    assert_eq!(stand_in(without_name), json!({}));
    assert_eq!(
        one(without_name).object.to_string(),
        "AuthorizationPolicy shop/shop.yaml:1"
    );
    assert!(refused("{kind: Pod, apiVersion: v1, metadata: {name: A}}").1.is_none());
}

/// Values in the shape of a policy, some of them spoiled.
fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z*/.0-9A-Z-]{0,9}".prop_map(Value::from),
        Just(json!("DENY")),
    ];
    let key = prop_oneof![
        Just("apiVersion".to_owned()),
        Just("kind".to_owned()),
        Just("metadata".to_owned()),
        Just("name".to_owned()),
        Just("spec".to_owned()),
        Just("rules".to_owned()),
        Just("from".to_owned()),
        Just("source".to_owned()),
        Just("selector".to_owned()),
        Just("labels".to_owned()),
        Just("when".to_owned()),
        "[a-z]{1,5}".prop_map(String::from),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn nothing_panics_and_a_refusal_says_why(
        mut value in anything(),
        spec in anything(),
        kind in proptest::sample::select(vec![
            "AuthorizationPolicy", "PeerAuthentication", "MeshConfig", "TrafficPolicy", "ExternalService", "Pod", "Service", "HTTPRoute",
            "Gateway", "EndpointSlice", "Namespace", "Other",
        ]),
        version in proptest::sample::select(vec!["v1", "weft.dev/v1alpha1", "gateway.networking.k8s.io/v1", "", "/", "a/b/c"]),
    ) {
        if let Some(fields) = value.as_object_mut() {
            fields.insert("kind".into(), kind.into());
            fields.insert("apiVersion".into(), version.into());
            fields.insert("spec".into(), spec);
        }
        let document = Document { value, line: 1, lines: HashMap::new() };
        match admit(document, &"f".into()).map(|it| (it.object, it.ruling)) {
            Some((object, Ruling::Refused { problems, .. })) => {
                prop_assert!(!problems.is_empty());
                prop_assert!(problems.iter().all(|it| it.object == object));
            }
            Some((object, Ruling::Admitted(admitted, _))) => prop_assert_eq!(admitted.key(), object),
            None => {}
        }
    }
}
