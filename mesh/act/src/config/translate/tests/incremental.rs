use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Versions of objects that depend on one another in every way the translation knows.
fn pool() -> Vec<Vec<Object>> {
    let one = |yaml: String| objects(&yaml).remove(0);
    let namespace = |name: &str, labels: &str| {
        one(format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: {{{labels}}}}}}}"
        ))
    };
    let account = |labels: &str| {
        one(format!(
            "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: web, namespace: shop, labels: {{{labels}}}}}}}"
        ))
    };
    let service = |namespace: &str, name: &str, labels: &str, spec: &str| {
        one(format!(
            "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}, spec: {{{spec}}}}}"
        ))
    };
    let pod = |namespace: &str, name: &str, metadata: &str, spec: &str, status: &str| {
        one(format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, {metadata}}}, spec: {{{spec}}}, status: {{{status}}}}}"
        ))
    };
    let gateway = |namespace: &str, class: &str, label: &str, from: &str| {
        one(format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: way, namespace: {namespace}, labels: {{weft.dev/waypoint-for: {label}}}}}, \
             spec: {{gatewayClassName: {class}, listeners: [{{name: mesh, port: 15008, protocol: HBONE, allowedRoutes: {{namespaces: {{from: {from}, selector: {{matchLabels: {{team: a}}}}}}}}}}]}}}}"
        ))
    };
    let ours = |kind: &str, namespace: &str, name: &str, spec: &str| {
        one(format!(
            "{{apiVersion: weft.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"
        ))
    };
    let route = |namespace: &str, name: &str, spec: &str| {
        one(format!(
            "{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"
        ))
    };
    let slice = |name: &str, endpoints: &str| {
        one(format!(
            "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: shop, labels: {{kubernetes.io/service-name: db}}}}, \
             ports: [{{port: 5432}}], endpoints: [{endpoints}]}}"
        ))
    };
    let policy = "AuthorizationPolicy";
    let peers = "PeerAuthentication";
    let running = "phase: Running, podIP: 10.1.0.1";
    let use_way = "weft.dev/use-waypoint: way";
    let use_infra = "weft.dev/use-waypoint: way, weft.dev/use-waypoint-namespace: infra";
    vec![
        vec![
            namespace("shop", "weft.dev/dataplane-mode: ambient"),
            namespace("shop", &format!("team: a, {use_way}")),
            namespace("shop", &format!("weft.dev/dataplane-mode: ambient, {use_infra}")),
            namespace("shop", "weft.dev/dataplane-mode: nonsense, weft.dev/use-waypoint: auto"),
        ],
        vec![namespace("infra", ""), namespace("infra", "weft.dev/dataplane-mode: ambient")],
        vec![account(""), account(use_way), account("weft.dev/use-waypoint: none")],
        vec![
            service("shop", "web", "", "clusterIP: 10.2.0.1, selector: {app: web}, ports: [{port: 80, targetPort: http}]"),
            service("shop", "web", use_way, "clusterIP: 10.2.0.2, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]"),
            service("shop", "web", use_infra, "clusterIP: 10.2.0.1, selector: {app: db}, ports: [{port: 81}]"),
            service("shop", "web", "", "type: ExternalName, ports: [{port: 80}]"),
        ],
        vec![
            service("shop", "db", "", "clusterIP: 10.2.0.1, selector: {app: db}, ports: [{port: 5432}]"),
            service("shop", "db", "weft.dev/use-waypoint: none", "clusterIP: None, ports: [{port: 5432}]"),
        ],
        vec![service("infra", "db", "", "clusterIP: 10.2.0.3, ports: [{port: 5432}]")],
        vec![
            pod("shop", "web", "uid: a, labels: {app: web}", "nodeName: n1, serviceAccountName: web, containers: [{ports: [{name: http, containerPort: 8080}]}]", running),
            pod("shop", "web", "uid: a, labels: {app: web, weft.dev/use-waypoint: way}", "nodeName: n1", "phase: Pending"),
            pod("shop", "web", "uid: b, labels: {app: db}, deletionTimestamp: '2026-01-01T00:00:00Z'", "", running),
            pod("shop", "web", "uid: c, labels: {app: web, weft.dev/dataplane-mode: none}", "", "phase: Succeeded, podIP: 10.1.0.1"),
        ],
        vec![
            pod("shop", "db", "uid: b, labels: {app: db}", "serviceAccountName: web", "phase: Running, podIP: 10.1.0.2"),
            pod("shop", "db", "uid: d, labels: {app: db}, creationTimestamp: '2026-01-01T00:00:00Z'", "hostNetwork: true", "phase: Running, podIP: 10.1.0.2"),
            pod("shop", "db", "uid: d, labels: {app: db}, creationTimestamp: '2026-01-01T00:00:00Z'", "serviceAccountName: 'b/d'", running),
        ],
        vec![
            pod("shop", "way-1", "uid: w1, labels: {gateway.networking.k8s.io/gateway-name: way, app: web}", "serviceAccountName: way", "phase: Running, podIP: 10.1.0.9"),
            pod("shop", "way-1", "uid: w1, labels: {gateway.networking.k8s.io/gateway-name: way}", "serviceAccountName: other", "phase: Running, podIP: 10.1.0.9"),
        ],
        vec![pod("infra", "way-1", "uid: w2, labels: {gateway.networking.k8s.io/gateway-name: way}", "serviceAccountName: way", "phase: Running, podIP: 10.1.0.10")],
        vec![
            slice("s1", "{addresses: [10.1.0.1]}, {addresses: [10.9.0.1]}"),
            slice("s1", "{addresses: [10.1.0.2], targetRef: {kind: Pod, name: db}}"),
        ],
        vec![slice("s2", "{addresses: [10.1.0.1], conditions: {ready: false}, targetRef: {kind: Pod, name: web}}")],
        vec![
            gateway("shop", "weft-waypoint", "service", "Same"),
            gateway("shop", "weft-waypoint", "all", "None"),
            gateway("shop", "other", "all", "Same"),
        ],
        vec![
            gateway("infra", "weft-waypoint", "all", "Selector"),
            gateway("infra", "weft-waypoint", "service", "All"),
        ],
        vec![
            ours(policy, "shop", "p1", "{rules: [{to: [{operation: {methods: [GET]}}]}]}"),
            ours(policy, "shop", "p1", "{selector: {matchLabels: {app: web}}, action: DENY, rules: [{form: 1}]}"),
            ours(policy, "shop", "p1", "{selector: {matchLabel: 7}, rules: [{}]}"),
        ],
        vec![
            ours(policy, "shop", "p2", "{targetRefs: [{kind: Service, name: web}, {kind: Service, name: db}], rules: [{to: [{operation: {paths: [/a]}}]}]}"),
            ours(policy, "shop", "p2", "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}], rules: [{}]}"),
        ],
        vec![
            ours(policy, "infra", "p3", "{targetRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: way}]}"),
            ours(policy, "infra", "p3", "{selector: {matchLabels: {app: db}}, rules: [{from: [{source: {ipBlocks: [x]}}]}]}"),
        ],
        vec![
            ours(peers, "shop", "a", "{mtls: {mode: STRICT}}"),
            ours(peers, "shop", "a", "{selector: {matchLabels: {app: web}}, mtls: {mode: UNSET}}"),
        ],
        vec![
            ours(peers, "shop", "b", "{mtls: {mode: PERMISSIVE}}"),
            ours(peers, "shop", "b", "{selector: {matchLabels: {app: web}}, portLevelMtls: {'8080': {mode: STRICT}}}"),
        ],
        vec![ours(peers, "infra", "c", "{mtls: {mode: STRICT}}")],
        vec![
            ours("MeshConfig", "", "default", "{rootNamespace: infra}"),
            ours("MeshConfig", "", "default", "{trustDomain: example.org}"),
        ],
        vec![ours("MeshConfig", "", "other", "{}")],
        vec![ours("TrafficPolicy", "shop", "t", "{}")],
        vec![
            route("shop", "r1", "{parentRefs: [{group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: db, namespace: infra, port: 5432}, {name: db, port: 5432}]}]}"),
            route("shop", "r1", "{parentRefs: [{group: '', kind: Service, name: web, port: 80}], rules: [{filters: [{type: RequestMirror}]}]}"),
        ],
        vec![
            route("infra", "r2", "{parentRefs: [{group: '', kind: Service, name: web, namespace: shop}, {group: '', kind: Service, name: db}]}"),
            route("infra", "r2", "{parentRefs: [{group: '', kind: Service, name: db, namespace: shop}], rules: [{backendRefs: [{name: db, namespace: shop, port: 1}]}]}"),
        ],
        vec![one("{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: g, namespace: infra}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{kind: Service}]}}".to_owned())],
    ]
}

/// Changes: which object, and which version of it, or none.
fn changes() -> impl Strategy<Value = Vec<(usize, Option<usize>)>> {
    let objects = pool().len();
    let version = prop_oneof![4 => (0..4_usize).prop_map(Some), 1 => Just(None)];
    proptest::collection::vec((0..objects, version), 0..60)
}

fn change(pool: &[Vec<Object>], (object, version): (usize, Option<usize>)) -> Change {
    let versions = &pool[object];
    match version {
        Some(version) => put(versions[version % versions.len()].clone()),
        None => Change::Delete(versions[0].key()),
    }
}

/// Every policy set that says the same as before is the same `Arc`, every route and policy too.
fn assert_same_arcs(before: &Snapshot, after: &Snapshot) {
    for (uid, old) in before.workloads.iter() {
        // A UID that becomes another pod's is another workload.
        if let Some(new) = after.workloads.get(uid).filter(|new| new.name == old.name) {
            assert_eq!(old == new, Arc::ptr_eq(old, new), "workload {uid}");
            assert_eq!(
                old.policies == new.policies,
                Arc::ptr_eq(&old.policies, &new.policies),
                "policies of {uid}"
            );
        }
    }
    for (key, old) in before.services.iter() {
        if let Some(new) = after.services.get(key) {
            assert_eq!(old == new, Arc::ptr_eq(old, new), "Service {key}");
            assert_eq!(
                old.policies == new.policies,
                Arc::ptr_eq(&old.policies, &new.policies),
                "policies of {key}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_the_same_changes_comes_to_the_same_snapshot(changes in changes(), seed in any::<u64>()) {
        let pool = pool();
        let mut one_by_one = Translation::new(MeshSettings::default());
        let mut in_one_batch = Translation::new(MeshSettings::default());
        let mut last: BTreeMap<usize, (usize, Option<usize>)> = BTreeMap::new();
        for step in &changes {
            let before = one_by_one.snapshot().clone();
            one_by_one.change(change(&pool, *step));
            let news = one_by_one.settle();
            assert_same_arcs(&before, one_by_one.snapshot());
            prop_assert_eq!(news.is_some(), contents(&before) != contents(one_by_one.snapshot()));
            in_one_batch.change(change(&pool, *step));
            last.insert(step.0, *step);
        }
        in_one_batch.settle();
        // The final objects alone, in another order.
        let mut remaining: Vec<_> = last.into_values().filter(|(_, version)| version.is_some()).collect();
        let mut random = fastrand::Rng::with_seed(seed);
        random.shuffle(&mut remaining);
        let mut fresh = Translation::new(MeshSettings::default());
        for step in remaining {
            fresh.change(change(&pool, step));
        }
        fresh.settle();
        prop_assert_eq!(contents(one_by_one.snapshot()), contents(fresh.snapshot()));
        prop_assert_eq!(contents(in_one_batch.snapshot()), contents(fresh.snapshot()));
    }
}

/// 20 namespaces, each with 10 Services before 10 pods.
fn large() -> Translation {
    let mut yaml = String::new();
    for namespace in 0..20 {
        yaml.push_str(&format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: ns{namespace}, labels: {{weft.dev/dataplane-mode: ambient}}}}}}\n"));
        yaml.push_str(&format!(
            "---\n{{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {{name: all, namespace: ns{namespace}}}, spec: {{rules: [{{}}]}}}}\n"
        ));
        for app in 0..10 {
            yaml.push_str(&format!(
                "---\n{{apiVersion: v1, kind: Service, metadata: {{name: app{app}, namespace: ns{namespace}}}, spec: {{clusterIP: 10.2.{namespace}.{app}, selector: {{app: app{app}}}, ports: [{{port: 80}}]}}}}\n"
            ));
            for replica in 0..10 {
                yaml.push_str(&replica_of(namespace, app, replica, "Running"));
            }
        }
    }
    translation(&yaml)
}

fn replica_of(namespace: u32, app: u32, replica: u32, phase: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: app{app}-{replica}, namespace: ns{namespace}, labels: {{app: app{app}}}}}, \
         spec: {{nodeName: n{replica}}}, status: {{phase: {phase}, podIP: 10.{namespace}.{app}.{replica}}}}}\n"
    )
}

#[test]
fn a_change_in_a_mesh_of_2000_pods_touches_what_depends_on_it_alone() {
    let mut translation = large();
    assert_eq!(translation.snapshot().workloads.len(), 2000);
    let before = translation.snapshot().clone();
    let work = |services, workloads| Work {
        services,
        workloads,
        ..Work::default()
    };
    add(&mut translation, &replica_of(3, 4, 5, "Pending"));
    assert_eq!(translation.work, work(1, 1));
    let after = translation.snapshot().clone();
    let touched = |a: &Snapshot, b: &Snapshot| {
        let workloads = a
            .workloads
            .iter()
            .filter(|(uid, old)| b.workloads.get(*uid).is_none_or(|new| !Arc::ptr_eq(old, new)));
        let services = a
            .services
            .iter()
            .filter(|(key, old)| b.services.get(*key).is_none_or(|new| !Arc::ptr_eq(old, new)));
        (workloads.count(), services.count())
    };
    assert_eq!(touched(&before, &after), (1, 1));
    add(&mut translation, &replica_of(3, 4, 10, "Running"));
    assert_eq!(translation.work, work(1, 1));
    remove(&mut translation, "Pod", "ns3", "app4-5");
    assert_eq!(translation.work, work(1, 1));
    add(
        &mut translation,
        "{apiVersion: v1, kind: Service, metadata: {name: app4, namespace: ns3}, spec: {clusterIP: 10.2.3.4, selector: {app: app4}, ports: [{port: 80, targetPort: 8080}]}}",
    );
    assert_eq!(translation.work, work(1, 10));
    add(
        &mut translation,
        "{apiVersion: weft.dev/v1alpha1, kind: AuthorizationPolicy, metadata: {name: one, namespace: ns7}, spec: {selector: {matchLabels: {app: app1}}}}",
    );
    assert_eq!(
        translation.work,
        Work {
            policies: 1,
            ..work(0, 10)
        }
    );
    add(&mut translation, "{apiVersion: v1, kind: Node, metadata: {name: n1}}");
    assert_eq!(translation.work, work(0, 0));
}

#[test]
fn the_same_again_is_no_news() {
    let mut translation = translation(&format!("{SHOP}{WEB}{WAYPOINT}"));
    let version = translation.snapshot().version;
    for object in objects(&format!("{SHOP}{WEB}{WAYPOINT}")) {
        translation.change(put(object));
    }
    assert!(translation.settle().is_none());
    assert_eq!(translation.work, Work::default());
    translation.change(Change::Complete);
    assert!(
        translation
            .settle()
            .is_some_and(|snapshot| snapshot.complete && snapshot.version == version + 1)
    );
    translation.change(Change::Complete);
    assert!(translation.settle().is_none());
}
