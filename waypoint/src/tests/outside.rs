//! ExternalServices bound to the waypoint.

use std::{net::SocketAddr, sync::Arc};

use decide::model::{
    Action, ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Policy, Refusal, Resolution, Visibility,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::world::{SOON, World, key, policy, service_key, set};

const API: &str = "240.0.0.7:80";

/// `api` at 240.0.0.7:80, in front of port 8080 of this host.
fn api(host: ExternalHost, policies: Vec<Policy>) -> ExternalService {
    let resolution = match &host {
        ExternalHost::Address(_) => Resolution::Static,
        ExternalHost::Name(_) => Resolution::Dns,
    };
    ExternalService {
        key: service_key("api"),
        hosts: vec!["api.example".into()],
        networks: vec!["240.0.0.7/32".parse().unwrap()],
        ports: vec![ExternalPort {
            number: 80,
            name: "".into(),
            app_protocol: None,
            target: 8080,
        }],
        resolution,
        endpoints: [ExternalEndpoint {
            host,
            ports: Box::default(),
            zone: None,
        }]
        .into(),
        visibility: Visibility::Namespace,
        waypoint: Some(key()),
        policies: set(policies),
        broken: None,
    }
}

fn address() -> ExternalHost {
    ExternalHost::Address("192.0.2.9".parse().unwrap())
}

fn know(world: &World, service: ExternalService) {
    world.change(|snapshot| {
        for network in &service.networks {
            let owner = Some(service.key.clone());
            snapshot.external.own_network(service.scope(), *network, owner);
        }
        snapshot.external.put(Arc::new(service));
    });
}

async fn echoes(world: &World, account: &str) -> bool {
    let Ok(mut io) = world.stream(account, API).await else {
        return false;
    };
    let mut echoed = [0; 4];
    io.write_all(b"*1\r\n").await.is_ok() && timeout(SOON, io.read_exact(&mut echoed)).await.unwrap().is_ok()
}

#[tokio::test]
async fn what_is_bound_outside_is_reached_at_its_endpoints_whatever_is_spoken() {
    let there: SocketAddr = "192.0.2.9:8080".parse().unwrap();
    for host in [address(), ExternalHost::Name("api.example".into())] {
        let world = World::new().await;
        let server = world.outside("api", "192.0.2.9:8080").await;
        know(&world, api(host, Vec::new()));
        assert_eq!(world.http1("web", API).await.get("/x").await.status, 200);
        assert_eq!(world.http2("web", API).await.get("/y").await.status, 200);
        assert!(echoes(&world, "web").await);
        assert_eq!((server.requests().len(), server.opaque()), (2, 1));
        assert!(world.reached().iter().all(|reached| *reached == there));
    }
}

#[tokio::test]
async fn what_is_reached_as_addressed_is_so_through_its_waypoint_too() {
    let world = World::new().await;
    let server = world.outside("api", API).await;
    let as_addressed = ExternalService {
        resolution: Resolution::None,
        endpoints: Arc::default(),
        ..api(address(), Vec::new())
    };
    know(&world, as_addressed);
    assert_eq!(world.http1("web", API).await.get("/x").await.status, 200);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_host_that_does_not_resolve_is_refused_with_the_reason() {
    let world = World::new().await;
    know(&world, api(ExternalHost::Name("gone.example".into()), Vec::new()));
    let answer = world.http1("web", API).await.get("/x").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("gone.example does not exist"), "{}", answer.body);
    assert!(!echoes(&world, "web").await && world.reached().is_empty());
}

#[tokio::test]
async fn policies_of_the_waypoint_judge_what_goes_outside_request_by_request() {
    let world = World::new().await;
    let server = world.outside("api", "192.0.2.9:8080").await;
    let policies = vec![policy("public", Action::Allow, &["web"], Some("/public"))];
    know(&world, api(address(), policies));
    assert_eq!(world.http1("web", API).await.get("/public/x").await.status, 200);
    for (account, path) in [("web", "/admin"), ("eve", "/public/x")] {
        let answer = world.http1(account, API).await.get(path).await;
        answer.refused(403, "DENY", "AuthorizationPolicy shop/public");
    }
    assert!(!echoes(&world, "web").await, "nobody can say what these bytes ask for");
    assert_eq!((server.requests().len(), server.opaque()), (1, 0));
}

#[tokio::test]
async fn an_opaque_connection_to_the_outside_is_cut_when_a_change_denies_it() {
    let world = World::new().await;
    let _server = world.outside("api", "192.0.2.9:8080").await;
    know(&world, api(address(), Vec::new()));
    let mut io = world.stream("web", API).await.unwrap();
    io.write_all(b"*1\r\n").await.unwrap();
    timeout(SOON, io.read_exact(&mut [0; 4])).await.unwrap().unwrap();
    know(
        &world,
        api(address(), vec![policy("closed", Action::Deny, &["web"], None)]),
    );
    assert!(timeout(SOON, io.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn nobody_outside_is_told_who_asks() {
    let world = World::new().await;
    let server = world.outside("api", "192.0.2.9:8080").await;
    know(&world, api(address(), Vec::new()));
    assert_eq!(world.http1("web", API).await.get("/x").await.status, 200);
    let headers = server.requests()[0].headers.clone();
    for name in ["x-forwarded-client-cert", "x-forwarded-for"] {
        assert_eq!(headers.get(name), None);
    }
}

#[tokio::test]
async fn what_is_not_bound_to_it_is_refused_before_anybody_is_dialled() {
    let world = World::new().await;
    let elsewhere = ExternalService {
        waypoint: None,
        ..api(address(), Vec::new())
    };
    know(&world, elsewhere);
    let refusal = world.stream("web", API).await.unwrap_err();
    assert!(matches!(refusal, Refusal::RefusedByPeer(..)), "{refusal:?}");
    assert!(world.reached().is_empty());
}
