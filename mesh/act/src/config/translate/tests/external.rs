use std::net::IpAddr;

use decide::model::{ExternalHost, Resolution, Visibility};

use super::*;

fn external(name: &str, more: &str, spec: &str) -> String {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    format!(
        "---\n{{apiVersion: weft.dev/v1alpha1, kind: ExternalService, metadata: {{name: {name}, namespace: {namespace}{more}}}, spec: {spec}}}\n"
    )
}

fn at(translation: &Translation, namespace: &str, address: &str) -> Option<String> {
    let address: IpAddr = address.parse().expect("an address");
    let found = translation.snapshot().external.at(&namespace.into(), address);
    found.map(|it| it.key.to_string())
}

fn named(translation: &Translation, namespace: &str, host: &str) -> Option<String> {
    let found = translation.snapshot().external.named(&namespace.into(), host);
    found.map(|it| it.key.to_string())
}

fn one(translation: &Translation) -> &Arc<ExternalService> {
    translation
        .snapshot()
        .external
        .values()
        .next()
        .expect("an ExternalService")
}

#[test]
fn a_destination_outside_the_mesh_is_known_by_hosts_and_addresses() {
    let spec = "{hosts: [api.example.com], addresses: [240.0.0.7, '2001:db8:f::7'], resolution: DNS,
        ports: [{number: 443, name: https}, {number: 80, name: plain, appProtocol: HTTP, targetPort: 8080}],
        endpoints: [{address: api.eu.example.com, zone: eu, ports: {https: 8443}}, {address: 192.0.2.9}]}";
    let translation = translation(&external("shop/api", "", spec));
    let service = one(&translation);
    assert_eq!(told(&translation), Vec::<String>::new());
    assert_eq!(
        (service.resolution, service.visibility),
        (Resolution::Dns, Visibility::Namespace)
    );
    let (https, plain) = (service.port(443).expect("a port"), service.port(80).expect("a port"));
    assert_eq!((https.target, https.app_protocol.as_deref()), (443, Some("https")));
    assert_eq!((plain.target, plain.app_protocol.as_deref()), (8080, Some("http")));
    assert!(service.port(81).is_none());
    let [first, second] = &*service.endpoints else {
        panic!("{service:?}")
    };
    assert_eq!(first.host, ExternalHost::Name("api.eu.example.com".into()));
    assert_eq!((first.target(&https), first.target(&plain)), (8443, 8080));
    assert_eq!((first.zone.as_deref(), second.target(&https)), (Some("eu"), 443));
    assert_eq!(service.answers().count(), 2);
    assert_eq!(at(&translation, "shop", "240.0.0.7").as_deref(), Some("shop/api"));
    assert_eq!(
        named(&translation, "shop", "api.example.com").as_deref(),
        Some("shop/api")
    );
}

#[test]
fn a_tenant_takes_nothing_from_another_or_from_the_mesh() {
    let spec = "{hosts: [a.example], addresses: [192.0.2.1], visibility: Mesh}";
    let mut translation = translation(&external("shop/greedy", "", spec));
    assert_eq!(at(&translation, "shop", "192.0.2.1").as_deref(), Some("shop/greedy"));
    assert_eq!(at(&translation, "other", "192.0.2.1"), None);
    assert_eq!(named(&translation, "other", "a.example"), None);
    let about = told(&translation);
    assert!(
        about[0].contains("spec.visibility: is Mesh outside the root namespace"),
        "{about:?}"
    );
    add(&mut translation, &external("weft-system/mesh", "", spec));
    for namespace in ["shop", "other"] {
        assert_eq!(
            at(&translation, namespace, "192.0.2.1").as_deref(),
            Some("weft-system/mesh")
        );
        assert_eq!(
            named(&translation, namespace, "a.example").as_deref(),
            Some("weft-system/mesh")
        );
    }
    let about = told(&translation);
    assert!(
        about.iter().all(|it| it.starts_with("ExternalService shop/greedy")),
        "{about:?}"
    );
    assert!(
        about.iter().any(|it| it.contains("which counts for the whole mesh")),
        "{about:?}"
    );
    remove(&mut translation, "ExternalService", "weft-system", "mesh");
    assert_eq!(at(&translation, "shop", "192.0.2.1").as_deref(), Some("shop/greedy"));
    assert_eq!(told(&translation).len(), 1);
}

#[test]
fn of_two_external_services_of_one_address_or_host_the_oldest_wins_and_the_other_is_told() {
    let (old, new) = (
        ", creationTimestamp: '2026-01-01T00:00:00Z'",
        ", creationTimestamp: '2026-01-02T00:00:00Z'",
    );
    let spec = "{hosts: [a.example], addresses: [192.0.2.1]}";
    let mut translation = translation(&external("shop/young", new, spec));
    add(&mut translation, &external("shop/old", old, spec));
    assert_eq!(at(&translation, "shop", "192.0.2.1").as_deref(), Some("shop/old"));
    assert_eq!(named(&translation, "shop", "a.example").as_deref(), Some("shop/old"));
    let about = told(&translation);
    assert_eq!(about.len(), 2, "{about:?}");
    assert!(
        about[0].starts_with("ExternalService shop/young spec.addresses: 192.0.2.1/32 belongs to"),
        "{about:?}"
    );
    remove(&mut translation, "ExternalService", "shop", "old");
    assert_eq!(at(&translation, "shop", "192.0.2.1").as_deref(), Some("shop/young"));
    assert_eq!(told(&translation), Vec::<String>::new());
}

#[test]
fn what_nobody_can_read_refuses_and_never_widens() {
    for (spec, field) in [
        (
            "{hosts: [a.example], addresses: [192.0.2.1], port: [{number: 80}]}",
            "spec.port",
        ),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], ports: null}",
            "spec.ports",
        ),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], ports: [{number: 80, targetport: 1}]}",
            "spec.ports[0].targetport",
        ),
        ("{hosts: [a.example], addresses: [192.0.2.1, x]}", "spec.addresses[1]"),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], resolution: Dns}",
            "spec.resolution",
        ),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], resolution: Static}",
            "spec",
        ),
        (
            "{hosts: ['*.a.example'], addresses: [192.0.2.1], resolution: DNS}",
            "spec",
        ),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], endpoints: [{address: 192.0.2.2}]}",
            "spec.endpoints",
        ),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], resolution: Static, endpoints: [{address: b.example}]}",
            "spec.endpoints[0].address",
        ),
        (
            "{hosts: [a.example], addresses: [192.0.2.1], resolution: Static, endpoints: [{address: 192.0.2.2, ports: {x: 1}}]}",
            "spec.endpoints[0].ports",
        ),
    ] {
        let translation = translation(&external("shop/odd", "", spec));
        assert_eq!(one(&translation).broken.as_deref(), Some(field), "{spec}");
        assert_eq!(
            at(&translation, "shop", "192.0.2.1").as_deref(),
            Some("shop/odd"),
            "{spec}"
        );
        let about = told(&translation);
        assert!(about[0].contains(&format!(" {field}: ")), "{about:?}");
    }
}

#[test]
fn names_and_addresses_of_the_cluster_are_not_taken_from_it() {
    let mut translation = translation(&external(
        "shop/sly",
        "",
        "{hosts: [web.other.svc.cluster.local, db.other.svc, fine.example], addresses: [10.1.0.7]}",
    ));
    add(
        &mut translation,
        "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {podCidrs: [10.1.0.0/16]}}",
    );
    assert_eq!(one(&translation).hosts, ["fine.example".into()]);
    assert!(one(&translation).broken.is_none());
    let about = told(&translation);
    assert_eq!(about.len(), 3, "{about:?}");
    assert!(
        about.iter().any(|it| it.contains("10.1.0.7/32 lies in the mesh's own")),
        "{about:?}"
    );
}

#[test]
fn an_external_service_follows_its_waypoint_label() {
    let labelled = ", labels: {weft.dev/use-waypoint: way}";
    let spec = "{hosts: [a.example], addresses: [192.0.2.1]}";
    let mut translation = translation(&format!("{SHOP}{}", external("shop/api", labelled, spec)));
    let waypoint = |translation: &Translation| one(translation).waypoint.as_ref().map(ToString::to_string);
    assert_eq!(waypoint(&translation).as_deref(), Some("shop/way"));
    assert!(told(&translation)[0].contains("labels"), "{:?}", told(&translation));
    add(&mut translation, WAYPOINT);
    assert_eq!(waypoint(&translation).as_deref(), Some("shop/way"));
    assert_eq!(told(&translation), Vec::<String>::new());
}

#[test]
fn policies_that_target_its_waypoint_judge_an_external_service() {
    let labelled = ", labels: {weft.dev/use-waypoint: way}";
    let spec = "{hosts: [api.example], addresses: [192.0.2.1]}";
    let policy = "---\n{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: egress, namespace: shop}, \
                  spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}], rules: [{}]}}\n";
    let mut translation = translation(&format!("{SHOP}{WAYPOINT}{}", external("shop/api", labelled, spec)));
    let judged = |translation: &Translation| {
        let policies = &one(translation).policies;
        policies
            .policies
            .iter()
            .map(|it| it.policy.object.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(judged(&translation), Vec::<String>::new());
    add(&mut translation, policy);
    assert_eq!(judged(&translation), ["egress"]);
    let before = one(&translation).policies.clone();
    let other = external("shop/api", labelled, "{hosts: [api.example], addresses: [192.0.2.2]}");
    add(&mut translation, &other);
    assert!(
        Arc::ptr_eq(&before, &one(&translation).policies),
        "what judges is the same"
    );
    remove(&mut translation, "AuthorizationPolicy", "shop", "egress");
    assert_eq!(judged(&translation), Vec::<String>::new());
}

/// A policy of shop that targets ExternalServices of these names, and what else `refs` says.
fn targeting(name: &str, targets: &[&str], rest: &str) -> String {
    let refs = targets
        .iter()
        .map(|it| format!("{{group: weft.dev, kind: ExternalService, name: {it}}}"));
    let refs: Vec<String> = refs.collect();
    format!(
        "---\n{{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: shop}}, \
         spec: {{targetRefs: [{}], {rest}}}}}\n",
        refs.join(", ")
    )
}

/// Names of what judges an ExternalService, in order.
fn judging(service: &ExternalService) -> Vec<String> {
    let policies = service.policies.policies.iter();
    policies.map(|it| it.policy.object.name.to_string()).collect()
}

const API: &str = "{hosts: [api.example], addresses: [192.0.2.1]}";

#[test]
fn policies_that_target_an_external_service_judge_it_with_those_of_its_waypoint() {
    let both = "---\n{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: both, namespace: shop}, spec: \
                {targetRefs: [{group: weft.dev, kind: ExternalService, name: api}, {group: gateway.networking.k8s.io, kind: Gateway, name: way}], rules: [{}]}}\n";
    let own = targeting("own", &["api"], "action: DENY, rules: [{}]");
    let mut translation = translation(&format!("{SHOP}{WAYPOINT}{own}{both}"));
    add(&mut translation, &external("shop/api", "", API));
    assert_eq!(judging(one(&translation)), ["own", "both"]);
    add(
        &mut translation,
        "{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: all, namespace: shop}, \
         spec: {targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}], rules: [{}]}}",
    );
    assert_eq!(judging(one(&translation)), ["own", "both"]);
    add(
        &mut translation,
        &external("shop/api", ", labels: {weft.dev/use-waypoint: way}", API),
    );
    assert_eq!(judging(one(&translation)), ["own", "all", "both"]);
    assert_eq!(told(&translation), Vec::<String>::new());
    remove(&mut translation, "AuthorizationPolicy", "shop", "own");
    assert_eq!(judging(one(&translation)), ["all", "both"]);
    // Of another namespace than the policy's.
    add(&mut translation, &external("other/api", "", API));
    let key = ServiceKey {
        namespace: "other".into(),
        name: "api".into(),
    };
    let other = translation.snapshot().external.get(&key).expect("it is there");
    assert_eq!(judging(other), Vec::<String>::new());
}

#[test]
fn a_policy_of_an_external_service_translates_that_alone() {
    let mut yaml = format!("{SHOP}{WEB}{}", pod("shop", "web", "10.1.0.2", ""));
    for (name, last) in [("api", 1), ("db", 2), ("mail", 3)] {
        let spec = format!("{{hosts: [{name}.example], addresses: [192.0.2.{last}]}}");
        yaml.push_str(&external(&format!("shop/{name}"), "", &spec));
    }
    let mut translation = translation(&yaml);
    let key = |name: &str| ServiceKey {
        namespace: "shop".into(),
        name: name.into(),
    };
    let all = |translation: &Translation| {
        ["api", "db", "mail"].map(|name| translation.snapshot().external.get(&key(name)).cloned().expect("there"))
    };
    let work = Work {
        policies: 1,
        externals: 1,
        ..Work::default()
    };
    let before = all(&translation);
    add(
        &mut translation,
        &targeting("own", &["api"], "action: DENY, rules: [{}]"),
    );
    assert_eq!(translation.work, work);
    let after = all(&translation);
    let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| Arc::ptr_eq(a, b)).collect();
    assert_eq!(same, [false, true, true]);
    assert!(Arc::ptr_eq(&before[1].policies, &after[1].policies));
    // Another spec of the ExternalService leaves what judges it as it is.
    add(
        &mut translation,
        &external("shop/api", "", "{hosts: [api.example], addresses: [192.0.2.9]}"),
    );
    assert!(Arc::ptr_eq(&after[0].policies, &all(&translation)[0].policies));
    // From one to two others: each of the three is translated again, and nothing else.
    add(
        &mut translation,
        &targeting("own", &["db", "mail"], "action: DENY, rules: [{}]"),
    );
    assert_eq!(translation.work, Work { externals: 3, ..work });
    assert_eq!(all(&translation).map(|it| judging(&it).len()), [0, 1, 1]);
}

#[test]
fn a_policy_waits_for_the_external_service_it_targets_and_is_told_to() {
    let mut translation = translation(&format!("{SHOP}{}", targeting("own", &["api"], "rules: [{}]")));
    let waits = [
        "AuthorizationPolicy shop/own spec.targetRefs[0]: ExternalService shop/api does not exist, so this entry \
                  waits for it and binds nothing.",
    ];
    assert_eq!(told(&translation), waits);
    add(&mut translation, &external("shop/api", "", API));
    assert_eq!(told(&translation), Vec::<String>::new());
    assert_eq!(judging(one(&translation)), ["own"]);
    remove(&mut translation, "ExternalService", "shop", "api");
    assert_eq!(told(&translation), waits);
}

#[test]
fn a_targeted_external_service_without_a_waypoint_is_told_for_rules_about_requests() {
    let get = targeting("get", &["api"], "rules: [{to: [{operation: {methods: [GET]}}]}]");
    let mut translation = translation(&format!("{SHOP}{WAYPOINT}{get}{}", external("shop/api", "", API)));
    let about = told(&translation);
    assert!(
        about[0].contains("no waypoint stands before ExternalService shop/api: such requests are refused"),
        "{about:?}"
    );
    add(
        &mut translation,
        &external("shop/api", ", labels: {weft.dev/use-waypoint: way}", API),
    );
    assert_eq!(told(&translation), Vec::<String>::new());
    // Its waypoint changes, and takes only what is addressed to pods.
    let of_pods = "name: way, namespace: shop, labels: {weft.dev/waypoint-for: workload}";
    add(
        &mut translation,
        &WAYPOINT.replace("name: way, namespace: shop", of_pods),
    );
    assert!(told(&translation).contains(&about[0]), "{:?}", told(&translation));
    add(&mut translation, WAYPOINT);
    assert_eq!(told(&translation), Vec::<String>::new());
    add(&mut translation, &external("shop/api", "", API));
    assert_eq!(told(&translation), about);
}
