//! What one object's change costs in a mesh of 100,000 pods and 10,000 Services: translated and published.
//! `make bench`; compare runs on one machine, absolute times mean nothing elsewhere.

use std::{hint::black_box, sync::Arc};

use act::config::{Change, Feed, Object};
use criterion::{Criterion, criterion_group, criterion_main};
use decide::model::MeshSettings;
use serde_json::{Value, json};

const PODS: u32 = 100_000;
const NAMESPACES: u32 = 500;

fn put(value: &Value) -> Change {
    let object = Object::parse(value).expect("readable").expect("known");
    Change::Put(Box::new(object), Arc::default())
}

/// A pod of one of 10,000 applications of ten pods each.
fn pod(index: u32, ready: bool) -> Change {
    let app = index / 10;
    let ready = if ready { "True" } else { "False" };
    let address = format!("10.{}.{}.{}", index >> 16, (index >> 8) & 255, index & 255);
    put(&json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": format!("pod-{index}"), "namespace": format!("ns-{}", app % NAMESPACES),
            "uid": format!("uid-{index}"), "labels": {"app": format!("app-{app}")},
        },
        "spec": {"nodeName": format!("node-{}", index % 1000), "serviceAccountName": "default"},
        "status": {"phase": "Running", "podIP": address, "conditions": [{"type": "Ready", "status": ready}]},
    }))
}

fn service(app: u32) -> Change {
    put(&json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("app-{app}"), "namespace": format!("ns-{}", app % NAMESPACES)},
        "spec": {
            "clusterIP": format!("172.16.{}.{}", app >> 8, app & 255),
            "selector": {"app": format!("app-{app}")}, "ports": [{"port": 80, "targetPort": 8080}],
        },
    }))
}

fn namespace(index: u32) -> Change {
    put(&json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": format!("ns-{index}"), "labels": {"weft.dev/dataplane-mode": "ambient"}},
    }))
}

fn changes(criterion: &mut Criterion) {
    let (mut feed, reader) = Feed::new(MeshSettings::default());
    let objects = (0..NAMESPACES).map(namespace).chain((0..PODS / 10).map(service));
    feed.apply(
        objects
            .chain((0..PODS).map(|index| pod(index, true)))
            .chain([Change::Complete])
            .collect(),
    );
    let both = [vec![pod(77_777, false)], vec![pod(77_777, true)]];
    let mut turn = 0;
    criterion.bench_function("feed/one-pod-changes-of-100000", |bench| {
        bench.iter(|| {
            turn += 1;
            feed.apply(both[turn % 2].clone());
            black_box(reader.load());
        });
    });
}

criterion_group!(benches, changes);
criterion_main!(benches);
