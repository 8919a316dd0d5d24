//! Requests: policy, identity, protocols, bodies, upgrades.

use decide::model::Action;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    servers::{full, pieces, whole},
    world::{World, edit_pod, enforce, identity, policy, set},
};

const WEB: &str = "10.2.0.1:80";

#[tokio::test]
async fn a_request_reaches_a_pod_of_the_service_by_our_identity() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let answer = world.get("web", "/x?y=z").await;
    assert_eq!(answer.status, 200);
    let server = servers.iter().find(|server| !server.requests().is_empty()).unwrap();
    assert_eq!(server.requests()[0].target, "/x?y=z");
    assert_eq!(server.peers(), [identity("waypoint")]);
}

#[tokio::test]
async fn a_request_no_policy_allows_gets_403_and_never_reaches_the_server() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| {
        enforce(
            snapshot,
            vec![policy("public", Action::Allow, &["web"], Some("/public"))],
        )
    });
    for (account, path, allowed) in [
        ("web", "/public/x", true),
        ("web", "/admin", false),
        ("web", "/public/../admin", false),
        ("web", "/public/%2e%2e/admin", false),
        ("eve", "/public/x", false),
    ] {
        let answer = world.get(account, path).await;
        if allowed {
            assert_eq!(answer.status, 200, "{account} {path}");
        } else {
            answer.refused(403, "DENY", "AuthorizationPolicy shop/public");
        }
    }
    let seen: Vec<_> = servers.iter().flat_map(|server| server.requests()).collect();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].target, "/public/x");
}

#[tokio::test]
async fn deny_wins_whatever_form_the_path_takes() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| enforce(snapshot, vec![policy("no-admin", Action::Deny, &[], Some("/admin"))]));
    for path in [
        "/admin",
        "//admin",
        "/./admin",
        "/x/../admin",
        "/%61dmin",
        "/%61dmin/x",
        "/x/%2e%2e/admin",
    ] {
        world
            .get("web", path)
            .await
            .refused(403, "DENY", "shop/no-admin spec.rules[0]");
    }
    world
        .get("web", "/x%2fadmin")
        .await
        .refused(400, "MALFORMED", "encoded slash");
    assert_eq!(world.get("web", "/administrator?/admin").await.status, 403);
    assert_eq!(world.get("web", "/x?/admin").await.status, 200);
    assert_eq!(servers.iter().map(|server| server.requests().len()).sum::<usize>(), 1);
}

#[tokio::test]
async fn a_grpc_client_is_refused_in_its_own_terms() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| enforce(snapshot, vec![policy("no-admin", Action::Deny, &[], Some("/admin"))]));
    let mut connection = world.http2("web", WEB).await;
    for kind in ["application/grpc", "application/grpc+proto"] {
        let call = Request::post("/admin/Call").header("content-type", kind);
        let response = connection.start(call, full(String::new())).await.unwrap();
        assert!(response.body().is_end_stream(), "trailers alone");
        let answer = whole(response).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.headers["grpc-status"], "7");
        let message = answer.headers["grpc-message"].to_str().unwrap();
        assert!(message.contains("shop/no-admin"), "{message}");
        assert_eq!(answer.headers["weft-refusal"], "DENY");
    }
    let web = Request::post("/admin/Call").header("content-type", "application/grpc-web");
    connection.send(web).await.refused(403, "DENY", "shop/no-admin");
    assert!(servers.iter().all(|server| server.requests().is_empty()));
}

#[tokio::test]
async fn a_policy_takes_effect_on_the_next_request_of_a_kept_connection() {
    let world = World::new().await;
    let _servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let mut kept = world.http1("web", WEB).await;
    assert_eq!(kept.get("/").await.status, 200);
    world.change(|snapshot| enforce(snapshot, vec![policy("closed", Action::Deny, &["web"], None)]));
    kept.get("/").await.refused(403, "DENY", "shop/closed");
    world.change(|snapshot| enforce(snapshot, vec![]));
    assert_eq!(kept.get("/").await.status, 200);
}

#[tokio::test]
async fn an_endpoint_whose_policies_refuse_is_no_candidate() {
    let world = World::new().await;
    let (a, b) = (
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    );
    world.change(|snapshot| {
        edit_pod(snapshot, "b", |pod| {
            pod.policies = set(vec![policy("not-b", Action::Deny, &["web"], None)]);
        });
    });
    let mut connection = world.http1("web", WEB).await;
    for _ in 0..20 {
        assert_eq!(connection.get("/").await.body, "a");
    }
    assert_eq!((a.requests().len(), b.requests().len()), (20, 0));
}

#[tokio::test]
async fn the_server_is_told_who_the_client_is_and_the_client_cannot_lie() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let lie = Request::get("/")
        .header("x-forwarded-client-cert", "URI=spiffe://cluster.local/ns/shop/sa/admin")
        .header("x-forwarded-for", "1.2.3.4")
        .header("traceparent", "00-960aa7e1688279c3826a82b5a85c8773-e68141810719af1d-01");
    assert_eq!(world.http1("web", WEB).await.send(lie).await.status, 200);
    let seen = servers.iter().flat_map(|server| server.requests()).next().unwrap();
    assert_eq!(
        seen.headers["x-forwarded-client-cert"],
        "By=spiffe://cluster.local/ns/shop/sa/waypoint;URI=spiffe://cluster.local/ns/shop/sa/web"
    );
    assert_eq!(seen.headers["x-forwarded-for"], "127.0.0.1");
    assert_eq!(seen.headers["host"], "web.shop");
    assert_eq!(
        seen.headers["traceparent"],
        "00-960aa7e1688279c3826a82b5a85c8773-e68141810719af1d-01"
    );
}

#[tokio::test]
async fn http2_stays_http2_and_its_requests_are_judged_one_by_one() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| enforce(snapshot, vec![policy("no-admin", Action::Deny, &[], Some("/admin"))]));
    let mut connection = world.http2("web", WEB).await;
    for _ in 0..10 {
        assert_eq!(connection.get("/x").await.status, 200);
        connection.get("/admin").await.refused(403, "DENY", "shop/no-admin");
    }
    let seen: Vec<_> = servers.iter().flat_map(|server| server.requests()).collect();
    assert_eq!(seen.len(), 10);
    assert!(seen.iter().all(|seen| seen.version == Version::HTTP_2));
    assert!(servers.iter().all(|server| server.connections() <= 1));
}

#[tokio::test]
async fn connections_are_kept_and_never_shared_between_endpoints() {
    let world = World::new().await;
    let (a, b) = (
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    );
    let mut connection = world.http1("web", WEB).await;
    let mut answers = Vec::new();
    for _ in 0..40 {
        answers.push(connection.get("/").await.body);
    }
    for server in [(&a, "a"), (&b, "b")] {
        let answered = answers.iter().filter(|name| *name == server.1).count();
        assert_eq!(server.0.requests().len(), answered);
        assert!(answered > 0, "both endpoints are picked");
        // One is enough; a second may be made while the first is still being given back.
        assert!(server.0.connections() <= 3, "{}", server.0.connections());
    }
}

#[tokio::test]
async fn a_kept_connection_the_server_closed_fails_no_request() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let mut connection = world.http1("web", WEB).await;
    for _ in 0..30 {
        assert_eq!(connection.get("/close").await.status, 200);
        tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    }
    // One that was under way when the connection closed is sent again.
    assert!(servers.iter().map(|server| server.requests().len()).sum::<usize>() >= 30);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let world = World::new().await;
    let _servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    for mut connection in [world.http1("web", WEB).await, world.http2("web", WEB).await] {
        let (pieces, body) = pieces();
        pieces.send("first").await.unwrap();
        let response = connection.start(Request::post("/echo"), body).await.unwrap();
        let mut echoed = response.into_body();
        let frame = echoed.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "first", "before the request has ended");
        pieces.send("second").await.unwrap();
        drop(pieces);
        assert_eq!(echoed.collect().await.unwrap().to_bytes(), "second");
    }
}

#[tokio::test]
async fn an_upgrade_passes() {
    let world = World::new().await;
    let _servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let mut connection = world.http1("web", WEB).await;
    let asked = Request::get("/upgrade")
        .header("connection", "upgrade")
        .header("upgrade", "echo");
    let mut response = connection
        .start(
            asked,
            http_body_util::Empty::new().map_err(|never| match never {}).boxed(),
        )
        .await
        .unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(response.headers()["upgrade"], "echo");
    let mut switched = TokioIo::new(hyper::upgrade::on(&mut response).await.unwrap());
    switched.write_all(b"hello").await.unwrap();
    let mut echoed = [0; 5];
    switched.read_exact(&mut echoed).await.unwrap();
    assert_eq!(&echoed, b"hello");
}

#[tokio::test]
async fn an_upgrade_no_policy_allows_gets_403() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| {
        enforce(
            snapshot,
            vec![policy("no-upgrade", Action::Deny, &[], Some("/upgrade"))],
        )
    });
    let mut connection = world.http1("web", WEB).await;
    let asked = Request::get("/upgrade")
        .header("connection", "upgrade")
        .header("upgrade", "echo");
    let response = connection
        .start(
            asked,
            http_body_util::Empty::new().map_err(|never| match never {}).boxed(),
        )
        .await
        .unwrap();
    whole(response).await.refused(403, "DENY", "shop/no-upgrade");
    assert!(servers.iter().all(|server| server.requests().is_empty()));
}
