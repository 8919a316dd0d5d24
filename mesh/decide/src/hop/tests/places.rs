//! Near endpoints before far ones, leaving ones last, and destinations outside the mesh.

use std::collections::HashMap;

use super::*;
use crate::{
    model::{
        Addressed, Endpoint, ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Labels, Locality,
        Resolution, Tiers, Visibility,
    },
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
            regions: HashMap::new(),
            only_node,
        });
        Self {
            client: pod("demo", "client", "10.1.0.1"),
            pods,
            service,
        }
    }

    /// Zones one and two lie in region east.
    fn locality(&self, zone: &str) -> Locality {
        Locality {
            zone: Some(zone.into()),
            region: (zone != "far").then(|| "east".into()),
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
        snapshot.nodes.insert(node.into(), Arc::new(self.locality(zone)));
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
fn the_region_comes_after_the_zone_and_before_the_rest_of_the_world() {
    let mut zones = Zones::new(false);
    let mut tiers = (*zones.service.tiers).clone();
    tiers.regions = HashMap::from([("east".into(), [0, 1].into()), ("west".into(), [2].into())]);
    zones.service.tiers = Arc::new(tiers);
    assert_eq!(zones.reached("other", "one", &[]), [11, 12]);
    assert_eq!(zones.reached("other", "three", &[]), [11, 12]);
    assert_eq!(zones.reached("other", "far", &[]), [11, 12, 13]);
    let failed = ["10.1.0.13:8080"].map(at);
    assert_eq!(zones.reached("other", "two", &failed), [11, 12]);
    for index in [0, 1] {
        zones.endpoint(index, |endpoint| endpoint.ready = false);
    }
    assert_eq!(zones.reached("other", "three", &[]), [13]);
}

/// A Service with an address of each family before pods of both.
fn of_both_families() -> (Snapshot, Workload) {
    let pods: Vec<Workload> = (1..=4_u8)
        .map(|index| {
            let mut both = pod("demo", &format!("web-{index}"), &format!("10.1.0.{}", 10 + index));
            both.addresses.push(ip(&format!("fd00:1::{index}")));
            both
        })
        .collect();
    let client = Workload {
        addresses: vec![ip("10.1.0.1"), ip("fd00:1::99")],
        ..pod("demo", "client", "10.1.0.1")
    };
    let mut web = service("demo", "web", "10.2.0.1", (80, 8080), &pods.iter().collect::<Vec<_>>());
    web.addresses.push(ip("fd00:2::1"));
    let mut endpoints = web.endpoints.to_vec();
    endpoints.extend(web.endpoints.iter().zip(&pods).map(|(v4, pod)| Endpoint {
        address: pod.addresses[1],
        ..v4.clone()
    }));
    web.endpoints = endpoints.into();
    let mut all: Vec<&Workload> = pods.iter().collect();
    all.push(&client);
    (snapshot(&all, &[&web], &[]), client)
}

#[test]
fn each_address_of_a_service_leads_to_endpoints_of_its_own_family() {
    let (mut snapshot, client) = of_both_families();
    let mut flat = (**snapshot.service_at(ip("10.2.0.1")).expect("a Service")).clone();
    let mut near = flat.clone();
    // The last endpoint of each family is near.
    near.tiers = Arc::new(Tiers {
        nodes: HashMap::from([(client.node.clone(), [3, 7].into())]),
        ..Tiers::default()
    });
    let reached = |snapshot: &Snapshot, to: &str| {
        let all = (0..64_u64).map(|seed| {
            let choice = Choice {
                random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
                ..FIRST
            };
            let hop = hop(snapshot, &client, at(to), &choice);
            tunnel_to(&hop).unwrap_or_else(|| panic!("{hop:?}")).0.ip()
        });
        all.collect::<std::collections::BTreeSet<IpAddr>>()
    };
    for (to, last) in [("10.2.0.1:80", "10.1.0.14"), ("[fd00:2::1]:80", "fd00:1::4")] {
        let of_family = reached(&snapshot, to);
        assert_eq!(of_family.len(), 4, "{to}");
        assert!(
            of_family.iter().all(|it| it.is_ipv4() == at(to).is_ipv4()),
            "{of_family:?}"
        );
        snapshot.put_service(Arc::new(near.clone()));
        assert_eq!(reached(&snapshot, to), [ip(last)].into(), "{to}");
        snapshot.put_service(Arc::new(flat.clone()));
    }
    // Where there is but one family, every address leads to it.
    flat.endpoints = flat.endpoints[..4].into();
    snapshot.put_service(Arc::new(flat));
    assert!(reached(&snapshot, "[fd00:2::1]:80").iter().all(IpAddr::is_ipv4));
}

#[test]
fn pods_of_a_headless_service_are_reached_at_their_own_addresses_of_either_family() {
    let (snapshot, client) = of_both_families();
    for to in ["10.1.0.12:8080", "[fd00:1::2]:8080", "[::ffff:10.1.0.12]:8080"] {
        let reached = go(&snapshot, &client, to);
        let (there, service) = tunnel_to(&reached).unwrap_or_else(|| panic!("{reached:?}"));
        assert_eq!(
            (there.port(), there.ip(), service),
            (8080, at(to).ip().to_canonical(), None)
        );
    }
}

#[test]
fn a_pods_own_label_tells_its_zone_before_its_node_does() {
    let mut zones = Zones::new(false);
    zones.client.labels = Labels::from_iter([("topology.kubernetes.io/zone".into(), "two".into())]);
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
pub(super) fn registry(services: &[ExternalService]) -> (Snapshot, Workload) {
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

pub(super) fn port(number: u16, target: u16) -> ExternalPort {
    ExternalPort {
        number,
        name: "".into(),
        app_protocol: None,
        target,
    }
}

pub(super) fn fixed(host: &str, zone: Option<&str>) -> ExternalEndpoint {
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
fn a_closed_mesh_admits_endpoints_outside_of_headless_services_on_their_ports() {
    let (mut snapshot, client) = registry(&[]);
    let known = (at("192.0.2.9:5432"), service_key("demo", "db"));
    snapshot.endpoints_outside.insert(known.0, known.1.clone());
    assert_eq!(
        go(&snapshot, &client, "192.0.2.9:5432"),
        Hop::Plain {
            to: known.0,
            workload: None,
            service: Some(known.1),
        }
    );
    for unknown in ["192.0.2.9:5433", "192.0.2.8:5432"] {
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
    let two = Locality {
        zone: Some("two".into()),
        region: None,
    };
    snapshot.nodes.insert("node-1".into(), Arc::new(two));
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

/// The client's namespace knows `api` at 192.0.2.1 behind the waypoint `infra/way`, which one pod serves; and another
/// namespace knows the same address without.
fn bound_outside() -> (Snapshot, Workload, Workload) {
    let api = ExternalService {
        waypoint: Some(waypoint_key("infra", "way")),
        ports: vec![port(443, 8443)],
        resolution: Resolution::Static,
        endpoints: [fixed("192.0.2.9", None)].into(),
        ..external("demo", "api", &["api.example"], &["192.0.2.1"])
    };
    let (mut snapshot, client) = registry(&[api, external("other", "api", &["api.example"], &["192.0.2.1"])]);
    let way = Workload {
        capture: Capture::Native,
        serves: Some(waypoint_key("infra", "way")),
        ..pod("infra", "way-0", "10.1.0.8")
    };
    snapshot.put_workload(Arc::new(way.clone()));
    let standing = waypoint("infra", "way", WaypointFor::Service, &[&way]);
    snapshot.waypoints.insert(standing.key.clone(), Arc::new(standing));
    (snapshot, client, way)
}

#[test]
fn an_external_service_is_reached_through_its_waypoint_which_goes_on_to_its_endpoints() {
    let (snapshot, client, way) = bound_outside();
    let to = at("192.0.2.1:443");
    let through = go(&snapshot, &client, "192.0.2.1:443");
    assert_eq!(waypoint_for(&through), Some(("infra/way".to_owned(), to)));
    assert!(matches!(
        &through,
        Hop::Waypoint { service: Some(Addressed::External(service)), .. } if service.key == service_key("demo", "api")
    ));
    let Ok(Bound::External(service, 443)) = bound(&snapshot, &waypoint_key("infra", "way"), "demo", to) else {
        panic!("it is bound");
    };
    let onward = hop_to_external(&snapshot, &way, &service, to, &FIRST);
    assert!(
        matches!(&onward, Hop::External { to, .. } if *to == at("192.0.2.9:8443")),
        "{onward:?}"
    );
}

#[test]
fn a_waypoint_is_asked_for_an_external_service_only_by_whom_it_is_for_and_only_for_its_ports() {
    let (snapshot, ..) = bound_outside();
    let asked = |waypoint: (&str, &str), namespace: &str, to: &str| {
        bound(&snapshot, &waypoint_key(waypoint.0, waypoint.1), namespace, at(to))
    };
    assert!(asked(("infra", "way"), "demo", "192.0.2.1:443").is_ok());
    for (waypoint, namespace, to) in [
        (("infra", "way"), "other", "192.0.2.1:443"),
        (("infra", "way"), "third", "192.0.2.1:443"),
        (("infra", "another"), "demo", "192.0.2.1:443"),
        (("infra", "way"), "demo", "192.0.2.1:80"),
        (("infra", "way"), "demo", "192.0.2.9:8443"),
    ] {
        assert_eq!(
            asked(waypoint, namespace, to),
            Err(Refusal::NotBound(at(to))),
            "{namespace} {to}"
        );
    }
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
