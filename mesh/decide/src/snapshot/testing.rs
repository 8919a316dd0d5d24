//! Small worlds for tests: plain functions that make one object each, and a snapshot of all of them.

use std::{net::IpAddr, sync::Arc};

use super::Snapshot;
use crate::model::{
    BoundWaypoint, Capture, Endpoint, ExternalService, Fence, Identity, Labels, MeshSettings, Phase, PolicySet,
    Resolution, Service, ServiceKey, ServicePort, Visibility, Waypoint, WaypointEndpoint, WaypointFor, WaypointKey,
    Workload, ports,
};

/// A captured, ready pod on `node-1`, running as the service account of its own name.
pub(crate) fn pod(namespace: &str, name: &str, address: &str) -> Workload {
    Workload {
        uid: format!("{namespace}.{name}").into(),
        name: name.into(),
        namespace: namespace.into(),
        node: "node-1".into(),
        identity: Identity::new("cluster.local", namespace, name).expect("an identity"),
        addresses: vec![ip(address)],
        labels: Labels::default(),
        owner: name.into(),
        ports: Vec::new(),
        probed: Vec::new(),
        fence: Fence::default(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        policies: Arc::default(),
    }
}

/// A Service with one port in front of pods that listen on another.
pub(crate) fn service(namespace: &str, name: &str, address: &str, port: (u16, u16), pods: &[&Workload]) -> Service {
    Service {
        key: service_key(namespace, name),
        addresses: vec![ip(address)],
        ports: vec![ServicePort {
            name: "http".into(),
            port: port.0,
            app_protocol: Some("http".into()),
        }],
        endpoints: pods.iter().map(|pod| endpoint(pod, port)).collect(),
        publish_not_ready: false,
        tiers: Arc::default(),
        waypoint: None,
        policies: Arc::default(),
        routes: Arc::new([]),
    }
}

/// A ready endpoint at a pod.
pub(crate) fn endpoint(pod: &Workload, port: (u16, u16)) -> Endpoint {
    Endpoint {
        workload: Some(pod.uid.clone()),
        address: pod.addresses[0],
        node: Some(pod.node.clone()),
        ports: [port].into(),
        ready: true,
        leaving: false,
    }
}

/// An ExternalService of a namespace with these hosts and networks, to whose connections nothing is done.
pub(crate) fn external(namespace: &str, name: &str, hosts: &[&str], networks: &[&str]) -> ExternalService {
    let network = |text: &&str| {
        let single = || text.parse::<IpAddr>().map(Into::into);
        text.parse().or_else(|_| single()).expect("a network")
    };
    ExternalService {
        key: service_key(namespace, name),
        hosts: hosts.iter().map(|host| Arc::from(*host)).collect(),
        networks: networks.iter().map(network).collect(),
        ports: Vec::new(),
        resolution: Resolution::None,
        endpoints: Arc::default(),
        visibility: Visibility::Namespace,
        waypoint: None,
        policies: Arc::default(),
        broken: None,
    }
}

/// A waypoint served by these pods.
pub(crate) fn waypoint(namespace: &str, name: &str, takes: WaypointFor, pods: &[&Workload]) -> Waypoint {
    Waypoint {
        key: waypoint_key(namespace, name),
        identity: Identity::new("cluster.local", namespace, name).expect("an identity"),
        takes,
        endpoints: pods
            .iter()
            .map(|pod| WaypointEndpoint {
                workload: pod.uid.clone(),
                address: (pod.addresses[0], ports::HBONE).into(),
                node: pod.node.clone(),
            })
            .collect(),
    }
}

/// The pod of a waypoint: it serves HBONE itself, as the waypoint's identity.
pub(crate) fn waypoint_pod(namespace: &str, name: &str, address: &str) -> Workload {
    Workload {
        name: format!("{name}-0").into(),
        uid: format!("{namespace}.{name}-0").into(),
        capture: Capture::Native,
        serves: Some(waypoint_key(namespace, name)),
        ..pod(namespace, name, address)
    }
}

/// What a workload's policies say of a waypoint that stands in front of these ports of it.
pub(crate) fn bound_waypoint(namespace: &str, name: &str, ports: Option<&[u16]>) -> BoundWaypoint {
    BoundWaypoint {
        key: waypoint_key(namespace, name),
        identity: Identity::new("cluster.local", namespace, name).expect("an identity"),
        ports: ports.map(Into::into),
    }
}

/// A complete snapshot; pods live in 10.1.0.0/16, Services in 10.2.0.0/16.
pub(crate) fn snapshot(workloads: &[&Workload], services: &[&Service], waypoints: &[&Waypoint]) -> Snapshot {
    let mut snapshot = Snapshot::empty(Arc::new(MeshSettings {
        pod_ranges: vec!["10.1.0.0/16".parse().expect("a network")],
        service_ranges: vec!["10.2.0.0/16".parse().expect("a network")],
        ..MeshSettings::default()
    }));
    snapshot.complete = true;
    for workload in workloads {
        snapshot.put_workload(Arc::new((*workload).clone()));
    }
    for service in services {
        snapshot.put_service(Arc::new((*service).clone()));
    }
    for waypoint in waypoints {
        snapshot
            .waypoints
            .insert(waypoint.key.clone(), Arc::new((*waypoint).clone()));
    }
    snapshot
}

pub(crate) fn service_key(namespace: &str, name: &str) -> ServiceKey {
    ServiceKey {
        namespace: namespace.into(),
        name: name.into(),
    }
}

pub(crate) fn waypoint_key(namespace: &str, name: &str) -> WaypointKey {
    WaypointKey {
        namespace: namespace.into(),
        name: name.into(),
    }
}

/// A policy set holding these policies on every port and these waypoints.
pub(crate) fn policies(policies: Vec<crate::model::Policy>, waypoints: Vec<BoundWaypoint>) -> Arc<PolicySet> {
    Arc::new(PolicySet {
        policies: policies
            .into_iter()
            .map(|policy| crate::model::AppliedPolicy {
                policy: Arc::new(policy),
                ports: None,
            })
            .collect(),
        waypoints,
        ..PolicySet::default()
    })
}

/// An ALLOW policy of one rule: these methods only (none: any), from these principals only (none: any).
pub(crate) fn allow(namespace: &str, name: &str, methods: &[&str], principals: &[&str]) -> crate::model::Policy {
    use crate::model::{Action, ObjectRef, Operation, Policy, Rule, Source, StringMatch};
    let exact = |values: &[&str]| {
        values
            .iter()
            .map(|it| StringMatch::Exact((*it).into()))
            .collect::<Vec<_>>()
    };
    let to = Operation {
        methods: exact(methods),
        ..Operation::default()
    };
    let from = Source {
        principals: exact(principals),
        ..Source::default()
    };
    Policy {
        object: ObjectRef {
            kind: "AuthorizationPolicy".into(),
            namespace: namespace.into(),
            name: name.into(),
        },
        action: Action::Allow,
        rules: vec![Rule {
            from: if principals.is_empty() { Vec::new() } else { vec![from] },
            to: if methods.is_empty() { Vec::new() } else { vec![to] },
            ..Rule::default()
        }],
        dry_run: false,
        broken: None,
    }
}

pub(crate) fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}
