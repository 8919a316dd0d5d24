//! What a decision costs in a mesh of 100,000 workloads, and what one pod's change costs.
//! `make microbench`; compare runs on one machine, absolute times mean nothing elsewhere.

use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
};

use criterion::{Criterion, criterion_group, criterion_main};
use decide::{
    hop::hop,
    model::{
        Action, AppliedPolicy, Capture, Endpoint, Fence, Identity, Labels, Locality, MeshSettings, ObjectRef, Phase,
        Policy, PolicySet, Rule, Service, ServiceKey, ServicePort, Source, StringMatch, Tiers, Workload,
    },
    pick::Choice,
    snapshot::Snapshot,
    verdict::admit,
};

const WORKLOADS: u32 = 100_000;
const SERVICES: u32 = 10_000;

fn address(index: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + index))
}

fn service_address(index: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0aff_0000 + index))
}

fn workload(index: u32, policies: &Arc<PolicySet>) -> Arc<Workload> {
    let namespace: Arc<str> = format!("ns-{}", index % 500).into();
    Arc::new(Workload {
        uid: format!("uid-{index}").into(),
        name: format!("pod-{index}").into(),
        namespace: namespace.clone(),
        node: format!("node-{}", index % 1000).into(),
        identity: Identity::new("cluster.local", &namespace, "default").expect("well-formed"),
        addresses: vec![address(index)],
        labels: Labels::default(),
        owner: "deployment".into(),
        ports: Vec::new(),
        probed: Vec::new(),
        fence: Fence::default(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        policies: policies.clone(),
    })
}

fn service(index: u32) -> Arc<Service> {
    service_of(index, 10)
}

/// A Service with so many endpoints, on as many nodes, in three zones that are preferred.
fn service_of(index: u32, count: u32) -> Arc<Service> {
    let mut tiers = Tiers::default();
    if count > 10 {
        for zone in 0..3 {
            let there = (0..count).filter(|at| at % 3 == zone).collect();
            tiers.zones.insert(format!("zone-{zone}").into(), there);
        }
    }
    let endpoints: Vec<_> = (0..count)
        .map(|at| Endpoint {
            workload: Some(format!("uid-{}", index * 10 + at).into()),
            address: address(index * 10 + at),
            node: None,
            ports: Box::new([(80, 8080)]),
            ready: true,
            leaving: false,
        })
        .collect();
    Arc::new(Service {
        key: ServiceKey {
            namespace: format!("ns-{}", index % 500).into(),
            name: format!("svc-{index}").into(),
        },
        addresses: vec![service_address(index)],
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            app_protocol: None,
        }],
        endpoints: endpoints.into(),
        publish_not_ready: false,
        tiers: Arc::new(tiers),
        waypoint: None,
        policies: Arc::default(),
        routes: Arc::new([]),
    })
}

/// Ten ALLOW policies of ten rules each; the last rule of the last policy is the one that matches.
fn policies() -> Arc<PolicySet> {
    let policy = |policy: usize| Policy {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: "ns-0".into(),
            name: format!("policy-{policy}").into(),
        },
        action: Action::Allow,
        rules: (0..10)
            .map(|rule| Rule {
                from: vec![Source {
                    principals: vec![StringMatch::Exact(
                        format!("cluster.local/ns/ns-{}/sa/default", 90 - policy * 10 - rule).into(),
                    )],
                    ..Source::default()
                }],
                ..Rule::default()
            })
            .collect(),
        dry_run: false,
        broken: None,
    };
    Arc::new(PolicySet {
        policies: (0..10)
            .map(|it| AppliedPolicy {
                policy: Arc::new(policy(it)),
                ports: None,
            })
            .collect(),
        ..PolicySet::default()
    })
}

fn mesh() -> Snapshot {
    let mut snapshot = Snapshot::empty(Arc::new(MeshSettings::default()));
    let none = Arc::default();
    (0..WORKLOADS).for_each(|index| snapshot.put_workload(workload(index, &none)));
    (0..SERVICES).for_each(|index| snapshot.put_service(service(index)));
    snapshot.complete = true;
    snapshot
}

fn decisions(criterion: &mut Criterion) {
    let snapshot = mesh();
    let source = workload(7, &Arc::default());
    let choice = Choice {
        random: 0x9e37_79b9_7f4a_7c15,
        load: &|_| 0,
        avoid: &[],
    };
    let to_pod = SocketAddr::new(address(77_777), 8080);
    let to_service = SocketAddr::new(service_address(7_777), 80);
    criterion.bench_function("hop/pod", |bench| {
        bench.iter(|| hop(&snapshot, &source, black_box(to_pod), &choice))
    });
    criterion.bench_function("hop/service-of-10", |bench| {
        bench.iter(|| hop(&snapshot, &source, black_box(to_service), &choice))
    });

    let mut large = snapshot.clone();
    large.put_service(service_of(20_000, 1_000));
    let zone_1 = Locality {
        zone: Some("zone-1".into()),
        region: None,
    };
    large.nodes.insert(source.node.clone(), Arc::new(zone_1));
    let to_large = SocketAddr::new(service_address(20_000), 80);
    criterion.bench_function("hop/service-of-1000-in-zones", |bench| {
        let mut random = 0_u64;
        bench.iter(|| {
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            hop(&large, &source, black_box(to_large), &Choice { random, ..choice })
        });
    });

    let (set, peer) = (
        policies(),
        Identity::new("cluster.local", "ns-0", "default").expect("well-formed"),
    );
    criterion.bench_function("verdict/10-policies-of-10-rules", |bench| {
        bench.iter(|| admit(&set, Some(black_box(&peer)), address(1), to_pod));
    });

    let mut changing = snapshot.clone();
    let changed = workload(77_777, &set);
    criterion.bench_function("snapshot/one-pod-changes-of-100000", |bench| {
        bench.iter(|| {
            let mut next = changing.clone();
            next.put_workload(changed.clone());
            changing = next;
        });
    });
}

criterion_group!(benches, decisions);
criterion_main!(benches);
