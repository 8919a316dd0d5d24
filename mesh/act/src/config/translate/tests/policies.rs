use decide::model::{Action, MtlsMode};

use super::*;

fn policy(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "---\n{{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}\n"
    )
}

fn peers(namespace: &str, name: &str, spec: &str) -> String {
    policy(namespace, name, spec).replace("AuthorizationPolicy", "PeerAuthentication")
}

fn shop() -> String {
    format!(
        "{SHOP}{WEB}{}{}{}",
        pod("shop", "web", "10.1.0.2", ""),
        pod("shop", "db", "10.1.0.3", ""),
        pod("other", "web", "10.1.0.4", "").replace("uid-web", "uid-other")
    )
}

#[test]
fn a_policy_binds_by_selector_in_its_namespace_and_from_the_root_namespace_in_all() {
    let yaml = format!(
        "{}{}{}{}{}",
        shop(),
        policy("shop", "all", "{rules: [{}]}"),
        policy(
            "shop",
            "web-only",
            "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{}]}"
        ),
        policy("weft-system", "mesh", "{action: DENY, rules: [{}]}"),
        policy("weft-system", "mesh-db", "{selector: {matchLabels: {app: db}}}"),
    );
    let translation = translation(&yaml);
    assert_eq!(applied(workload(&translation, "shop/web")), ["web-only", "mesh", "all"]);
    assert_eq!(applied(workload(&translation, "shop/db")), ["mesh", "all", "mesh-db"]);
    assert_eq!(applied(workload(&translation, "other/web")), ["mesh"]);
}

#[test]
fn a_policy_that_targets_a_service_binds_it_and_the_ports_behind_it() {
    let yaml = format!(
        "{}{}",
        shop(),
        policy(
            "shop",
            "target",
            "{targetRefs: [{group: '', kind: Service, name: web}], action: DENY, rules: [{to: [{operation: {ports: ['8080']}}]}]}"
        )
    );
    let mut translation = translation(&yaml);
    assert_eq!(applied(workload(&translation, "shop/web")), ["target [8080]"]);
    assert!(applied(workload(&translation, "shop/db")).is_empty());
    let of_service = &service(&translation, "shop/web").policies.policies;
    assert_eq!((of_service.len(), of_service[0].ports.clone()), (1, None));
    add(
        &mut translation,
        &WEB.replace("name: web,", "name: two,")
            .replace("8080", "9090")
            .replace("10.2.0.1", "10.2.0.2"),
    );
    add(
        &mut translation,
        &policy(
            "shop",
            "target",
            "{targetRefs: [{kind: Service, name: web}, {kind: Service, name: two}], action: DENY, rules: [{}]}",
        ),
    );
    assert_eq!(applied(workload(&translation, "shop/web")), ["target [8080, 9090]"]);
    remove(&mut translation, "Service", "shop", "web");
    assert_eq!(applied(workload(&translation, "shop/web")), ["target [9090]"]);
    assert!(told(&translation)[0].contains("spec.targetRefs[0]: Service shop/web does not exist"));
}

#[test]
fn a_policy_that_targets_a_waypoint_binds_all_that_is_bound_to_it() {
    let target = "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}], rules: [{to: [{operation: {methods: [GET]}}]}]}";
    let mut translation = translation(&format!("{}{WAYPOINT}{}", shop(), policy("shop", "l7", target)));
    assert!(applied(workload(&translation, "shop/web")).is_empty());
    add(
        &mut translation,
        &WEB.replace(
            "namespace: shop",
            "namespace: shop, labels: {weft.dev/use-waypoint: way}",
        ),
    );
    assert_eq!(applied(workload(&translation, "shop/web")), ["l7 [8080]"]);
    assert_eq!(bound(workload(&translation, "shop/web")), ["shop/way [8080]"]);
    assert_eq!(service(&translation, "shop/web").policies.policies.len(), 1);
    assert!(applied(workload(&translation, "shop/db")).is_empty());
    assert!(told(&translation).is_empty(), "{:?}", told(&translation));
    add(
        &mut translation,
        &WAYPOINT.replace(
            "name: way, namespace: shop",
            "name: way, namespace: shop, labels: {weft.dev/waypoint-for: all}",
        ),
    );
    add(
        &mut translation,
        &pod("shop", "db", "10.1.0.3", "").replace("app: db", "app: db, weft.dev/use-waypoint: way"),
    );
    assert_eq!(applied(workload(&translation, "shop/db")), ["l7"]);
    assert_eq!(bound(workload(&translation, "shop/db")), ["shop/way"]);
    remove(&mut translation, "Gateway", "shop", "way");
    assert!(applied(workload(&translation, "shop/web")).is_empty());
    assert!(bound(workload(&translation, "shop/web")).is_empty());
    assert!(
        told(&translation)
            .iter()
            .any(|it| it.contains("spec.targetRefs[0]: Gateway shop/way does not exist"))
    );
}

#[test]
fn what_binds_by_selector_and_by_service_binds_every_port() {
    let yaml = format!(
        "{}{WAYPOINT}{}{}",
        shop().replace(
            "metadata: {name: web, namespace: shop}",
            "metadata: {name: web, namespace: shop, labels: {weft.dev/use-waypoint: way}}"
        ),
        policy(
            "shop",
            "a",
            "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}, {kind: Service, name: web}]}"
        ),
        policy("shop", "b", "{}"),
    );
    let translation = translation(&yaml);
    assert_eq!(applied(workload(&translation, "shop/web")), ["a [8080]", "b"]);
    assert_eq!(service(&translation, "shop/web").policies.policies.len(), 1);
}

#[test]
fn a_broken_selector_selects_the_whole_namespace_and_allows_nothing() {
    for (spec, field) in [
        (
            "{selector: {matchLabel: {app: web}}, rules: [{}]}",
            "spec.selector.matchLabel",
        ),
        (
            "{selector: {matchLabels: {app: 7}}, rules: [{}]}",
            "spec.selector.matchLabels.app",
        ),
        ("{selector: null, rules: [{}]}", "spec.selector"),
        (
            "{selector: {matchLabels: null}, rules: [{}]}",
            "spec.selector.matchLabels",
        ),
        ("{targetRefs: [], rules: [{}]}", "spec.targetRefs"),
        (
            "{selector: {}, targetRefs: [{kind: Service, name: web}], rules: [{}]}",
            "spec.selector",
        ),
    ] {
        let translation = translation(&format!("{}{}", shop(), policy("shop", "bad", spec)));
        for name in ["shop/web", "shop/db"] {
            let policies = &workload(&translation, name).policies.policies;
            assert_eq!(policies[0].policy.rules[0].broken.as_deref(), Some(field), "{spec}");
            assert_eq!(policies[0].policy.action, Action::Allow);
        }
        assert!(
            told(&translation)[0].starts_with(&format!("AuthorizationPolicy shop/bad {field}: ")),
            "{:?}",
            told(&translation)
        );
    }
    let deny = "{action: DENY, selector: {x: 1}, rules: [{}]}";
    let translation = translation(&format!("{}{}", shop(), policy("shop", "bad", deny)));
    let rule = &workload(&translation, "shop/db").policies.policies[0].policy.rules[0];
    assert_eq!(rule.broken, None);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn of_peer_authentications_the_most_specific_counts_and_of_those_the_oldest() {
    use MtlsMode::{Permissive, Strict};
    let mode = |translation: &Translation, name: &str, port: u16| {
        let mtls = &workload(translation, name).policies.mtls;
        let (mode, by) = mtls.mode(port);
        (mode, by.map(|by| by.to_string()))
    };
    let by = |name: &str, field: &str| Some(format!("PeerAuthentication {name} {field}"));
    let mut translation = translation(&shop());
    assert_eq!(mode(&translation, "shop/web", 80), (Permissive, None));
    add(
        &mut translation,
        &peers("weft-system", "mesh", "{mtls: {mode: STRICT}}"),
    );
    assert_eq!(
        mode(&translation, "shop/web", 80),
        (Strict, by("weft-system/mesh", "spec.mtls.mode"))
    );
    assert_eq!(
        mode(&translation, "other/web", 80),
        (Strict, by("weft-system/mesh", "spec.mtls.mode"))
    );
    add(&mut translation, &peers("shop", "b", "{mtls: {mode: PERMISSIVE}}"));
    assert_eq!(
        mode(&translation, "shop/web", 80),
        (Permissive, by("shop/b", "spec.mtls.mode"))
    );
    assert_eq!(mode(&translation, "other/web", 80).0, Strict);
    add(&mut translation, &peers("shop", "a", "{mtls: {mode: UNSET}}"));
    assert_eq!(
        mode(&translation, "shop/web", 80),
        (Strict, by("weft-system/mesh", "spec.mtls.mode"))
    );
    assert!(
        told(&translation)[0].starts_with("PeerAuthentication shop/b : PeerAuthentication shop/a is older"),
        "{:?}",
        told(&translation)
    );
    let ports =
        "{selector: {matchLabels: {app: web}}, portLevelMtls: {'8080': {mode: PERMISSIVE}, '90': {mode: UNSET}}}";
    add(&mut translation, &peers("shop", "w", ports));
    assert_eq!(
        mode(&translation, "shop/web", 8080),
        (Permissive, by("shop/w", "spec.portLevelMtls.8080.mode"))
    );
    assert_eq!(mode(&translation, "shop/web", 90).0, Strict);
    assert_eq!(mode(&translation, "shop/db", 8080).0, Strict);
    let younger = peers(
        "shop",
        "v",
        "{selector: {matchLabels: {app: web}}, mtls: {mode: PERMISSIVE}}",
    );
    add(
        &mut translation,
        &younger.replace("name: v", "name: v, creationTimestamp: '2026-01-01T00:00:00Z'"),
    );
    assert_eq!(
        mode(&translation, "shop/web", 90),
        (Permissive, by("shop/v", "spec.mtls.mode"))
    );
    assert!(
        told(&translation)
            .iter()
            .any(|it| it.starts_with("PeerAuthentication shop/w spec.selector: also selects Pod shop/web"))
    );
    remove(&mut translation, "PeerAuthentication", "shop", "v");
    remove(&mut translation, "PeerAuthentication", "shop", "a");
    assert_eq!(
        mode(&translation, "shop/web", 90),
        (Permissive, by("shop/b", "spec.mtls.mode"))
    );
    assert!(told(&translation).is_empty(), "{:?}", told(&translation));
}

#[test]
fn a_peer_authentication_that_cannot_be_read_is_strict() {
    for (spec, field) in [
        ("{mtls: {mode: STIRCT}}", "spec.mtls.mode"),
        ("{mtls: {mode: DISABLE}}", "spec.mtls.mode"),
        ("{mtls: {mdoe: PERMISSIVE}}", "spec.mtls.mdoe"),
        ("{mtls: null}", "spec.mtls"),
        ("{mtsl: {mode: PERMISSIVE}}", "spec.mtsl"),
        (
            "{selector: {matchLabel: {app: db}}, mtls: {mode: PERMISSIVE}}",
            "spec.selector.matchLabel",
        ),
        ("{portLevelMtls: {'80a': {mode: PERMISSIVE}}}", "spec.portLevelMtls.80a"),
        ("{portLevelMtls: {'0': {mode: PERMISSIVE}}}", "spec.portLevelMtls.0"),
        (
            "{mtls: {mode: PERMISSIVE}, portLevelMtls: {'80': {mode: strict}}}",
            "spec.portLevelMtls.80.mode",
        ),
        ("{portLevelMtls: []}", "spec.portLevelMtls"),
    ] {
        let translation = translation(&format!("{}{}", shop(), peers("shop", "bad", spec)));
        let mtls = &workload(&translation, "shop/web").policies.mtls;
        let (mode, by) = mtls.mode(80);
        assert_eq!(
            (mode, &*by.expect("a decider").field),
            (MtlsMode::Strict, field),
            "{spec}"
        );
        assert!(
            told(&translation)[0].starts_with(&format!("PeerAuthentication shop/bad {field}: ")),
            "{:?}",
            told(&translation)
        );
    }
}

#[test]
fn another_root_namespace_binds_the_mesh_anew() {
    let mut translation = translation(&format!("{}{}", shop(), policy("other", "root", "{}")));
    assert!(applied(workload(&translation, "shop/web")).is_empty());
    add(
        &mut translation,
        "{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {name: default}, spec: {rootNamespace: other}}",
    );
    assert_eq!(applied(workload(&translation, "shop/web")), ["root"]);
}
