//! What telling of a connection costs: labels are resolved once per label set, hashed once per connection, and not
//! looked at again while it lives. `make microbench`; absolute times mean nothing elsewhere.

use std::{hint::black_box, sync::Arc};

use act::telemetry::{Connection, FlowLabels, FlowOptions, Outcome, Party, Reporter, Security};
use criterion::{Criterion, criterion_group, criterion_main};
use decide::model::{Addressed, Capture, Fence, Identity, Labels, Phase, ServiceKey, Workload};

fn party(index: usize) -> Party {
    let name: Arc<str> = format!("server-{index}").into();
    let identity = Identity::new("cluster.local", "shop", &name).expect("an identity");
    let labels: Labels = [
        ("app.kubernetes.io/name".into(), name.clone()),
        ("app.kubernetes.io/version".into(), "v1".into()),
    ]
    .into_iter()
    .collect();
    let workload = Workload {
        uid: name.clone(),
        name: name.clone(),
        namespace: "shop".into(),
        node: "node-1".into(),
        identity: identity.clone(),
        addresses: Vec::new(),
        labels,
        owner: name,
        ports: Vec::new(),
        probed: Vec::new(),
        fence: Fence::default(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        policies: Arc::default(),
    };
    Party {
        workload: Some(Arc::new(workload)),
        identity: Some(identity),
        address: "10.0.0.1:80".parse().ok(),
    }
}

fn flows(criterion: &mut Criterion) {
    let _metrics = FlowOptions::default().install();
    let client = party(0);
    let all: Vec<FlowLabels> = (0..1000)
        .map(|index| FlowLabels {
            source: client.clone(),
            destination: party(index),
            service: Some(Addressed::Service(ServiceKey {
                namespace: "shop".into(),
                name: "web".into(),
            })),
            security: Security::MutualTls,
            ..FlowLabels::new(Reporter::Source)
        })
        .collect();
    let mut next = all.iter().cycle();
    criterion.bench_function("a connection told from open to close, 1000 label sets", |bencher| {
        bencher.iter(|| {
            let labels = next.next().expect("endless").clone();
            let mut connection = Connection::open(labels);
            connection.count(100, 100);
            connection.finish(black_box(&Outcome::Closed));
        });
    });
    let mut living = Connection::open(FlowLabels::new(Reporter::Source));
    criterion.bench_function("bytes of a living connection counted", |bencher| {
        bencher.iter(|| living.count(black_box(100), black_box(100)));
    });
}

criterion_group!(benches, flows);
criterion_main!(benches);
