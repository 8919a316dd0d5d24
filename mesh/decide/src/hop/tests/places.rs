//! Near endpoints before far ones, leaving ones last, and destinations outside the mesh.

use std::collections::HashMap;

use super::*;
use crate::{
    model::{Endpoint, ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Resolution, Tiers, Visibility},
    snapshot::testing::external,
};

/// Endpoints a, b, c at 10.1.0.11 to 13, on nodes of their own names; a and b in zone one, c in zone two.
struct Zones {
    client: Workload,
    pods: Vec<Workload>,
    service: Service,
}

impl Zones {
    fn new(only_node: bool) -> Self {
        let pods: Vec<_> = [("a", "10.1.0.11"), ("b", "10.1.0.12"), ("c", "10.1.0.13")]
            .map(|(name, address)| Workload {
                node: name.into(),
                ..pod("demo", name, address)
            })
            .into();
        let mut service = service("demo", "web", "10.2.0.1", (80, 8080), &pods.iter().collect::<Vec<_>>());
        let tier = |name: &str, indexes: &[u32]| (Arc::from(name), indexes.into());
        service.tiers = Arc::new(Tiers {
            nodes: HashMap::from([tier("a", &[0]), tier("b", &[1]), tier("c", &[2])]),
            zones: HashMap::from([tier("one", &[0, 1]), tier("two", &[2])]),
            only_node,
        });
        Self {
            client: pod("demo", "client", "10.1.0.1"),
            pods,
            service,
        }
    }

    fn endpoint(&mut self, index: usize, change: impl Fn(&mut Endpoint)) {
        let mut endpoints = self.service.endpoints.to_vec();
        change(&mut endpoints[index]);
        self.service.endpoints = endpoints.into();
    }

    /// Last bytes of the addresses reached from a node of a zone, whatever the randomness.
    fn reached(&self, node: &str, zone: &str, avoid: &[SocketAddr]) -> Vec<u8> {
        let client = Workload {
            node: node.into(),
            ..self.client.clone()
        };
        let mut all: Vec<&Workload> = self.pods.iter().collect();
        all.push(&client);
        let mut snapshot = snapshot(&all, &[&self.service], &[]);
        snapshot.node_zones.insert(node.into(), zone.into());
        let last = |hop: Hop| match hop {
            Hop::Tunnel { to, .. } => match to.ip() {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => 0,
            },
            Hop::Refuse(Refusal::NoEndpoint(_)) => 255,
            other => panic!("{other:?}"),
        };
        let reached = (0..64_u64).map(|seed| {
            let choice = Choice {
                random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                avoid,
                ..FIRST
            };
            last(hop(&snapshot, &client, at("10.2.0.1:80"), &choice))
        });
        let reached: std::collections::BTreeSet<u8> = reached.collect();
        reached.into_iter().collect()
    }
}

#[test]
fn the_nearest_tier_with_a_usable_endpoint_takes_every_connection() {
    let mut zones = Zones::new(false);
    assert_eq!(zones.reached("a", "one", &[]), [11]);
    assert_eq!(zones.reached("other", "one", &[]), [11, 12]);
    assert_eq!(zones.reached("other", "two", &[]), [13]);
    assert_eq!(zones.reached("other", "three", &[]), [11, 12, 13]);
    zones.endpoint(0, |endpoint| endpoint.ready = false);
    assert_eq!(zones.reached("a", "one", &[]), [12]);
    zones.endpoint(1, |endpoint| endpoint.ready = false);
    assert_eq!(zones.reached("a", "one", &[]), [13]);
}

#[test]
fn a_pods_own_label_tells_its_zone_before_its_node_does() {
    let mut zones = Zones::new(false);
    zones.client.labels = Arc::new([("topology.kubernetes.io/zone".into(), "two".into())].into());
    assert_eq!(zones.reached("other", "one", &[]), [13]);
}

#[test]
fn what_failed_a_moment_ago_is_avoided_across_tiers_and_used_when_nothing_else_is_left() {
    let zones = Zones::new(false);
    let failed = ["10.1.0.11:8080", "10.1.0.12:8080", "10.1.0.13:8080"].map(at);
    assert_eq!(zones.reached("a", "one", &failed[..1]), [12]);
    assert_eq!(zones.reached("a", "one", &failed[..2]), [13]);
    assert_eq!(zones.reached("a", "one", &failed), [11]);
}

#[test]
fn local_traffic_stays_on_its_node_or_is_refused() {
    let mut zones = Zones::new(true);
    assert_eq!(zones.reached("b", "one", &[]), [12]);
    assert_eq!(zones.reached("other", "one", &[]), [255]);
    zones.endpoint(1, |endpoint| endpoint.ready = false);
    assert_eq!(zones.reached("b", "one", &[]), [255]);
    zones.endpoint(1, |endpoint| endpoint.leaving = true);
    assert_eq!(zones.reached("b", "one", &[]), [12]);
}

#[test]
fn an_endpoint_that_leaves_is_used_only_when_none_is_ready() {
    let mut zones = Zones::new(false);
    zones.service.tiers = Arc::default();
    for index in [0, 1] {
        zones.endpoint(index, |endpoint| {
            endpoint.ready = false;
            endpoint.leaving = true;
        });
    }
    assert_eq!(zones.reached("a", "one", &[]), [13]);
    zones.endpoint(2, |endpoint| endpoint.ready = false);
    assert_eq!(zones.reached("a", "one", &[]), [11, 12]);
}

#[test]
fn unready_endpoints_that_one_service_publishes_are_no_endpoints_of_another() {
    let mut zones = Zones::new(false);
    zones.service.tiers = Arc::default();
    (0..3).for_each(|index| zones.endpoint(index, |endpoint| endpoint.ready = false));
    let published = Service {
        key: service_key("demo", "peers"),
        addresses: vec![ip("10.2.0.2")],
        publish_not_ready: true,
        ..zones.service.clone()
    };
    let mut all: Vec<&Workload> = zones.pods.iter().collect();
    all.push(&zones.client);
    let snapshot = snapshot(&all, &[&zones.service, &published], &[]);
    assert!(tunnel_to(&go(&snapshot, &zones.client, "10.2.0.2:80")).is_some());
    assert_eq!(
        go(&snapshot, &zones.client, "10.2.0.1:80"),
        Hop::Refuse(Refusal::NoEndpoint(service_key("demo", "web")))
    );
}

/// A snapshot with one pod, which wants only what it knows, and these.
fn registry(services: &[ExternalService]) -> (Snapshot, Workload) {
    let client = pod("demo", "client", "10.1.0.1");
    let mut snapshot = snapshot(&[&client], &[], &[]);
    let mut mesh = (*snapshot.mesh).clone();
    mesh.outbound = OutboundPolicy::RegistryOnly;
    snapshot.mesh = Arc::new(mesh);
    for service in services {
        for network in &service.networks {
            snapshot
                .external
                .own_network(service.scope(), *network, Some(service.key.clone()));
        }
        snapshot.external.put(Arc::new(service.clone()));
    }
    (snapshot, client)
}

fn port(number: u16, target: u16) -> ExternalPort {
    ExternalPort {
        number,
        name: "".into(),
        app_protocol: None,
        target,
    }
}

fn fixed(host: &str, zone: Option<&str>) -> ExternalEndpoint {
    ExternalEndpoint {
        host: host
            .parse()
            .map_or_else(|_| ExternalHost::Name(host.into()), ExternalHost::Address),
        ports: Box::default(),
        zone: zone.map(Into::into),
    }
}

#[test]
fn a_closed_mesh_admits_what_an_external_service_names_and_nothing_else() {
    let mut known = external("demo", "api", &["api.example"], &["192.0.2.0/24"]);
    known.ports = vec![port(443, 443)];
    let (snapshot, client) = registry(&[known, external("other", "private", &["x.example"], &["198.51.100.1"])]);
    assert!(matches!(go(&snapshot, &client, "192.0.2.9:443"), Hop::External { to, .. } if to == at("192.0.2.9:443")));
    for unknown in ["192.0.2.9:80", "192.0.3.9:443", "198.51.100.1:443"] {
        assert_eq!(
            go(&snapshot, &client, unknown),
            Hop::Refuse(Refusal::OutsideRegistry(at(unknown)))
        );
    }
}

#[test]
fn a_virtual_address_leads_to_the_endpoints_of_the_nearest_zone() {
    let api = ExternalService {
        resolution: Resolution::Static,
        ports: vec![port(443, 8443)],
        endpoints: [fixed("192.0.2.1", Some("one")), fixed("192.0.2.2", Some("two"))].into(),
        visibility: Visibility::Mesh,
        ..external("weft-system", "api", &["api.example"], &["240.0.0.7", "2001:db8:f::7"])
    };
    let key = api.key.clone();
    let (mut snapshot, client) = registry(&[api]);
    snapshot.node_zones.insert("node-1".into(), "two".into());
    for address in ["240.0.0.7:443", "[2001:db8:f::7]:443"] {
        let hop = go(&snapshot, &client, address);
        assert!(
            matches!(&hop, Hop::External { to, .. } if *to == at("192.0.2.2:8443")),
            "{hop:?}"
        );
    }
    let avoid = [at("192.0.2.2:8443")];
    let choice = Choice { avoid: &avoid, ..FIRST };
    let spilled = hop(&snapshot, &client, at("240.0.0.7:443"), &choice);
    assert!(
        matches!(&spilled, Hop::External { to, .. } if *to == at("192.0.2.1:8443")),
        "{spilled:?}"
    );
    assert_eq!(
        go(&snapshot, &client, "240.0.0.7:80"),
        Hop::Refuse(Refusal::NoExternalPort(key, 80))
    );
}

#[test]
fn an_external_service_that_cannot_be_read_refuses_with_the_field() {
    let api = ExternalService {
        broken: Some("spec.port".into()),
        ..external("demo", "api", &["api.example"], &["192.0.2.1"])
    };
    let by = Decider {
        object: api.object(),
        field: "spec.port".into(),
    };
    let (snapshot, client) = registry(&[api]);
    assert_eq!(
        go(&snapshot, &client, "192.0.2.1:443"),
        Hop::Refuse(Refusal::BrokenDestination(by))
    );
}

#[test]
fn an_external_service_with_a_waypoint_goes_nowhere_else() {
    let api = ExternalService {
        waypoint: Some(waypoint_key("demo", "way")),
        ..external("demo", "api", &["api.example"], &["192.0.2.1"])
    };
    let (snapshot, client) = registry(&[api]);
    assert_eq!(
        go(&snapshot, &client, "192.0.2.1:443"),
        Hop::Refuse(Refusal::WaypointUnavailable(waypoint_key("demo", "way")))
    );
}

#[test]
fn a_name_that_resolves_into_the_mesh_is_reached_as_the_mesh_reaches_it() {
    let api = ExternalService {
        resolution: Resolution::Dns,
        endpoints: [fixed("db.example", None)].into(),
        ..external("demo", "api", &["api.example"], &["240.0.0.7"])
    };
    let (mut snapshot, client) = registry(std::slice::from_ref(&api));
    snapshot.put_workload(Arc::new(pod("demo", "web", "10.1.0.2")));
    let api = Arc::new(api);
    let hop = go(&snapshot, &client, "240.0.0.7:5432");
    assert!(
        matches!(&hop, Hop::Resolve { host, port: 5432, .. } if &**host == "db.example"),
        "{hop:?}"
    );
    let resolved = |addresses: &[&str]| {
        let addresses: Vec<SocketAddr> = addresses.iter().map(|address| at(address)).collect();
        hop_to_resolved(&snapshot, &client, &api, &addresses, &FIRST)
    };
    assert!(matches!(resolved(&["10.1.0.2:5432"]), Hop::Tunnel { .. }));
    assert_eq!(
        resolved(&["10.1.0.99:5432"]),
        Hop::Hold(Refusal::UnknownAddress(at("10.1.0.99:5432")))
    );
    assert!(matches!(
        resolved(&["127.0.0.1:5432"]),
        Hop::Refuse(Refusal::Malformed(_))
    ));
    assert!(matches!(resolved(&["192.0.2.3:5432"]), Hop::External { to, .. } if to == at("192.0.2.3:5432")));
    // The pod speaks IPv4 alone.
    assert!(matches!(
        resolved(&["[2001:db8::3]:5432"]),
        Hop::Refuse(Refusal::NoExternalEndpoint(..))
    ));
}
