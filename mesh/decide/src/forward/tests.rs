use std::net::IpAddr;

use http::HeaderMap;

use super::*;
use crate::{
    hop::bound,
    model::{Backend, HttpRoute, ObjectRef, PathMatch, RouteMatch, RouteRule, WaypointFor},
    route::route,
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

/// Service demo/web (10.2.0.1:80) with pods web-1 and web-2 on 8080, bound to demo/way; Service demo/next
/// (10.2.0.2:80) with pod next-1.
struct Shop {
    client: Workload,
    web: [Workload; 2],
    next: Workload,
    service: Service,
    next_service: Service,
    way_pod: Workload,
}

impl Shop {
    fn new() -> Self {
        let mut web = [pod("demo", "web-1", "10.1.0.2"), pod("demo", "web-2", "10.1.0.3")];
        for pod in &mut web {
            pod.policies = policies(Vec::new(), vec![bound_waypoint("demo", "way", Some(&[8080]))]);
        }
        let next = pod("demo", "next-1", "10.1.0.4");
        let mut web_service = service("demo", "web", "10.2.0.1", (80, 8080), &[&web[0], &web[1]]);
        web_service.waypoint = Some(waypoint_key("demo", "way"));
        Self {
            client: pod("demo", "client", "10.1.0.1"),
            next_service: service("demo", "next", "10.2.0.2", (80, 8080), &[&next]),
            way_pod: waypoint_pod("demo", "way", "10.1.0.9"),
            service: web_service,
            web,
            next,
        }
    }

    fn guard(&mut self, pod: usize, methods: &[&str]) {
        let waypoints = self.web[pod].policies.waypoints.clone();
        self.web[pod].policies = policies(vec![allow("demo", "guard", methods, &[])], waypoints);
    }

    fn route_to_next(&mut self) {
        let rule = RouteRule {
            name: "".into(),
            matches: vec![RouteMatch {
                path: PathMatch::Prefix("".into()),
                headers: Vec::new(),
                query: Vec::new(),
                method: None,
                broken: false,
            }],
            backends: vec![Backend {
                service: service_key("demo", "next"),
                port: 80,
                weight: 1,
                broken: None,
            }],
            request_timeout: None,
            broken: None,
        };
        let object = ObjectRef {
            kind: "HTTPRoute".into(),
            namespace: "demo".into(),
            name: "r".into(),
        };
        let route = HttpRoute {
            object,
            parent_port: None,
            consumer: false,
            rules: vec![rule],
        };
        self.service.routes = [Arc::new(route)].into();
    }

    fn snapshot(&self) -> Snapshot {
        let way = waypoint("demo", "way", WaypointFor::Service, &[&self.way_pod]);
        let other_pod = waypoint_pod("demo", "other", "10.1.0.8");
        let other = waypoint("demo", "other", WaypointFor::Service, &[&other_pod]);
        snapshot(
            &[
                &self.client,
                &self.web[0],
                &self.web[1],
                &self.next,
                &self.way_pod,
                &other_pod,
            ],
            &[&self.service, &self.next_service],
            &[&way, &other],
        )
    }

    fn ask(&self, authority: &str, method: Option<&str>) -> Result<Onward, Refusal> {
        let snapshot = self.snapshot();
        let (key, authority) = (waypoint_key("demo", "way"), authority.parse().expect("an address"));
        let bound = bound(&snapshot, &key, "demo", authority)?;
        let headers = HeaderMap::new();
        let request = method.map(|method| Request {
            method,
            path: "/",
            query: "",
            host: "web.demo",
            headers: &headers,
        });
        let route = match (&bound, &request) {
            (Bound::Service(service, port), Some(request)) => route(service, *port, Some("demo"), request, 0),
            _ => Route::Unrouted,
        };
        let asked = Asked {
            waypoint: &key,
            authority,
            bound: &bound,
            client: Client::Known {
                peer: Some(&self.client.identity),
                address: ip("10.1.0.1"),
            },
            request,
        };
        forward(&snapshot, &asked, &route)
    }
}

fn addresses(onward: &Onward) -> Vec<String> {
    onward.candidates.iter().map(|it| it.address.to_string()).collect()
}

fn refusal(answer: Result<Onward, Refusal>) -> String {
    answer.map_or_else(
        |refusal| refusal.label().into(),
        |onward| format!("{:?}", addresses(&onward)),
    )
}

#[test]
fn without_a_route_every_ready_endpoint_is_a_candidate() {
    let onward = Shop::new().ask("10.2.0.1:80", Some("GET")).expect("allowed");
    assert_eq!(addresses(&onward), ["10.1.0.2:8080", "10.1.0.3:8080"]);
}

#[test]
fn endpoints_whose_own_set_refuses_are_no_candidates() {
    let mut shop = Shop::new();
    shop.guard(0, &["GET"]);
    let onward = shop.ask("10.2.0.1:80", Some("POST")).expect("allowed by the other");
    assert_eq!(addresses(&onward), ["10.1.0.3:8080"]);
    shop.guard(1, &["GET"]);
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("POST"))), "DENY");
    let onward = shop.ask("10.2.0.1:80", Some("GET")).expect("allowed");
    assert_eq!(onward.by.expect("a rule").object.name.as_ref(), "guard");
}

#[test]
fn the_addressed_services_set_counts_where_a_route_leads_away_from_it() {
    let mut shop = Shop::new();
    shop.route_to_next();
    shop.service.policies = policies(vec![allow("demo", "get", &["GET"], &[])], Vec::new());
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("POST"))), "DENY");
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("GET"))), r#"["10.1.0.4:8080"]"#);
}

#[test]
fn the_addressed_services_set_counts_where_a_route_leads_to_another_port_of_its_own_pods() {
    let mut shop = Shop::new();
    shop.route_to_next();
    shop.service.policies = policies(vec![allow("demo", "get", &["GET"], &[])], Vec::new());
    shop.next_service.endpoints = [endpoint(&shop.web[0], (80, 9090))].into();
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("POST"))), "DENY");
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("GET"))), r#"["10.1.0.2:9090"]"#);
}

#[test]
fn an_endpoints_own_set_alone_judges_for_its_services() {
    // It holds their policies: an ALLOW of the Service and one of the pod are one set, of which either permits.
    let mut shop = Shop::new();
    shop.service.policies = policies(vec![allow("demo", "get", &["GET"], &[])], Vec::new());
    for pod in [0, 1] {
        shop.guard(pod, &["GET", "POST"]);
    }
    assert!(shop.ask("10.2.0.1:80", Some("POST")).is_ok());
}

#[test]
fn a_backends_set_counts_only_if_this_waypoint_stands_before_it() {
    let mut shop = Shop::new();
    shop.route_to_next();
    shop.next.policies = policies(vec![allow("demo", "get", &["GET"], &[])], Vec::new());
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("POST"))), r#"["10.1.0.4:8080"]"#);
    shop.next_service.waypoint = Some(waypoint_key("demo", "way"));
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("POST"))), "DENY");
}

#[test]
fn an_endpoint_that_is_no_pod_is_judged_by_its_service() {
    let mut shop = Shop::new();
    let mut outside = endpoint(&shop.web[0], (80, 8080));
    (outside.workload, outside.address) = (None, ip("192.0.2.7"));
    shop.service.endpoints = [outside].into();
    shop.service.policies = policies(vec![allow("demo", "get", &["GET"], &[])], Vec::new());
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("POST"))), "DENY");
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("GET"))), r#"["192.0.2.7:8080"]"#);
}

#[test]
fn what_is_no_http_is_refused_where_a_set_can_only_judge_http() {
    let mut shop = Shop::new();
    assert!(shop.ask("10.2.0.1:80", None).is_ok());
    shop.guard(0, &["GET"]);
    shop.guard(1, &["GET"]);
    assert_eq!(refusal(shop.ask("10.2.0.1:80", None)), "WAYPOINT_REQUIRED");
}

#[test]
fn a_workload_is_judged_by_its_own_set_alone() {
    let mut shop = Shop::new();
    shop.service.policies = policies(vec![allow("demo", "get", &["GET"], &[])], Vec::new());
    assert_eq!(refusal(shop.ask("10.1.0.2:8080", Some("POST"))), r#"["10.1.0.2:8080"]"#);
    shop.guard(0, &["GET"]);
    assert_eq!(refusal(shop.ask("10.1.0.2:8080", Some("POST"))), "DENY");
}

#[test]
fn a_backend_that_is_gone_or_has_no_such_port_or_endpoint_is_refused() {
    let mut shop = Shop::new();
    shop.route_to_next();
    shop.next_service.ports[0].port = 81;
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("GET"))), "NO_SUCH_PORT");
    shop.next_service.ports[0].port = 80;
    shop.next_service.endpoints = Arc::new([]);
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("GET"))), "NO_ENDPOINT");
    shop.next_service.key = service_key("demo", "renamed");
    assert_eq!(refusal(shop.ask("10.2.0.1:80", Some("GET"))), "NO_ENDPOINT");
}

#[test]
fn a_backend_is_reached_directly_unless_it_is_bound_to_another_waypoint() {
    let mut shop = Shop::new();
    shop.route_to_next();
    shop.next_service.endpoints = [endpoint(&shop.next, (80, 8080))].into();
    let hop = |shop: &Shop| {
        let onward = shop.ask("10.2.0.1:80", Some("GET")).expect("allowed");
        onward.hop(&shop.snapshot(), &shop.way_pod, &FIRST)
    };
    for waypoint in [None, Some(waypoint_key("demo", "way"))] {
        shop.next_service.waypoint = waypoint;
        assert!(matches!(hop(&shop), Hop::Tunnel { to, .. } if to.to_string() == "10.1.0.4:8080"));
    }
    shop.next_service.waypoint = Some(waypoint_key("demo", "other"));
    assert!(matches!(hop(&shop), Hop::Waypoint { authority, .. } if authority.to_string() == "10.2.0.2:80"));
}
