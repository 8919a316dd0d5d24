//! Where requests go, and what becomes of them when that changes.

use std::{sync::Arc, time::Duration};

use decide::model::{Action, Capture, Refusal};

use super::{
    servers::until,
    world::{SOON, World, edit_pod, edit_service, enforce, pod, policy, put_service, route},
};

const WEB: &str = "10.2.0.1:80";

/// `web` with its pods, and the Service `new` with a pod `c` of its own.
async fn with_new() -> (World, [Arc<super::servers::Server>; 3]) {
    let world = World::new().await;
    world.change(|snapshot| put_service(snapshot, "new", "10.2.0.2", &[pod("c", "c", "10.1.0.3")]));
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
        world.server("c", "10.1.0.3:8080").await,
    ];
    (world, servers)
}

#[tokio::test]
async fn weights_are_honoured() {
    let (world, _servers) = with_new().await;
    world.change(|snapshot| {
        edit_service(snapshot, "web", |service| {
            service.routes = [route("/", &[("web", 90), ("new", 10)], None)].into();
        });
    });
    let mut connection = world.http1("web", WEB).await;
    let mut new = 0;
    for _ in 0..1000 {
        new += usize::from(connection.get("/").await.body == "c");
    }
    // Six standard deviations: fails by chance once in 500 million runs.
    assert!((43..=157).contains(&new), "{new} of 1000");
}

#[tokio::test]
async fn a_request_in_flight_survives_a_change() {
    let (world, [a, b, c]) = with_new().await;
    let mut kept = world.http1("web", WEB).await;
    let flying = tokio::spawn(async move {
        let first = kept.get("/slow").await;
        let second = kept.get("/").await;
        (first, second)
    });
    until(|| a.requests().len() + b.requests().len() == 1).await;
    world.change(|snapshot| {
        enforce(snapshot, vec![policy("closed", Action::Deny, &[], Some("/slow"))]);
        edit_service(snapshot, "web", |service| {
            service.routes = [route("/", &[("new", 1)], None)].into();
        });
    });
    for server in [&a, &b] {
        server.go_on();
    }
    let (first, second) = tokio::time::timeout(SOON, flying).await.unwrap().unwrap();
    assert_eq!(first.status, 200);
    assert_eq!(
        (second.status, &*second.body),
        (200, "c"),
        "the same connection goes by the new route"
    );
    assert_eq!(c.requests().len(), 1);
}

#[tokio::test]
async fn a_route_away_from_the_service_is_judged_by_both() {
    let (world, [.., c]) = with_new().await;
    world.change(|snapshot| {
        edit_service(snapshot, "web", |service| {
            service.routes = [route("/", &[("new", 1)], None)].into();
        });
        enforce(snapshot, vec![policy("no-admin", Action::Deny, &[], Some("/admin"))]);
    });
    world.get("web", "/admin").await.refused(403, "DENY", "shop/no-admin");
    assert_eq!(world.get("web", "/").await.body, "c");
    world.change(|snapshot| {
        edit_pod(snapshot, "c", |pod| {
            pod.policies = super::world::set(vec![policy("closed", Action::Deny, &["web"], None)]);
        });
    });
    world.get("web", "/").await.refused(403, "DENY", "shop/closed");
    assert_eq!(c.requests().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_routed_says_so() {
    let (world, _servers) = with_new().await;
    let with_route = |routes| {
        world.change(|snapshot| edit_service(snapshot, "web", |service| service.routes = routes));
    };
    with_route([route("/only", &[("web", 1)], None)].into());
    world.get("web", "/").await.refused(404, "NO_ROUTE", "shop/web");
    assert_eq!(world.get("web", "/only/x").await.status, 200);
    with_route([route("/", &[("gone", 1)], None)].into());
    world
        .get("web", "/")
        .await
        .refused(500, "BROKEN_ROUTE", "HTTPRoute shop/web");
    with_route(Arc::new([]));
    world.change(|snapshot| edit_service(snapshot, "web", |service| service.endpoints = Arc::new([])));
    world.get("web", "/").await.refused(503, "NO_ENDPOINT", "shop/web");
}

#[tokio::test]
async fn a_request_that_takes_too_long_gets_504() {
    let (world, _servers) = with_new().await;
    world.change(|snapshot| {
        edit_service(snapshot, "web", |service| {
            service.routes = [route("/", &[("web", 1)], Some(Duration::from_millis(200)))].into();
        });
    });
    world
        .get("web", "/slow")
        .await
        .refused(504, "DEADLINE", "request timeout");
    assert_eq!(world.get("web", "/").await.status, 200);
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over() {
    let world = World::new().await;
    let a = world.server("a", "10.1.0.1:8080").await;
    let mut connection = world.http1("web", WEB).await;
    for _ in 0..20 {
        assert_eq!(connection.get("/").await.body, "a");
    }
    assert_eq!(a.requests().len(), 20);
}

#[tokio::test]
async fn without_any_live_endpoint_the_answer_is_503() {
    let world = World::new().await;
    world
        .get("web", "/")
        .await
        .refused(503, "CONNECT", "could not be connected");
}

#[tokio::test]
async fn a_pod_outside_the_mesh_is_reached_in_plain() {
    let world = World::new().await;
    world.change(|snapshot| {
        for name in ["a", "b"] {
            edit_pod(snapshot, name, |pod| pod.capture = Capture::Outside);
        }
    });
    let a = world.server("a", "10.1.0.1:8080").await;
    assert_eq!(world.get("web", "/").await.body, "a");
    assert!(a.peers().is_empty());
}

#[tokio::test]
async fn a_workload_that_is_asked_for_gets_the_request_itself() {
    let world = World::new().await;
    let (a, b) = (
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    );
    world.change(|snapshot| {
        edit_service(snapshot, "web", |service| {
            service.routes = [route("/never", &[("gone", 1)], None)].into();
        });
        enforce(snapshot, vec![policy("no-admin", Action::Deny, &[], Some("/admin"))]);
    });
    let mut connection = world.http1("web", "10.1.0.2:8080").await;
    for _ in 0..10 {
        assert_eq!(connection.get("/").await.body, "b");
    }
    connection.get("/admin").await.refused(403, "DENY", "shop/no-admin");
    assert_eq!((a.requests().len(), b.requests().len()), (0, 10));
}

#[tokio::test]
async fn an_unbound_authority_is_refused_before_dialling() {
    let world = World::new().await;
    world.change(|snapshot| {
        put_service(snapshot, "other", "10.2.0.9", &[pod("o", "o", "10.1.0.9")]);
        edit_service(snapshot, "other", |service| service.waypoint = None);
        edit_pod(snapshot, "o", |pod| pod.policies = Arc::default());
    });
    let _other = world.server("o", "10.1.0.9:8080").await;
    for authority in [
        "10.2.0.9:80",
        "10.1.0.9:8080",
        "10.1.0.250:8080",
        "10.2.0.1:81",
        "127.0.0.1:80",
        "10.1.0.250:15008",
        "169.254.169.254:80",
        "8.8.8.8:53",
    ] {
        let refusal = world.stream("web", authority).await.expect_err(authority);
        let Refusal::RefusedByPeer(400, reason) = &refusal else {
            panic!("{authority}: {refusal:?}");
        };
        assert!(reason.contains("NOT_BOUND"), "{authority}: {reason}");
    }
    assert!(world.reached().is_empty());
}

#[tokio::test]
async fn a_service_that_is_no_longer_bound_is_refused_on_kept_connections_too() {
    let world = World::new().await;
    let _servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let mut kept = world.http1("web", WEB).await;
    assert_eq!(kept.get("/").await.status, 200);
    world.change(|snapshot| edit_service(snapshot, "web", |service| service.waypoint = None));
    kept.get("/").await.refused(400, "NOT_BOUND", "not bound");
}
