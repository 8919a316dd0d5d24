mod judged;
mod places;

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    model::{AppliedPolicy, Capture, Decider, MtlsMode, ObjectRef, Phase, PolicySet, Rule, Source, StringMatch},
    snapshot::testing::{
        allow, bound_waypoint, endpoint, ip, pod, policies, service, service_key, snapshot, waypoint, waypoint_key,
        waypoint_pod,
    },
};

fn idle(_: IpAddr) -> u32 {
    0
}

const FIRST: Choice<'_> = Choice {
    random: 0,
    load: &idle,
    avoid: &[],
};

fn at(address: &str) -> SocketAddr {
    address.parse().expect("an address and port")
}

fn go(snapshot: &Snapshot, source: &Workload, to: &str) -> Hop {
    hop(snapshot, source, at(to), &FIRST)
}

/// A client; a server behind Service demo/web (10.2.0.1:80 -> 10.1.0.2:8080); a waypoint demo/way at 10.1.0.9.
struct Shop {
    client: Workload,
    web: Workload,
    service: Service,
    way_pod: Workload,
    way: Waypoint,
}

impl Shop {
    fn new() -> Self {
        let web = pod("demo", "web", "10.1.0.2");
        let way_pod = waypoint_pod("demo", "way", "10.1.0.9");
        Self {
            client: pod("demo", "client", "10.1.0.1"),
            service: service("demo", "web", "10.2.0.1", (80, 8080), &[&web]),
            way: waypoint("demo", "way", WaypointFor::Service, &[&way_pod]),
            way_pod,
            web,
        }
    }

    /// The Service bound to the waypoint.
    fn bound() -> Self {
        let mut shop = Self::new();
        shop.service.waypoint = Some(waypoint_key("demo", "way"));
        shop.web.policies = policies(Vec::new(), vec![bound_waypoint("demo", "way", Some(&[8080]))]);
        shop
    }

    /// The Service bound to the waypoint, and a policy that needs HTTP.
    fn guarded() -> Self {
        let mut shop = Self::bound();
        shop.web.policies = policies(
            vec![allow("demo", "get-only", &["GET"], &[])],
            shop.web.policies.waypoints.clone(),
        );
        shop
    }

    fn snapshot(&self) -> Snapshot {
        snapshot(
            &[&self.client, &self.web, &self.way_pod],
            &[&self.service],
            &[&self.way],
        )
    }

    fn go(&self, to: &str) -> Hop {
        go(&self.snapshot(), &self.client, to)
    }
}

fn tunnel_to(hop: &Hop) -> Option<(SocketAddr, Option<&ServiceKey>)> {
    match hop {
        Hop::Tunnel { to, service, .. } => Some((*to, service.as_ref())),
        _ => None,
    }
}

fn waypoint_for(hop: &Hop) -> Option<(String, SocketAddr)> {
    match hop {
        Hop::Waypoint {
            waypoint, authority, ..
        } => Some((waypoint.key.to_string(), *authority)),
        _ => None,
    }
}

#[test]
fn nothing_is_judged_before_the_first_lists_are_complete() {
    let shop = Shop::new();
    let mut snapshot = shop.snapshot();
    snapshot.complete = false;
    assert_eq!(
        go(&snapshot, &shop.client, "10.2.0.1:80"),
        Hop::Hold(Refusal::NotConfigured)
    );
    assert_eq!(
        bound(&snapshot, &waypoint_key("demo", "way"), "demo", at("10.2.0.1:80")),
        Err(Refusal::NotConfigured)
    );
}

#[test]
fn a_proof_goes_straight_to_a_captured_pod_and_to_nobody_else() {
    let shop = Shop::new();
    let web = shop.web.addresses[0];
    let straight = shop.go(&format!("{web}:15022"));
    assert!(
        matches!(&straight, Hop::Tunnel { to, workload, service: None } if to.ip() == web && workload.uid == shop.web.uid),
        "{straight:?}"
    );
    for nobody in ["10.2.0.1:15022", "192.0.2.1:15022"] {
        assert_eq!(shop.go(nobody), Hop::Refuse(Refusal::ReservedPort(15022)));
    }
}

#[test]
fn ports_of_the_mesh_and_addresses_of_nobody_are_refused() {
    let shop = Shop::new();
    for port in [15001, 15006, 15008] {
        let refused = Hop::Refuse(Refusal::ReservedPort(port));
        assert_eq!(shop.go(&format!("10.1.0.2:{port}")), refused);
        assert_eq!(shop.go(&format!("192.0.2.1:{port}")), refused);
    }
    for nobody in [
        "127.0.0.1:80",
        "[::1]:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
        "10.1.0.2:0",
    ] {
        assert!(
            matches!(shop.go(nobody), Hop::Refuse(Refusal::Malformed(_))),
            "{nobody}"
        );
    }
    assert!(matches!(
        shop.go("[::ffff:127.0.0.1]:80"),
        Hop::Refuse(Refusal::Malformed(_))
    ));
}

#[test]
fn a_service_is_reached_by_hbone_at_its_endpoints_target_port() {
    let found = Shop::new().go("10.2.0.1:80");
    assert_eq!(
        tunnel_to(&found),
        Some((at("10.1.0.2:8080"), Some(&service_key("demo", "web"))))
    );
    assert_eq!(Shop::new().go("[::ffff:10.2.0.1]:80"), found);
}

#[test]
fn a_service_refuses_ports_it_does_not_have() {
    assert_eq!(
        Shop::new().go("10.2.0.1:81"),
        Hop::Refuse(Refusal::NoSuchPort(service_key("demo", "web"), 81))
    );
    // Also before a waypoint is asked.
    assert_eq!(
        Shop::bound().go("10.2.0.1:81"),
        Hop::Refuse(Refusal::NoSuchPort(service_key("demo", "web"), 81))
    );
}

#[test]
fn endpoints_not_ready_are_not_candidates_unless_published() {
    let mut shop = Shop::new();
    let mut unready = endpoint(&shop.web, (80, 8080));
    unready.ready = false;
    shop.service.endpoints = [unready].into();
    assert_eq!(
        shop.go("10.2.0.1:80"),
        Hop::Refuse(Refusal::NoEndpoint(service_key("demo", "web")))
    );
    shop.service.publish_not_ready = true;
    assert!(tunnel_to(&shop.go("10.2.0.1:80")).is_some());
}

#[test]
fn publish_not_ready_addresses_of_one_service_are_not_anothers() {
    let mut shop = Shop::new();
    let mut unready = endpoint(&shop.web, (80, 8080));
    unready.ready = false;
    shop.service.endpoints = [unready].into();
    let mut headless = shop.service.clone();
    headless.key = service_key("demo", "headless");
    headless.addresses = vec!["10.2.0.2".parse().expect("an address")];
    headless.publish_not_ready = true;
    let mut snapshot = shop.snapshot();
    snapshot.put_service(Arc::new(headless));
    assert!(tunnel_to(&go(&snapshot, &shop.client, "10.2.0.2:80")).is_some());
    assert_eq!(
        go(&snapshot, &shop.client, "10.2.0.1:80"),
        Hop::Refuse(Refusal::NoEndpoint(service_key("demo", "web")))
    );
}

#[test]
fn an_endpoint_whose_address_is_anothers_by_now_is_no_candidate() {
    let mut shop = Shop::new();
    shop.web.phase = Phase::Terminating;
    let heir = pod("demo", "heir", "10.1.0.2");
    let snapshot = snapshot(&[&shop.client, &shop.web, &heir], &[&shop.service], &[]);
    assert_eq!(
        go(&snapshot, &shop.client, "10.2.0.1:80"),
        Hop::Refuse(Refusal::NoEndpoint(service_key("demo", "web")))
    );
    shop.web.phase = Phase::Finished;
    assert_eq!(
        shop.go("10.2.0.1:80"),
        Hop::Refuse(Refusal::NoEndpoint(service_key("demo", "web")))
    );
}

#[test]
fn an_endpoint_of_an_unknown_pod_is_held_and_never_plain() {
    let shop = Shop::new();
    let held = Hop::Hold(Refusal::UnknownAddress(at("10.1.0.2:8080")));
    let without_pod = snapshot(&[&shop.client], &[&shop.service], &[]);
    assert_eq!(go(&without_pod, &shop.client, "10.2.0.1:80"), held);
    let mut anonymous = Shop::new();
    let mut unnamed = endpoint(&shop.web, (80, 8080));
    unnamed.workload = None;
    anonymous.service.endpoints = [unnamed].into();
    assert!(tunnel_to(&anonymous.go("10.2.0.1:80")).is_some());
    let without_pod = snapshot(&[&shop.client], &[&anonymous.service], &[]);
    assert_eq!(go(&without_pod, &shop.client, "10.2.0.1:80"), held);
}

#[test]
fn an_endpoint_outside_the_mesh_is_plain() {
    let mut shop = Shop::new();
    let mut outside = endpoint(&shop.web, (80, 8080));
    outside.workload = None;
    outside.address = ip("192.0.2.7");
    shop.service.endpoints = [outside].into();
    let plain = Hop::Plain {
        to: at("192.0.2.7:8080"),
        workload: None,
        service: Some(service_key("demo", "web")),
    };
    assert_eq!(shop.go("10.2.0.1:80"), plain);
}

#[test]
fn a_pod_that_speaks_no_hbone_is_plain() {
    let mut shop = Shop::new();
    shop.web.capture = Capture::Outside;
    assert!(
        matches!(shop.go("10.1.0.2:9"), Hop::Plain { to, workload: Some(_), service: None } if to == at("10.1.0.2:9"))
    );
}

#[test]
fn an_endpoint_at_a_port_of_the_mesh_is_refused() {
    let mut shop = Shop::new();
    shop.service.endpoints = [endpoint(&shop.web, (80, 15008))].into();
    assert_eq!(shop.go("10.2.0.1:80"), Hop::Refuse(Refusal::ReservedPort(15008)));
}

#[test]
fn what_nothing_explains_is_held_inside_the_ranges_and_passed_outside_as_configured() {
    let shop = Shop::new();
    for unknown in ["10.1.7.7:80", "10.2.7.7:80"] {
        assert_eq!(shop.go(unknown), Hop::Hold(Refusal::UnknownAddress(at(unknown))));
    }
    assert_eq!(shop.go("192.0.2.1:443"), Hop::Passthrough);
    let mut snapshot = shop.snapshot();
    Arc::make_mut(&mut snapshot.mesh).outbound = OutboundPolicy::RegistryOnly;
    assert_eq!(
        go(&snapshot, &shop.client, "192.0.2.1:443"),
        Hop::Refuse(Refusal::OutsideRegistry(at("192.0.2.1:443")))
    );
}

#[test]
fn a_services_waypoint_is_taken() {
    assert_eq!(
        waypoint_for(&Shop::bound().go("10.2.0.1:80")),
        Some(("demo/way".into(), at("10.2.0.1:80")))
    );
}

#[test]
fn a_waypoint_without_pods_or_unknown_is_never_gone_around() {
    let mut shop = Shop::guarded();
    let unavailable = Hop::Refuse(Refusal::WaypointUnavailable(waypoint_key("demo", "way")));
    shop.way.endpoints.clear();
    assert_eq!(shop.go("10.2.0.1:80"), unavailable);
    assert_eq!(shop.go("10.1.0.2:8080"), unavailable);
    let unguarded = Shop::bound();
    for (shop, addressed) in [
        (&shop, "10.2.0.1:80"),
        (&shop, "10.1.0.2:8080"),
        (&unguarded, "10.2.0.1:80"),
    ] {
        let snapshot = snapshot(&[&shop.client, &shop.web], &[&shop.service], &[]);
        assert_eq!(go(&snapshot, &shop.client, addressed), unavailable, "{addressed}");
    }
}

#[test]
fn a_waypoint_is_never_asked_for_a_waypoints_pod() {
    let mut shop = Shop::bound();
    shop.way_pod.waypoint = Some(waypoint_key("demo", "way"));
    let asked = bound(
        &shop.snapshot(),
        &waypoint_key("demo", "way"),
        "demo",
        at("10.1.0.9:8080"),
    );
    assert_eq!(asked, Err(Refusal::NotBound(at("10.1.0.9:8080"))));
}

#[test]
fn a_pod_on_the_hosts_network_is_an_endpoint_until_it_finished() {
    let mut shop = Shop::new();
    shop.web.capture = Capture::HostNetwork;
    assert!(matches!(shop.go("10.2.0.1:80"), Hop::Plain { workload: Some(_), .. }));
    shop.web.phase = Phase::Finished;
    assert_eq!(
        shop.go("10.2.0.1:80"),
        Hop::Refuse(Refusal::NoEndpoint(service_key("demo", "web")))
    );
}

#[test]
fn a_waypoint_takes_only_the_traffic_it_is_for() {
    for (takes, service_goes, pod_goes) in [
        (WaypointFor::Service, true, false),
        (WaypointFor::Workload, false, true),
        (WaypointFor::All, true, true),
        (WaypointFor::None, false, false),
    ] {
        let mut shop = Shop::bound();
        shop.way.takes = takes;
        shop.web.waypoint = Some(waypoint_key("demo", "way"));
        assert_eq!(
            waypoint_for(&shop.go("10.2.0.1:80")).is_some(),
            service_goes,
            "{takes:?}"
        );
        assert_eq!(waypoint_for(&shop.go("10.1.0.2:8080")).is_some(), pod_goes, "{takes:?}");
    }
}

#[test]
fn a_pod_that_needs_its_waypoint_is_reached_through_it_however_addressed() {
    let shop = Shop::guarded();
    assert_eq!(
        waypoint_for(&shop.go("10.1.0.2:8080")),
        Some(("demo/way".into(), at("10.1.0.2:8080")))
    );
    // By a Service that has no waypoint of its own, too: the waypoint only knows the pod's address.
    let mut other = service("demo", "other", "10.2.0.2", (80, 8080), &[&shop.web]);
    let with_other = |other: &Service| {
        let snapshot = snapshot(
            &[&shop.client, &shop.web, &shop.way_pod],
            &[&shop.service, other],
            &[&shop.way],
        );
        go(&snapshot, &shop.client, "10.2.0.2:80")
    };
    assert_eq!(
        waypoint_for(&with_other(&other)),
        Some(("demo/way".into(), at("10.1.0.2:8080")))
    );
    other.waypoint = Some(waypoint_key("demo", "way"));
    assert_eq!(
        waypoint_for(&with_other(&other)),
        Some(("demo/way".into(), at("10.2.0.2:80")))
    );
}

#[test]
fn a_port_no_l7_rule_touches_needs_no_waypoint() {
    let mut shop = Shop::guarded();
    let mut set = (*shop.web.policies).clone();
    for applied in &mut set.policies {
        applied.ports = Some([8080].into());
    }
    shop.web.policies = Arc::new(set);
    assert_eq!(tunnel_to(&shop.go("10.1.0.2:9100")), Some((at("10.1.0.2:9100"), None)));
}

#[test]
fn an_l7_rule_without_a_waypoint_refuses_by_the_policy() {
    let mut shop = Shop::new();
    shop.web.policies = policies(vec![allow("demo", "get-only", &["GET"], &[])], Vec::new());
    for to in ["10.2.0.1:80", "10.1.0.2:8080"] {
        match shop.go(to) {
            Hop::Refuse(Refusal::WaypointRequired(by)) => assert_eq!(&*by.object.name, "get-only"),
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn a_waypoint_on_another_port_does_not_help() {
    let mut shop = Shop::new();
    shop.web.policies = policies(
        vec![allow("demo", "get-only", &["GET"], &[])],
        vec![bound_waypoint("demo", "way", Some(&[9999]))],
    );
    assert!(matches!(
        shop.go("10.1.0.2:8080"),
        Hop::Refuse(Refusal::WaypointRequired(_))
    ));
}

#[test]
fn a_denied_connection_still_goes_to_who_decides_and_logs() {
    let mut shop = Shop::new();
    shop.web.policies = policies(
        vec![allow("demo", "nobody", &[], &["cluster.local/ns/x/sa/y"])],
        Vec::new(),
    );
    assert!(tunnel_to(&shop.go("10.1.0.2:8080")).is_some());
}

#[test]
fn a_waypoint_goes_straight_to_what_is_bound_to_it() {
    let mut shop = Shop::guarded();
    shop.web.waypoint = Some(waypoint_key("demo", "way"));
    shop.way.takes = WaypointFor::All;
    for to in ["10.2.0.1:80", "10.1.0.2:8080"] {
        let found = go(&shop.snapshot(), &shop.way_pod, to);
        assert_eq!(tunnel_to(&found).map(|(to, _)| to), Some(at("10.1.0.2:8080")), "{to}");
    }
}

#[test]
fn another_waypoint_is_an_ordinary_client() {
    let shop = Shop::guarded();
    let stranger = waypoint_pod("demo", "stranger", "10.1.0.8");
    for to in ["10.2.0.1:80", "10.1.0.2:8080"] {
        assert!(waypoint_for(&go(&shop.snapshot(), &stranger, to)).is_some(), "{to}");
    }
}

#[test]
fn a_waypoint_is_asked_only_for_what_is_bound_to_it() {
    let shop = Shop::bound();
    let mut elsewhere = service("demo", "elsewhere", "10.2.0.2", (80, 8080), &[]);
    elsewhere.waypoint = Some(waypoint_key("demo", "other"));
    let stray = pod("demo", "stray", "10.1.0.3");
    let snapshot = snapshot(
        &[&shop.web, &shop.way_pod, &stray],
        &[&shop.service, &elsewhere],
        &[&shop.way],
    );
    let asked = |authority: &str| bound(&snapshot, &waypoint_key("demo", "way"), "demo", at(authority));
    assert!(matches!(asked("10.2.0.1:80"), Ok(Bound::Service(service, 80)) if *service == shop.service));
    assert!(matches!(asked("10.1.0.2:8080"), Ok(Bound::Workload(web, 8080)) if *web == shop.web));
    for authority in [
        "10.2.0.1:81",
        "10.2.0.2:80",
        "10.1.0.2:9999",
        "10.1.0.3:8080",
        "10.1.0.9:8080",
        "10.1.0.9:15008",
        "10.1.0.2:15008",
        "127.0.0.1:80",
        "[::1]:80",
        "0.0.0.0:80",
        "224.0.0.1:80",
        "192.0.2.1:80",
        "10.1.0.2:0",
    ] {
        assert_eq!(asked(authority), Err(Refusal::NotBound(at(authority))), "{authority}");
    }
}

#[test]
fn a_workload_bound_itself_is_bound_on_every_port_but_the_meshs() {
    let mut shop = Shop::new();
    shop.web.waypoint = Some(waypoint_key("demo", "way"));
    let asked = |port: u16| {
        bound(
            &shop.snapshot(),
            &waypoint_key("demo", "way"),
            "demo",
            (ip("10.1.0.2"), port).into(),
        )
    };
    assert!(asked(1).is_ok() && asked(8080).is_ok());
    assert!(asked(15006).is_err());
}

#[test]
fn of_many_endpoints_only_the_usable_are_picked_and_evenly() {
    let mut shop = Shop::new();
    let pods: Vec<_> = (0..20u8)
        .map(|it| pod("demo", &format!("web-{it}"), &format!("10.1.1.{it}")))
        .collect();
    let mut endpoints: Vec<_> = pods.iter().map(|pod| endpoint(pod, (80, 8080))).collect();
    for unusable in [0, 1, 7, 19] {
        endpoints[unusable].ready = false;
    }
    shop.service.endpoints = endpoints.into();
    let workloads: Vec<_> = pods.iter().chain([&shop.client]).collect();
    let snapshot = snapshot(&workloads, &[&shop.service], &[]);
    let failed = [at("10.1.1.2:8080")];
    let mut seen = std::collections::BTreeMap::new();
    let draws = 30_000;
    for random in 0..draws {
        let choice = Choice {
            random: crate::pick::mixed(random),
            load: &idle,
            avoid: &failed,
        };
        let found = hop(&snapshot, &shop.client, at("10.2.0.1:80"), &choice);
        *seen.entry(tunnel_to(&found).expect("a tunnel").0).or_insert(0u64) += 1;
    }
    assert_eq!(seen.len(), 15, "{seen:?}");
    let fair = draws / 15;
    assert!(seen.values().all(|times| times.abs_diff(fair) < fair / 5), "{seen:?}");
}

proptest! {
    /// Whatever is bound to whatever: a waypoint is only ever asked for what is bound to it, and nothing that
    /// needs HTTP to decide arrives in another way.
    #[test]
    fn hops_to_a_waypoint_are_bound_to_it_and_guarded_pods_are_never_reached_directly(
        by_service: bool, service_bound: bool, pod_bound: bool, covered: bool, guarded: bool,
        takes in prop::sample::select(vec![WaypointFor::Service, WaypointFor::Workload, WaypointFor::All, WaypointFor::None]),
        ready: bool, random: u64,
    ) {
        let mut shop = Shop::new();
        shop.way.takes = takes;
        let key = waypoint_key("demo", "way");
        shop.service.waypoint = service_bound.then(|| key.clone());
        shop.web.waypoint = pod_bound.then(|| key.clone());
        shop.web.policies = policies(
            if guarded { vec![allow("demo", "get-only", &["GET"], &[])] } else { Vec::new() },
            if covered { vec![bound_waypoint("demo", "way", Some(&[8080]))] } else { Vec::new() },
        );
        if !ready {
            shop.way.endpoints.clear();
        }
        let to = at(if by_service { "10.2.0.1:80" } else { "10.1.0.2:8080" });
        let snapshot = shop.snapshot();
        match hop(&snapshot, &shop.client, to, &Choice { random, ..FIRST }) {
            Hop::Waypoint { authority, .. } => prop_assert!(ready && bound(&snapshot, &key, "demo", authority).is_ok()),
            Hop::Tunnel { .. } => prop_assert!(!guarded),
            Hop::Refuse(_) => prop_assert!(!ready || guarded),
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// A pod that its node is about to capture, under a policy.
fn awaited(set: impl FnOnce(&mut PolicySet)) -> Shop {
    let mut shop = Shop::new();
    shop.web.capture = Capture::Awaited;
    set(Arc::make_mut(&mut shop.web.policies));
    shop.service = service("demo", "web", "10.2.0.1", (80, 8080), &[&shop.web]);
    shop
}

fn strict(set: &mut PolicySet) {
    set.mtls.default = (MtlsMode::Strict, None);
}

#[test]
fn an_awaited_pod_gets_plain_tcp_where_anybody_may_come() {
    let shop = awaited(|_| ());
    for to in ["10.1.0.2:8080", "10.2.0.1:80"] {
        assert!(
            matches!(shop.go(to), Hop::Plain { to, .. } if to == at("10.1.0.2:8080")),
            "{to}"
        );
    }
}

/// Only clients of the namespace demo, which is something only a proof can tell.
fn members(set: &mut PolicySet) {
    let from = Source {
        namespaces: vec![StringMatch::Exact("demo".into())],
        ..Source::default()
    };
    let rule = Rule {
        from: vec![from],
        ..Rule::default()
    };
    let mut policy = allow("demo", "members", &[], &[]);
    policy.rules = vec![rule];
    set.policies.push(AppliedPolicy {
        policy: Arc::new(policy),
        ports: None,
    });
}

#[test]
fn an_awaited_pod_that_asks_for_a_proof_is_waited_for_and_never_reached_in_plaintext() {
    for asks in [strict, members] {
        let mut shop = awaited(asks);
        for to in ["10.1.0.2:8080", "10.2.0.1:80"] {
            assert!(matches!(shop.go(to), Hop::Hold(_)), "{to}: {:?}", shop.go(to));
        }
        shop.web.capture = Capture::Captured;
        assert!(
            matches!(shop.go("10.1.0.2:8080"), Hop::Tunnel { .. }),
            "captured, it is reached"
        );
    }
}

#[test]
fn only_the_port_that_asks_for_a_proof_is_waited_for() {
    let by = Decider {
        object: ObjectRef {
            kind: "PeerAuthentication".into(),
            namespace: "demo".into(),
            name: "strict".into(),
        },
        field: "spec.portLevelMtls.8080.mode".into(),
    };
    let shop = awaited(|set| drop(set.mtls.ports.insert(8080, (MtlsMode::Strict, by))));
    assert!(matches!(shop.go("10.1.0.2:8080"), Hop::Hold(_)));
    assert!(matches!(shop.go("10.1.0.2:9090"), Hop::Plain { .. }));
}

#[test]
fn an_unexplained_address_is_held_whoever_is_awaited_elsewhere() {
    let shop = awaited(strict);
    let mut snapshot = shop.snapshot();
    let mut mesh = (*snapshot.mesh).clone();
    mesh.pod_ranges = vec!["10.1.0.0/16".parse().expect("a network")];
    snapshot.mesh = Arc::new(mesh);
    let unknown = at("10.1.7.7:80");
    assert_eq!(
        go(&snapshot, &shop.client, "10.1.7.7:80"),
        Hop::Hold(Refusal::UnknownAddress(unknown))
    );
}
