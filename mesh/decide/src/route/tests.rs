use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::{
    model::{Backend, HeaderMatch, ObjectRef, PathMatch, Pattern, RouteMatch, ValueMatch},
    snapshot::testing::{service, service_key},
};

fn any() -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix("".into()),
        headers: Vec::new(),
        query: Vec::new(),
        method: None,
        broken: false,
    }
}

fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Prefix(path.into()),
        ..any()
    }
}

fn exact(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Exact(path.into()),
        ..any()
    }
}

fn regex(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::Regex(Pattern(regex::Regex::new(path).expect("an expression"))),
        ..any()
    }
}

fn named(name: &str, value: &str) -> HeaderMatch {
    HeaderMatch {
        name: name.into(),
        value: ValueMatch::Exact(value.into()),
    }
}

fn with_method(method: &str, wanted: RouteMatch) -> RouteMatch {
    RouteMatch {
        method: Some(method.into()),
        ..wanted
    }
}

fn with_headers(names: &[&str], wanted: RouteMatch) -> RouteMatch {
    RouteMatch {
        headers: names.iter().map(|name| named(name, "1")).collect(),
        ..wanted
    }
}

fn with_query(names: &[&str], wanted: RouteMatch) -> RouteMatch {
    RouteMatch {
        query: names.iter().map(|name| named(name, "1")).collect(),
        ..wanted
    }
}

fn backend(weight: u32) -> Backend {
    Backend {
        service: service_key("demo", "web"),
        port: 80,
        weight,
        broken: None,
    }
}

fn rule(matches: Vec<RouteMatch>) -> RouteRule {
    RouteRule {
        name: "".into(),
        matches,
        backends: vec![backend(1)],
        request_timeout: None,
        broken: None,
    }
}

fn http_route(namespace: &str, name: &str, rules: Vec<RouteRule>) -> HttpRoute {
    HttpRoute {
        object: ObjectRef {
            kind: "HTTPRoute".into(),
            namespace: namespace.into(),
            name: name.into(),
        },
        parent_port: None,
        consumer: namespace != "demo",
        rules,
    }
}

/// A request as text: `GET /path?query`, then `name: value` lines.
fn asked(routes: Vec<HttpRoute>, caller: Option<&str>, request: &str, random: u64) -> Route {
    let mut web = service("demo", "web", "10.2.0.1", (80, 8080), &[]);
    web.routes = routes.into_iter().map(Arc::new).collect();
    let mut lines = request.lines();
    let (method, target) = lines.next().expect("a request line").split_once(' ').expect("a method");
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let headers: HeaderMap = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().expect("a name"),
                value.parse::<HeaderValue>().expect("a value"),
            )
        })
        .collect();
    let request = Request {
        method,
        path,
        query,
        host: "web.demo",
        headers: &headers,
    };
    route(&Arc::new(web), 80, caller, &request, random)
}

/// `route name/rule index`, or the refusal's label.
fn chosen(routes: Vec<HttpRoute>, caller: Option<&str>, request: &str) -> String {
    match asked(routes, caller, request, 0) {
        Route::Unrouted => "unrouted".into(),
        Route::Rule { route, rule, .. } => format!("{}/{rule}", route.object.name),
        Route::Refused(refusal) => refusal.label().into(),
    }
}

fn index(matches: Vec<RouteMatch>, request: &str) -> Option<usize> {
    let rules = matches.into_iter().map(|it| rule(vec![it])).collect();
    match asked(vec![http_route("demo", "r", rules)], None, request, 0) {
        Route::Rule { rule, .. } => Some(rule),
        _ => None,
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "one table")]
fn matches_hold_as_gateway_api_says() {
    let table: &[(RouteMatch, &str, bool)] = &[
        (prefix("/v2"), "GET /v2", true),
        (prefix("/v2"), "GET /v2/", true),
        (prefix("/v2"), "GET /v2/a", true),
        (prefix("/v2"), "GET /v2example", false),
        (prefix("/v2"), "GET /V2", false),
        (prefix("/v2"), "GET /a/v2", false),
        (any(), "GET /anything", true),
        (any(), "OPTIONS *", true),
        (exact("/a"), "GET /a", true),
        (exact("/a"), "GET /a/", false),
        (exact("/a"), "GET /a?b=c", true),
        (regex("/v[0-9]+"), "GET /v12", true),
        (regex("/v[0-9]+"), "GET /v12/x", false),
        (regex("/v[0-9]+"), "GET /x/v12", false),
        (with_method("GET", any()), "GET /", true),
        (with_method("GET", any()), "POST /", false),
        (with_method("GET", any()), "get /", false),
        (with_headers(&["x-a"], any()), "GET /\nX-A: 1", true),
        (with_headers(&["x-a"], any()), "GET /\nx-a: 2", false),
        (with_headers(&["x-a"], any()), "GET /", false),
        (with_headers(&["x-a", "x-b"], any()), "GET /\nx-a: 1", false),
        (
            RouteMatch {
                headers: vec![named("x-a", "1,2")],
                ..any()
            },
            "GET /\nx-a: 1\nx-a: 2",
            true,
        ),
        (
            RouteMatch {
                headers: vec![named("host", "web.demo")],
                ..any()
            },
            "GET /",
            true,
        ),
        // Of two conditions on one name only the first counts.
        (
            RouteMatch {
                headers: vec![named("x-a", "1"), named("x-a", "2")],
                ..any()
            },
            "GET /\nx-a: 1",
            true,
        ),
        (with_query(&["a"], any()), "GET /?b=2&a=1", true),
        (with_query(&["a"], any()), "GET /?a=2&a=1", false),
        (with_query(&["a"], any()), "GET /?aa=1", false),
        (
            RouteMatch {
                query: vec![named("a b", "c&d")],
                ..any()
            },
            "GET /?a+b=c%26d",
            true,
        ),
        (
            RouteMatch {
                query: vec![named("a", "")],
                ..any()
            },
            "GET /?a",
            true,
        ),
        (
            RouteMatch {
                query: vec![named("a", "%zz%4")],
                ..any()
            },
            "GET /?a=%zz%4",
            true,
        ),
        (RouteMatch { broken: true, ..any() }, "GET /", false),
    ];
    for (wanted, request, holds) in table {
        assert_eq!(
            index(vec![wanted.clone()], request).is_some(),
            *holds,
            "{wanted:?} on {request:?}"
        );
    }
}

/// Each stands before those after it, for a request that all of them match.
fn by_precedence() -> Vec<RouteMatch> {
    vec![
        with_method("GET", exact("/a/b/c")),
        with_headers(&["x-a", "x-b"], exact("/a/b/c")),
        exact("/a/b/c"),
        with_method("GET", prefix("/a/b/c")),
        prefix("/a/b/c"),
        with_headers(&["x-a", "x-b"], prefix("/a/b")),
        with_query(&["q", "r"], with_headers(&["x-a"], prefix("/a/b"))),
        with_headers(&["x-a"], prefix("/a/b")),
        with_query(&["q", "r"], prefix("/a/b")),
        with_query(&["q"], prefix("/a/b")),
        prefix("/a/b"),
        with_query(&["q"], with_headers(&["x-a", "x-b"], with_method("GET", prefix("/a")))),
        with_method("GET", prefix("/a")),
        prefix("/a"),
        regex("/a/.*"),
        with_method("GET", any()),
        with_headers(&["x-a", "x-b"], any()),
        with_query(&["q"], any()),
        any(),
    ]
}

const ALL_OF_IT: &str = "GET /a/b/c?q=1&r=1\nx-a: 1\nx-b: 1";

#[test]
fn the_more_specific_match_wins_in_whatever_order_they_are_written() {
    let ranked = by_precedence();
    for (first, winner) in ranked.iter().enumerate() {
        for loser in ranked.iter().skip(first + 1) {
            assert_eq!(
                index(vec![winner.clone(), loser.clone()], ALL_OF_IT),
                Some(0),
                "{winner:?} {loser:?}"
            );
            assert_eq!(
                index(vec![loser.clone(), winner.clone()], ALL_OF_IT),
                Some(1),
                "{winner:?} {loser:?}"
            );
        }
    }
}

#[test]
fn of_equals_the_oldest_route_then_the_first_rule_wins() {
    let routes = || {
        vec![
            http_route(
                "demo",
                "older",
                vec![
                    rule(vec![prefix("/x")]),
                    rule(vec![prefix("/a")]),
                    rule(vec![prefix("/a")]),
                ],
            ),
            http_route(
                "demo",
                "newer",
                vec![rule(vec![prefix("/a")]), rule(vec![exact("/a/b")])],
            ),
        ]
    };
    assert_eq!(chosen(routes(), None, "GET /a/c"), "older/1");
    assert_eq!(chosen(routes(), None, "GET /a/b"), "newer/1");
}

#[test]
fn a_rule_is_as_specific_as_the_best_of_its_matches_that_hold() {
    let rules = vec![rule(vec![any(), exact("/other")]), rule(vec![prefix("/a")])];
    assert_eq!(chosen(vec![http_route("demo", "r", rules)], None, "GET /a"), "r/1");
}

#[test]
fn without_routes_on_this_port_the_service_stands_for_itself() {
    assert_eq!(chosen(Vec::new(), None, "GET /"), "unrouted");
    let mut elsewhere = http_route("demo", "r", vec![rule(vec![any()])]);
    elsewhere.parent_port = Some(81);
    assert_eq!(chosen(vec![elsewhere.clone()], None, "GET /"), "unrouted");
    elsewhere.parent_port = Some(80);
    assert_eq!(chosen(vec![elsewhere], None, "GET /"), "r/0");
}

#[test]
fn a_request_no_rule_matches_is_refused_and_not_passed_on() {
    let routes = vec![http_route("demo", "r", vec![rule(vec![prefix("/a")])])];
    assert_eq!(chosen(routes, None, "GET /b"), "NO_ROUTE");
    assert_eq!(
        chosen(vec![http_route("demo", "r", Vec::new())], None, "GET /b"),
        "NO_ROUTE"
    );
}

#[test]
fn consumer_routes_hold_for_their_own_namespace_only_and_instead_of_the_services() {
    let routes = || {
        vec![
            http_route("demo", "producer", vec![rule(vec![any()])]),
            http_route("shop", "consumer", vec![rule(vec![prefix("/a")])]),
        ]
    };
    assert_eq!(chosen(routes(), Some("shop"), "GET /a"), "consumer/0");
    assert_eq!(chosen(routes(), Some("shop"), "GET /b"), "NO_ROUTE");
    assert_eq!(chosen(routes(), Some("other"), "GET /a"), "producer/0");
    assert_eq!(chosen(routes(), None, "GET /a"), "producer/0");
    assert_eq!(chosen(routes().split_off(1), Some("other"), "GET /a"), "unrouted");
}

#[test]
fn what_cannot_be_honoured_is_refused_by_its_field() {
    let field = |rule: RouteRule| match asked(vec![http_route("demo", "r", vec![rule])], None, "GET /", 0) {
        Route::Refused(Refusal::BrokenRoute(by, why)) => format!("{} {}: {why}", by.object.name, by.field),
        other => panic!("{other:?}"),
    };
    let whole = RouteRule {
        broken: Some("a filter".into()),
        ..rule(vec![any()])
    };
    assert_eq!(field(whole), "r spec.rules[0]: a filter");
    let absent = Backend {
        broken: Some("absent".into()),
        ..backend(1)
    };
    let one = RouteRule {
        backends: vec![backend(0), absent],
        ..rule(vec![any()])
    };
    assert_eq!(field(one), "r spec.rules[0].backendRefs[1]: absent");
    for backends in [Vec::new(), vec![backend(0), backend(0)]] {
        let none = RouteRule {
            backends,
            ..rule(vec![any()])
        };
        assert_eq!(
            field(none),
            "r spec.rules[0].backendRefs: no backend has a weight above 0"
        );
    }
}

proptest! {
    #[test]
    fn weights_are_exact_over_their_range(weights in prop::collection::vec(0u32..50, 1..6), offset in 0u64..1000) {
        let total: u64 = weights.iter().map(|it| u64::from(*it)).sum();
        prop_assume!(total > 0);
        let split = RouteRule { backends: weights.iter().map(|it| backend(*it)).collect(), ..rule(vec![any()]) };
        let mut seen = vec![0u32; weights.len()];
        for random in offset * total..(offset + 1) * total {
            seen[weighted(&split, random).expect("a backend")] += 1;
        }
        prop_assert_eq!(seen, weights);
    }

    #[test]
    fn the_largest_weights_do_not_overflow(random: u64) {
        let split = RouteRule { backends: vec![backend(u32::MAX); 16], ..rule(vec![any()]) };
        prop_assert!(weighted(&split, random).is_some());
    }

    #[test]
    fn the_order_of_rules_does_not_matter_where_specificity_differs(order in Just((0..19usize).collect::<Vec<_>>()).prop_shuffle(), kept in 1usize..19) {
        let ranked = by_precedence();
        let order = &order[..kept];
        let matches = order.iter().map(|rank| ranked[*rank].clone()).collect();
        let winner = index(matches, ALL_OF_IT).expect("all match");
        prop_assert_eq!(Some(&order[winner]), order.iter().min());
    }

    #[test]
    fn no_request_panics(path in ".*", query in ".*", value in "[ -~]*") {
        let request = format!("GET /{}?{}\nx-a: {value}x", path.replace(['\n', '\r'], ""), query.replace(['\n', '\r'], ""));
        let _ = index(by_precedence(), &request);
    }
}
