//! Bounds, timers and the end.

use std::time::Duration;

use decide::model::Refusal;
use http::Request;
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    hits,
    servers::{Server, until},
    world::{SOON, World, settings},
};
use crate::{bounds::FLYING, waypoint::Settings};

const WEB: &str = "10.2.0.1:80";

async fn servers(world: &World) -> [std::sync::Arc<Server>; 2] {
    [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ]
}

#[tokio::test]
async fn too_many_headers_are_refused() {
    let world = World::new().await;
    let servers = servers(&world).await;
    let many = |count| {
        (0..count).fold(Request::get("/"), |request, index| {
            request.header(format!("x-{index}"), "1")
        })
    };
    for mut connection in [world.http1("web", WEB).await, world.http2("web", WEB).await] {
        assert_eq!(connection.send(many(15)).await.status, 200);
        connection.send(many(20 + 1)).await.refused(
            400,
            "MALFORMED",
            "20 headers are read of one request, and --max-headers allows no more",
        );
    }
    assert_eq!(servers.iter().map(|server| server.requests().len()).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_head_beyond_its_bound_is_refused_with_the_reason() {
    let world = World::new().await;
    let servers = servers(&world).await;
    for mut connection in [world.http1("web", WEB).await, world.http2("web", WEB).await] {
        let long = |length| Request::get("/").header("x-long", "x".repeat(length));
        assert_eq!(connection.send(long(12 * 1024)).await.status, 200);
        connection.send(long(17 * 1024)).await.refused(
            431,
            "HEAD_TOO_LARGE",
            "16384 bytes are read of one request's head, and --max-head allows no more",
        );
    }
    assert_eq!(servers.iter().map(|server| server.requests().len()).sum::<usize>(), 2);
}

#[tokio::test]
async fn a_connection_with_all_the_requests_it_may_have_in_flight_counts_as_slowed() {
    // Of this thread alone: other tests reach the bound as well.
    let recorder = PrometheusBuilder::new().build_recorder();
    let _here = metrics::set_default_local_recorder(&recorder);
    let world = World::with(Settings {
        max_streams: 1,
        ..settings()
    })
    .await;
    let _servers = servers(&world).await;
    assert_eq!(world.http1("web", WEB).await.get("/").await.status, 200);
    assert_eq!(hits(&recorder, FLYING), 0, "HTTP/1 has no such bound");
    assert_eq!(world.http2("web", WEB).await.get("/").await.status, 200);
    assert_eq!(hits(&recorder, FLYING), 1);
}

#[tokio::test]
async fn a_head_too_long_is_refused() {
    let world = World::new().await;
    let servers = servers(&world).await;
    let mut io = world.stream("web", WEB).await.unwrap();
    let head = format!(
        "GET / HTTP/1.1\r\nhost: web\r\nx-long: {}\r\n\r\n",
        "x".repeat(64 * 1024)
    );
    let _ = io.write_all(head.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = timeout(SOON, io.read_to_end(&mut answer)).await.unwrap();
    assert!(
        String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 431"),
        "{:?}",
        String::from_utf8_lossy(&answer)
    );
    assert!(servers.iter().all(|server| server.requests().is_empty()));
}

#[tokio::test]
async fn a_head_that_never_ends_ends_the_connection_and_an_idle_one_stays() {
    let world = World::with(Settings {
        head_timeout: Duration::from_millis(100),
        ..settings()
    })
    .await;
    let _servers = servers(&world).await;
    let mut idle = world.http1("web", WEB).await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut io = world.stream("web", WEB).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(SOON, io.read_to_end(&mut answer)).await.expect("it is ended");
    assert!(answer.is_empty());
    assert_eq!(idle.get("/").await.status, 200, "no head was incomplete there");
}

#[tokio::test]
async fn an_idle_connection_ends() {
    let world = World::with(Settings {
        idle: Duration::from_millis(100),
        ..settings()
    })
    .await;
    let _servers = servers(&world).await;
    let mut io = world.stream("web", WEB).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: web\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(SOON, io.read_to_string(&mut answer))
        .await
        .expect("it is ended")
        .unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn beyond_the_bound_on_requests_the_answer_is_503() {
    let world = World::with(Settings {
        max_requests: 1,
        ..settings()
    })
    .await;
    let servers = servers(&world).await;
    let mut slow = world.http1("web", WEB).await;
    let flying = tokio::spawn(async move { slow.get("/slow").await });
    until(|| servers.iter().any(|server| !server.requests().is_empty())).await;
    world.get("web", "/").await.refused(503, "OVERLOADED", "--max-requests");
    for server in &servers {
        server.go_on();
    }
    assert_eq!(flying.await.unwrap().status, 200);
    assert_eq!(world.get("web", "/").await.status, 200);
    until(|| world.waypoint.requests.available_permits() == 1).await;
}

#[tokio::test]
async fn a_drain_finishes_what_flies_and_takes_no_more() {
    let world = World::new().await;
    let servers = servers(&world).await;
    let (mut one, mut two) = (world.http1("web", WEB).await, world.http2("web", WEB).await);
    let flying = tokio::spawn(async move { (one.get("/slow").await, one) });
    let flying_too = tokio::spawn(async move { (two.get("/slow").await, two) });
    until(|| servers.iter().map(|server| server.requests().len()).sum::<usize>() == 2).await;
    world.draining.cancel();
    for server in &servers {
        server.slow(0).await;
        server.go_on();
    }
    let ((first, mut one), (second, mut two)) =
        timeout(SOON, async { (flying.await.unwrap(), flying_too.await.unwrap()) })
            .await
            .unwrap();
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(first.headers["connection"], "close");
    for connection in [&mut one, &mut two] {
        let empty = http_body_util::BodyExt::boxed(http_body_util::BodyExt::map_err(
            http_body_util::Empty::new(),
            |never| match never {},
        ));
        assert!(connection.start(Request::get("/"), empty).await.is_err());
    }
}

#[tokio::test]
async fn before_the_configuration_is_complete_a_stream_is_held_then_refused() {
    let world = World::with(Settings {
        hold: Duration::from_millis(200),
        ..settings()
    })
    .await;
    let _servers = servers(&world).await;
    world.change(|snapshot| snapshot.complete = false);
    let refusal = world.stream("web", WEB).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::RefusedByPeer(503, reason) if reason.contains("NOT_CONFIGURED")));
    world.change(|snapshot| snapshot.complete = true);
    assert_eq!(world.get("web", "/").await.status, 200);
}
