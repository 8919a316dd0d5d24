//! Bytes that are no HTTP.

use act::hbone::Traceparent;
use decide::{
    model::{Action, Refusal, ServicePort},
    snapshot::Snapshot,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::world::{SOON, World, edit_service, enforce, policy, route};

const WEB: &str = "10.2.0.1:80";

async fn echoes(io: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    let mut echoed = [0; 4];
    io.write_all(b"*1\r\n").await.is_ok() && timeout(SOON, io.read_exact(&mut echoed)).await.unwrap().is_ok()
}

#[tokio::test]
async fn bytes_that_are_no_http_pass_where_no_rule_could_read_them() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| enforce(snapshot, vec![policy("web", Action::Allow, &["web"], None)]));
    let mut io = world.stream("web", WEB).await.unwrap();
    assert!(echoes(&mut io).await && echoes(&mut io).await);
    io.shutdown().await.unwrap();
    assert_eq!(
        timeout(SOON, io.read_u8()).await.unwrap().unwrap_err().kind(),
        std::io::ErrorKind::UnexpectedEof
    );
    assert_eq!(servers.iter().map(|server| server.opaque()).sum::<usize>(), 1);
    let mut io = world.stream("eve", WEB).await.unwrap();
    assert!(!echoes(&mut io).await, "L4 rules hold");
}

#[tokio::test]
async fn bytes_that_are_no_http_are_refused_where_a_rule_would_have_to_read_them() {
    let world = World::new().await;
    let servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    world.change(|snapshot| {
        enforce(
            snapshot,
            vec![policy("no-admin", Action::Deny, &["web"], Some("/admin"))],
        )
    });
    let mut io = world.stream("web", WEB).await.unwrap();
    assert!(!echoes(&mut io).await);
    assert_eq!(servers.iter().map(|server| server.opaque()).sum::<usize>(), 0);
    assert!(world.reached().is_empty());
    let mut io = world.stream("db", WEB).await.unwrap();
    assert!(echoes(&mut io).await, "the rule does not concern this client");
}

#[tokio::test]
async fn an_opaque_connection_is_cut_when_a_change_denies_it() {
    let world = World::new().await;
    let _servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let mut io = world.stream("web", WEB).await.unwrap();
    assert!(echoes(&mut io).await);
    world.change(|_| {});
    assert!(echoes(&mut io).await, "a change that denies nothing cuts nothing");
    world.change(|snapshot| enforce(snapshot, vec![policy("closed", Action::Deny, &["web"], None)]));
    let ended = timeout(SOON, io.read_u8()).await.unwrap();
    assert!(ended.is_err());
}

#[tokio::test]
async fn an_opaque_connections_trace_goes_on_through_the_waypoint() {
    let world = World::new().await;
    let _servers = [
        world.server("a", "10.1.0.1:8080").await,
        world.server("b", "10.1.0.2:8080").await,
    ];
    let trace = Traceparent::new(0xabc, 7);
    let mut io = world.traced("web", WEB, Some(trace)).await.unwrap();
    assert!(echoes(&mut io).await);
    let onward = world.network.traces.lock().unwrap()[0].unwrap();
    assert_eq!(onward.trace(), trace.trace());
    assert_ne!(onward, trace, "our own part of it");
    let mut io = world.stream("web", WEB).await.unwrap();
    assert!(echoes(&mut io).await);
    assert_eq!(world.network.traces.lock().unwrap()[1], None);
}

#[tokio::test]
async fn a_port_with_routes_speaks_http_and_nothing_else() {
    let world = World::new().await;
    world.change(|snapshot| {
        edit_service(snapshot, "web", |service| {
            service.routes = [route("/", &[("web", 1)], None)].into();
        });
    });
    let mut io = world.stream("web", WEB).await.unwrap();
    assert!(!echoes(&mut io).await);
    assert!(world.reached().is_empty());
}

#[tokio::test]
async fn a_port_declared_as_tcp_is_no_way_around_a_rule_that_needs_http() {
    let world = World::new().await;
    world.change(|snapshot| {
        declare_tcp(snapshot);
        enforce(
            snapshot,
            vec![policy("no-admin", Action::Deny, &["web"], Some("/admin"))],
        );
    });
    let refusal = world.stream("web", WEB).await.unwrap_err();
    assert!(matches!(&refusal, Refusal::RefusedByPeer(403, reason) if reason.contains("shop/no-admin")));
    assert!(world.reached().is_empty());
}

#[tokio::test]
async fn a_port_declared_as_tcp_is_accepted_only_once_its_server_has_accepted() {
    let world = World::new().await;
    world.change(declare_tcp);
    let refusal = world.stream("web", WEB).await.unwrap_err();
    assert!(matches!(refusal, Refusal::RefusedByPeer(503, _)), "{refusal:?}");
    let _a = world.server("a", "10.1.0.1:8080").await;
    let mut io = world.stream("web", WEB).await.unwrap();
    assert!(echoes(&mut io).await);
}

fn declare_tcp(snapshot: &mut Snapshot) {
    edit_service(snapshot, "web", |service| {
        service.ports = vec![ServicePort {
            name: "".into(),
            port: 80,
            app_protocol: Some("tcp".into()),
        }];
    });
}
