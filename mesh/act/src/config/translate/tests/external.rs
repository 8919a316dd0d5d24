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
