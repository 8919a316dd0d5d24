use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// Versions of objects, by object.
fn pool() -> Vec<Vec<Object>> {
    let mut pool: Vec<Vec<Object>> = Vec::new();
    for object in objects(include_str!("pool.yaml")) {
        match pool.last_mut() {
            Some(versions) if versions[0].key() == object.key() => versions.push(object),
            _ => pool.push(vec![object]),
        }
    }
    pool
}

/// Changes: which object, and which version of it, or none.
fn changes() -> impl Strategy<Value = Vec<(usize, Option<usize>)>> {
    let objects = pool().len();
    let version = prop_oneof![2 => (0..4_usize).prop_map(Some), 1 => Just(None)];
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
    for old in before.external.values() {
        if let Some(new) = after.external.get(&old.key) {
            assert_eq!(old == new, Arc::ptr_eq(old, new), "ExternalService {}", old.key);
            assert_eq!(
                old.policies == new.policies,
                Arc::ptr_eq(&old.policies, &new.policies),
                "policies of {}",
                old.key
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
