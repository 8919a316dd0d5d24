use std::sync::Arc;

use super::*;
use crate::{
    model::{
        Action, Backend, BoundWaypoint, Capture, Decider, ExternalService, Fence, HttpRoute, MtlsMode, MtlsRules,
        ObjectRef, PathMatch, Policy, PolicySet, RouteMatch, RouteRule, Service, StringMatch, Waypoint, WaypointFor,
        Workload,
    },
    snapshot::testing::{
        allow, bound_waypoint, external, pod, policies, service, service_key, snapshot, waypoint, waypoint_key,
        waypoint_pod,
    },
};

/// Two clients and an outsider on node-1; Service demo/web with two pods on node-2; waypoint demo/way on node-1.
struct Shop {
    pods: Vec<Workload>,
    services: Vec<Service>,
    ways: Vec<Waypoint>,
    outside: Vec<ExternalService>,
}

impl Shop {
    fn new() -> Self {
        let on_node_2 = |pod: Workload| Workload {
            node: "node-2".into(),
            ..pod
        };
        let outsider = Workload {
            capture: Capture::Outside,
            ..pod("demo", "outsider", "10.1.0.7")
        };
        let web = [
            on_node_2(pod("demo", "web-1", "10.1.1.1")),
            on_node_2(pod("demo", "web-2", "10.1.1.2")),
        ];
        let way_pod = waypoint_pod("demo", "way", "10.1.0.9");
        Self {
            services: vec![service("demo", "web", "10.2.0.1", (80, 8080), &[&web[0], &web[1]])],
            ways: vec![waypoint("demo", "way", WaypointFor::Service, &[&way_pod])],
            outside: Vec::new(),
            pods: [
                pod("demo", "client-1", "10.1.0.1"),
                pod("shop", "client-1", "10.1.0.2"),
                outsider,
                way_pod,
            ]
            .into_iter()
            .chain(web)
            .collect(),
        }
    }

    fn judged_by(mut self, set: &Arc<PolicySet>) -> Self {
        for pod in self.pods.iter_mut().filter(|pod| pod.name.starts_with("web")) {
            pod.policies = set.clone();
        }
        self
    }

    fn with_waypoint(mut self, policy: Vec<Policy>) -> Self {
        self.services[0].waypoint = Some(waypoint_key("demo", "way"));
        let bound: Vec<BoundWaypoint> = vec![bound_waypoint("demo", "way", Some(&[8080]))];
        self.judged_by(&policies(policy, bound))
    }

    fn with_route(mut self) -> Self {
        let matches = vec![RouteMatch {
            path: PathMatch::Prefix("/".trim_end_matches('/').into()),
            headers: Vec::new(),
            query: Vec::new(),
            method: None,
            broken: false,
        }];
        let to = |name: &str, weight| Backend {
            service: service_key("demo", name),
            port: 80,
            weight,
            broken: None,
        };
        let route = HttpRoute {
            object: ObjectRef {
                kind: "HTTPRoute".into(),
                namespace: "demo".into(),
                name: "split".into(),
            },
            parent_port: None,
            consumer: false,
            rules: vec![RouteRule {
                name: "".into(),
                matches,
                backends: vec![to("web", 90), to("next", 10)],
                request_timeout: None,
                broken: None,
            }],
        };
        self.services[0].routes = [Arc::new(route)].into();
        self
    }

    fn snapshot(&self) -> Snapshot {
        let mut snapshot = snapshot(
            &self.pods.iter().collect::<Vec<_>>(),
            &self.services.iter().collect::<Vec<_>>(),
            &self.ways.iter().collect::<Vec<_>>(),
        );
        for service in &self.outside {
            let external = &mut snapshot.external;
            for network in &service.networks {
                external.own_network(service.scope(), *network, Some(service.key.clone()));
            }
            external.put(Arc::new(service.clone()));
        }
        snapshot
    }

    fn ask(&self, question: &str) -> Result<Explanation, String> {
        let words: Vec<_> = question.split(' ').collect();
        let question = Question {
            from: words[0].into(),
            to: words[1].into(),
            request: words.get(2).map(|method| ((*method).into(), words[3].into())),
            headers: Vec::new(),
        };
        why(&self.snapshot(), &question)
    }

    /// The story as lines; the last is the outcome.
    fn told(&self, question: &str) -> Vec<String> {
        let explained = self.ask(question).expect("the question makes sense");
        let step = |step: &Step| match &step.by {
            Some(by) => format!("{} {}: {} [{by}]", step.at, step.decision, step.answer),
            None => format!("{} {}: {}", step.at, step.decision, step.answer),
        };
        let verdict = if explained.allowed { "allowed" } else { "refused" };
        let outcome = format!("{verdict}: {}", explained.outcome);
        explained.steps.iter().map(step).chain([outcome]).collect()
    }
}

fn outcome(told: &[String]) -> &str {
    told.last().expect("an outcome")
}

const CLIENT: &str = "cluster.local/ns/demo/sa/client-1";

#[test]
fn an_l4_allow_names_its_rule() {
    let shop = Shop::new().judged_by(&policies(
        vec![allow("demo", "client-only", &[], &[CLIENT])],
        Vec::new(),
    ));
    assert_eq!(
        shop.told("demo/client-1 web.demo:80"),
        [
            "ztunnel on node-1 hop: HBONE to pod demo/web-1 at 10.1.1.1:8080, one of 2 endpoints of Service demo/web: \
             pod demo/web-1 at 10.1.1.1:8080, pod demo/web-2 at 10.1.1.2:8080",
            "ztunnel on node-1 verify: pod demo/web-1 at 10.1.1.1:8080 must prove to be \
             spiffe://cluster.local/ns/demo/sa/web-1",
            "ztunnel on node-2 verify: the client must prove to be spiffe://cluster.local/ns/demo/sa/client-1",
            "ztunnel on node-2 verdict: allowed by AuthorizationPolicy demo/client-only spec.rules[0] \
             [AuthorizationPolicy demo/client-only spec.rules[0]]",
            "allowed: mutual TLS reaches pod demo/web-1 at 10.1.1.1:8080 as spiffe://cluster.local/ns/demo/sa/client-1",
        ]
    );
}

#[test]
fn an_l4_deny_names_its_policy() {
    let shop = Shop::new().judged_by(&policies(
        vec![allow("demo", "client-only", &[], &[CLIENT])],
        Vec::new(),
    ));
    let told = shop.told("shop/client-1 demo/web:80");
    assert_eq!(
        told[3],
        "ztunnel on node-2 verdict: denied by AuthorizationPolicy demo/client-only spec.rules \
         [AuthorizationPolicy demo/client-only spec.rules]"
    );
    assert_eq!(
        outcome(&told),
        "refused: denied by AuthorizationPolicy demo/client-only spec.rules; ztunnel on node-2 refuses the connection"
    );
}

#[test]
fn a_dry_run_is_told_and_refuses_nothing() {
    let on_trial = |policy: Policy| Policy {
        dry_run: true,
        ..policy
    };
    let told = |policy: Policy, client: &str| {
        let shop = Shop::new().judged_by(&policies(vec![on_trial(policy)], Vec::new()));
        let told = shop.told(&format!("{client} demo/web:80"));
        assert!(outcome(&told).starts_with("allowed: "), "{told:?}");
        told.into_iter().find(|line| line.contains(" dry run: "))
    };
    let client_only = || allow("demo", "client-only", &[], &[CLIENT]);
    assert_eq!(told(client_only(), "demo/client-1"), None);
    assert_eq!(
        told(client_only(), "shop/client-1").as_deref(),
        Some(
            "ztunnel on node-2 dry run: AuthorizationPolicy demo/client-only spec.rules would deny it, were it \
             enforced [AuthorizationPolicy demo/client-only spec.rules]"
        )
    );
    let deny = Policy {
        action: Action::Deny,
        ..client_only()
    };
    assert!(told(deny.clone(), "demo/client-1").is_some());
    assert_eq!(told(deny, "shop/client-1"), None);
    let only_get = told(allow("demo", "only-get", &["GET"], &[]), "demo/client-1");
    assert!(only_get.is_some(), "nobody here could read the request");
}

#[test]
fn an_l7_allow_goes_through_the_waypoint() {
    let shop = Shop::new().with_waypoint(vec![allow("demo", "get-only", &["GET"], &[CLIENT])]);
    assert_eq!(
        shop.told("demo/client-1 web.demo:80 GET /"),
        [
            "ztunnel on node-1 hop: through waypoint demo/way at 10.1.0.9:15008, asked for 10.2.0.1:80",
            "ztunnel on node-1 verify: the waypoint must prove to be spiffe://cluster.local/ns/demo/sa/way",
            "waypoint demo/way verify: the client must prove to be spiffe://cluster.local/ns/demo/sa/client-1",
            "waypoint demo/way bound: 10.2.0.1:80 is Service demo/web port 80, which is bound to this waypoint",
            "waypoint demo/way route: no HTTPRoute is attached to port 80: to the Service itself",
            "waypoint demo/way verdict: allowed by AuthorizationPolicy demo/get-only spec.rules[0] \
             [AuthorizationPolicy demo/get-only spec.rules[0]]",
            "waypoint demo/way pick: one of 2 endpoints that may serve it, of Service demo/web: \
             pod demo/web-1 at 10.1.1.1:8080, pod demo/web-2 at 10.1.1.2:8080",
            "waypoint demo/way hop: HBONE to pod demo/web-1 at 10.1.1.1:8080, of Service demo/web",
            "waypoint demo/way verify: pod demo/web-1 at 10.1.1.1:8080 must prove to be \
             spiffe://cluster.local/ns/demo/sa/web-1",
            "ztunnel on node-2 verify: the client must prove to be spiffe://cluster.local/ns/demo/sa/way",
            "ztunnel on node-2 verdict: allowed: waypoint demo/way has judged the client",
            "allowed: mutual TLS reaches pod demo/web-1 at 10.1.1.1:8080 as spiffe://cluster.local/ns/demo/sa/way",
        ]
    );
}

#[test]
fn an_l7_deny_is_the_waypoints_and_the_same_however_addressed() {
    let shop = Shop::new().with_waypoint(vec![allow("demo", "get-only", &["GET"], &[])]);
    for to in ["web.demo:80", "10.2.0.1:80", "10.1.1.1:8080", "demo/web-1:8080"] {
        let told = shop.told(&format!("demo/client-1 {to} POST /"));
        assert_eq!(
            outcome(&told),
            "refused: denied by AuthorizationPolicy demo/get-only spec.rules; waypoint demo/way answers 403",
            "{to}"
        );
    }
}

#[test]
fn deny_wins_whatever_form_the_path_is_asked_in() {
    let mut no_admin = allow("demo", "no-admin", &["GET"], &[]);
    no_admin.action = Action::Deny;
    no_admin.rules[0].to[0].paths = vec![StringMatch::Exact("/admin".into())];
    let shop = Shop::new().with_waypoint(vec![no_admin]);
    for path in [
        "/admin",
        "//admin",
        "/./admin",
        "/a/../admin",
        "/%61dmin",
        "/x/%2e%2e/admin",
        "/admin?x",
    ] {
        let told = shop.told(&format!("demo/client-1 web.demo:80 GET {path}"));
        assert_eq!(
            outcome(&told),
            "refused: denied by AuthorizationPolicy demo/no-admin spec.rules[0]; waypoint demo/way answers 403",
            "{path}"
        );
    }
    let told = shop.told("demo/client-1 web.demo:80 GET /administrator");
    assert!(outcome(&told).starts_with("allowed"), "{told:?}");
}

#[test]
fn without_a_request_an_l7_policy_leaves_it_open() {
    let shop = Shop::new().with_waypoint(vec![allow("demo", "get-only", &["GET"], &[])]);
    assert_eq!(
        outcome(&shop.told("demo/client-1 web.demo:80")),
        "refused: depends on the request: give METHOD PATH"
    );
    let routed = Shop::new().with_waypoint(Vec::new()).with_route();
    assert_eq!(
        outcome(&routed.told("demo/client-1 web.demo:80")),
        "refused: depends on the request: give METHOD PATH"
    );
    assert!(
        Shop::new()
            .with_waypoint(Vec::new())
            .ask("demo/client-1 web.demo")
            .expect("a story")
            .allowed
    );
}

#[test]
fn a_split_tells_every_share() {
    let shop = Shop::new().with_waypoint(Vec::new()).with_route();
    let told = shop.told("demo/client-1 web.demo:80 GET /");
    assert!(told.contains(
        &"waypoint demo/way route: 90 of 100 to demo/web:80, 10 of 100 to demo/next:80; followed here: demo/web:80 \
          [HTTPRoute demo/split spec.rules[0]]"
            .to_owned()
    ));
}

#[test]
fn a_missing_waypoint_refuses_and_is_not_gone_around() {
    let mut shop = Shop::new().with_waypoint(vec![allow("demo", "get-only", &["GET"], &[])]);
    shop.ways[0].endpoints.clear();
    for to in ["web.demo:80", "10.1.1.1:8080"] {
        assert_eq!(
            shop.told(&format!("demo/client-1 {to} GET /")),
            [
                "ztunnel on node-1 hop: waypoint demo/way has no ready pod",
                "refused: waypoint demo/way has no ready pod; ztunnel on node-1 refuses the connection",
            ]
        );
    }
    let unbound = Shop::new().judged_by(&policies(vec![allow("demo", "get-only", &["GET"], &[])], Vec::new()));
    let told = unbound.told("demo/client-1 web.demo:80 GET /");
    assert!(
        told[0].contains("AuthorizationPolicy demo/get-only spec.rules[0] needs HTTP"),
        "{}",
        told[0]
    );
    // From outside the mesh no proxy stands at the source: the destination refuses.
    let told = shop.told("demo/outsider 10.1.1.1:8080 GET /");
    assert!(
        told[1].starts_with("ztunnel on node-2 verdict: AuthorizationPolicy demo/get-only"),
        "{}",
        told[1]
    );
}

#[test]
fn what_is_bound_outside_is_told_through_its_waypoint_and_judged_there() {
    let mut shop = Shop::new();
    shop.outside = vec![ExternalService {
        waypoint: Some(waypoint_key("demo", "way")),
        policies: policies(vec![allow("demo", "egress", &["GET"], &[CLIENT])], Vec::new()),
        ..external("demo", "api", &["api.example"], &["192.0.2.1"])
    }];
    let told = shop.told("demo/client-1 192.0.2.1:443 GET /");
    assert!(
        told.iter()
            .any(|line| line.contains("is ExternalService demo/api port 443, which is bound to this waypoint")),
        "{told:#?}"
    );
    assert_eq!(
        outcome(&told),
        "allowed: plain TCP goes to 192.0.2.1:443, outside the mesh"
    );
    let told = shop.told("demo/client-1 192.0.2.1:443 POST /");
    assert!(
        outcome(&told).starts_with("refused") && outcome(&told).contains("demo/egress"),
        "{told:#?}"
    );
    shop.ways.clear();
    let told = shop.told("demo/client-1 192.0.2.1:443 GET /");
    assert!(
        outcome(&told).contains("waypoint demo/way has no ready pod"),
        "{told:#?}"
    );
}

#[test]
fn what_goes_outside_without_a_waypoint_is_told_by_the_policy_that_judges_it_where_it_comes_from() {
    let told = |policy: Policy| {
        let mut shop = Shop::new();
        shop.outside = vec![ExternalService {
            policies: policies(vec![policy], Vec::new()),
            ..external("demo", "api", &["api.example"], &["192.0.2.1"])
        }];
        shop.told("demo/client-1 192.0.2.1:443")
    };
    let allowed = told(allow("demo", "egress", &[], &[CLIENT]));
    assert!(
        allowed[0].starts_with("ztunnel on node-1 verdict: allowed by AuthorizationPolicy demo/egress spec.rules[0]"),
        "{allowed:#?}"
    );
    assert_eq!(
        outcome(&allowed),
        "allowed: plain TCP goes to 192.0.2.1:443, outside the mesh"
    );
    let denied = told(Policy {
        action: Action::Deny,
        ..allow("demo", "egress", &[], &[CLIENT])
    });
    assert_eq!(
        denied,
        [
            "ztunnel on node-1 verdict: denied by AuthorizationPolicy demo/egress spec.rules[0] \
             [AuthorizationPolicy demo/egress spec.rules[0]]",
            "refused: denied by AuthorizationPolicy demo/egress spec.rules[0]; ztunnel on node-1 refuses the connection",
        ]
    );
    let open = told(allow("demo", "egress", &["GET"], &[CLIENT]));
    assert!(
        outcome(&open).contains("needs HTTP to decide, and no waypoint is on this path"),
        "{open:#?}"
    );
    let trial = told(Policy {
        action: Action::Deny,
        dry_run: true,
        ..allow("demo", "egress", &[], &[CLIENT])
    });
    assert!(
        trial[0].contains("dry run: AuthorizationPolicy demo/egress spec.rules[0] would deny it"),
        "{trial:#?}"
    );
    assert!(
        trial[1].contains("verdict: allowed: no policy restricts port 443 of ExternalService demo/api"),
        "{trial:#?}"
    );
    assert!(outcome(&trial).starts_with("allowed"));
}

#[test]
fn strict_refuses_plain_text_by_its_object() {
    let by = Decider {
        object: ObjectRef {
            kind: "PeerAuthentication".into(),
            namespace: "demo".into(),
            name: "default".into(),
        },
        field: "spec.mtls.mode".into(),
    };
    let set = PolicySet {
        mtls: MtlsRules {
            default: (MtlsMode::Strict, Some(by)),
            ..MtlsRules::default()
        },
        ..PolicySet::default()
    };
    let shop = Shop::new().judged_by(&Arc::new(set));
    let refused = "refused: plaintext refused: mutual TLS is STRICT by PeerAuthentication demo/default spec.mtls.mode; \
                   ztunnel on node-2 refuses the connection";
    assert_eq!(outcome(&shop.told("demo/outsider web.demo:80")), refused);
    assert_eq!(outcome(&shop.told("192.0.2.1 10.1.1.1:8080")), refused);
    assert!(shop.ask("demo/client-1 web.demo:80").expect("a story").allowed);
    assert!(Shop::new().ask("demo/outsider web.demo:80").expect("a story").allowed);
}

#[test]
fn a_broken_policy_is_named_with_its_field() {
    let mut broken = allow("demo", "typo", &[], &[]);
    broken.broken = Some("spec.rules[0].form".into());
    let shop = Shop::new().judged_by(&policies(vec![broken], Vec::new()));
    assert_eq!(
        outcome(&shop.told("demo/client-1 web.demo:80")),
        "refused: denied by AuthorizationPolicy demo/typo spec.rules[0].form; ztunnel on node-2 refuses the connection"
    );
}

#[test]
fn an_address_nothing_explains_is_held_inside_and_passed_outside() {
    assert_eq!(
        outcome(&Shop::new().told("demo/client-1 10.1.77.7:80")),
        "refused: no pod or Service explains 10.1.77.7:80; ztunnel on node-1 holds the connection for a while, then \
         refuses it"
    );
    assert!(Shop::new().ask("demo/client-1 192.0.2.1:443").expect("a story").allowed);
}

#[test]
fn pods_of_one_node_talk_hbone_too() {
    let shop = Shop::new();
    assert!(shop.told("demo/client-1 shop/client-1:80")[0].contains("HBONE"));
}

#[test]
fn every_way_to_write_a_destination_is_understood() {
    let shop = Shop::new();
    let told = shop.told("demo/client-1 10.2.0.1:80");
    for to in [
        "web.demo:80",
        "web.demo",
        "demo/web:80",
        "web:80",
        "web",
        "web.demo.svc:80",
        "web.demo.svc.cluster.local:80",
        "web.demo.svc.cluster.local.:80",
        "[::ffff:10.2.0.1]:80",
    ] {
        assert_eq!(shop.told(&format!("demo/client-1 {to}")), told, "{to}");
    }
    assert_eq!(shop.told("10.1.0.1 web"), told);
    assert_eq!(
        shop.told("demo/client-1 web-1:9"),
        shop.told("demo/client-1 10.1.1.1:9")
    );
}

#[test]
fn what_does_not_exist_is_named_with_what_was_meant() {
    let shop = Shop::new();
    for (question, sentence) in [
        (
            "demo/clinet-1 web.demo:80",
            "no pod demo/clinet-1; did you mean demo/client-1?",
        ),
        (
            "client-1 web.demo:80",
            "several are named client-1; say which: demo/client-1, shop/client-1",
        ),
        ("nobody-at-all web.demo:80", "no pod nobody-at-all"),
        (
            "demo/client-1 wbe.demo:80",
            "no Service or pod wbe.demo; did you mean web.demo?",
        ),
        (
            "demo/client-1 demo/wbe:80",
            "no Service or pod demo/wbe; did you mean demo/web?",
        ),
        (
            "demo/client-1 web.demo:http",
            "\"http\" is no port: write the destination as name.namespace:port",
        ),
        (
            "demo/client-1 10.1.1.1",
            "10.1.1.1 has no port: write it as address:port",
        ),
        (
            "demo/client-1 demo/web-1",
            "which port of demo/web-1? write it as demo/web-1:port",
        ),
        (
            "demo/client-1 web.demo:80 GET admin",
            "\"admin\" is no path: it begins with /",
        ),
        (
            "demo/client-1 web.demo:80 GET /x%2fadmin",
            "every waypoint answers 400 to \"/x%2fadmin\": the path holds an encoded slash, which servers read in \
             different ways",
        ),
        ("demo/client-1 web.demo:80 G=T /", "\"G=T\" is no HTTP method"),
    ] {
        assert_eq!(shop.ask(question), Err(sentence.to_owned()), "{question}");
    }
}

#[test]
fn waypoints_in_a_circle_end() {
    let mut shop = Shop::new().with_waypoint(Vec::new()).with_route();
    let other = waypoint_pod("demo", "other", "10.1.0.8");
    shop.ways
        .push(waypoint("demo", "other", WaypointFor::Service, &[&other]));
    shop.pods.push(other);
    let next_pod = pod("demo", "next-1", "10.1.1.3");
    let mut next = service("demo", "next", "10.2.0.2", (80, 8080), &[&next_pod]);
    shop.pods.push(next_pod);
    next.waypoint = Some(waypoint_key("demo", "other"));
    // web is split to next alone, and next to web alone.
    let mut there = (*shop.services[0].routes[0]).clone();
    there.rules[0].backends.remove(0);
    let mut back = there.clone();
    back.rules[0].backends[0].service = service_key("demo", "web");
    shop.services[0].routes = [Arc::new(there)].into();
    next.routes = [Arc::new(back)].into();
    shop.services.push(next);
    let explained = shop.ask("demo/client-1 web.demo:80 GET /").expect("a story");
    assert!(!explained.allowed);
    assert!(explained.outcome.contains("circle"), "{}", explained.outcome);
}

#[test]
fn before_the_first_lists_nothing_is_promised() {
    let mut snapshot = Shop::new().snapshot();
    snapshot.complete = false;
    for from in ["demo/client-1", "demo/outsider"] {
        let question = Question {
            from: from.into(),
            to: "web.demo:80".into(),
            request: None,
            headers: Vec::new(),
        };
        let explained = why(&snapshot, &question).expect("a story");
        assert!(!explained.allowed);
        assert!(explained.outcome.contains("not complete yet"), "{}", explained.outcome);
    }
}

#[test]
fn pods_of_one_node_are_told_to_meet_in_memory_or_why_not() {
    let near = |fence: Fence| {
        let mut shop = Shop::new();
        for pod in &mut shop.pods {
            pod.node = "node-1".into();
            pod.fence = if pod.name.starts_with("web") {
                fence.clone()
            } else {
                Fence::Absent
            };
        }
        shop.told("demo/client-1 10.1.1.1:8080")
    };
    assert_eq!(
        near(Fence::Absent),
        [
            "ztunnel on node-1 hop: same node, in memory, to pod demo/web-1 at 10.1.1.1:8080",
            "ztunnel on node-1 verify: holds valid leaves of both: spiffe://cluster.local/ns/demo/sa/client-1 and \
             spiffe://cluster.local/ns/demo/sa/web-1",
            "ztunnel on node-1 verdict: allowed: no policy restricts port 8080",
            "allowed: pod demo/web-1 at 10.1.1.1:8080 is reached inside the node as \
             spiffe://cluster.local/ns/demo/sa/client-1",
        ]
    );
    let told = near(Fence::By("strict".into()));
    assert_eq!(
        told[1],
        "ztunnel on node-1 same node: over the wire: NetworkPolicy demo/strict selects one of the pods"
    );
    assert!(outcome(&told).starts_with("allowed: mutual TLS reaches"), "{told:?}");
    let told = near(Fence::Unread);
    assert!(told[1].contains("NetworkPolicies cannot be read"), "{told:?}");
}
