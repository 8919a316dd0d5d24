//! Who may, and by which way, as connections meet it.

use std::net::SocketAddr;

use act::{certs::CertError, hbone::Tunnel};
use decide::model::{
    Action, BoundWaypoint, Capture, Operation, PortMatch, Rule, Service, ServiceKey, StringMatch, Waypoint, WaypointKey,
};

use super::{
    mesh::{FOURTH, policy},
    *,
};

/// Nobody may do anything but GET on port 8080; these waypoints may judge that.
fn no_post(waypoints: &[&Waypoint]) -> Arc<PolicySet> {
    let post = Rule {
        to: vec![Operation {
            ports: vec![PortMatch::Is(8080)],
            not_methods: vec![StringMatch::Exact("GET".into())],
            ..Operation::default()
        }],
        ..Rule::default()
    };
    let bound = |waypoint: &&Waypoint| BoundWaypoint {
        key: waypoint.key.clone(),
        identity: waypoint.identity.clone(),
        ports: Some([8080].into()),
    };
    Arc::new(PolicySet {
        policies: vec![policy("no-post", Action::Deny, vec![post])],
        waypoints: waypoints.iter().map(bound).collect(),
        ..PolicySet::default()
    })
}

/// A Service of its own name before port 8080 of these pods.
fn service(name: &str, address: &str, pods: &[&Workload], waypoint: Option<&Waypoint>) -> Service {
    Service {
        key: ServiceKey {
            namespace: "shop".into(),
            name: name.into(),
        },
        waypoint: waypoint.map(|waypoint| waypoint.key.clone()),
        ..echo_service(address, pods)
    }
}

pub(super) async fn hears_nothing(application: &TcpListener) {
    assert!(timeout(Duration::from_millis(50), application.accept()).await.is_err());
}

/// Stands in for the pod of a waypoint: tells what it is asked for, and refuses it.
pub(super) async fn stand_in(
    mesh: &mut Mesh,
    name: &str,
    address: &str,
) -> tokio::sync::mpsc::UnboundedReceiver<SocketAddr> {
    let leaf = mesh.leaf(&pod(name, address).identity).await;
    let listener = application(&format!("{address}:15008")).await;
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (leaf, tell) = (leaf.clone(), tell.clone());
            tokio::spawn(async move {
                let accepted = Tunnel::accept(socket, &leaf, &PoolOptions::default().tunnel).await;
                let (mut tunnel, _) = accepted.expect("the client proves itself");
                while let Some(incoming) = tunnel.next().await {
                    tell.send(incoming.authority().expect("an authority"))
                        .expect("the test listens");
                    incoming.refuse(&Refusal::Draining);
                }
            });
        }
    });
    told
}

#[test]
fn a_waypoint_that_is_missing_or_not_ready_is_never_gone_around() {
    inside(
        "policy::a_waypoint_that_is_missing_or_not_ready_is_never_gone_around",
        || async {
            let mut mesh = Mesh::new();
            let gateway = waypoint("gateway", &[]);
            let server = Workload {
                policies: no_post(&[&gateway]),
                ..pod("server", SERVER)
            };
            configure(&mut mesh, &[pod("client", CLIENT), server.clone()]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let _server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            // Bound to one that nobody knows, as by a misspelt label; then to one without a ready pod.
            for known in [false, true] {
                mesh.change(|snapshot| {
                    snapshot.put_service(Arc::new(service("echo", "10.88.0.1", &[&server], Some(&gateway))));
                    if known {
                        snapshot
                            .waypoints
                            .insert(gateway.key.clone(), Arc::new(gateway.clone()));
                    }
                });
                for to in ["10.88.0.1:80", "10.77.0.2:8080"] {
                    let mut asking = client.connect(to).await;
                    asking
                        .write_all(b"GET / HTTP/1.1\r\nhost: echo\r\n\r\n")
                        .await
                        .expect("writes");
                    let mut answer = String::new();
                    timeout(LONG, asking.read_to_string(&mut answer))
                        .await
                        .expect("answers")
                        .expect("an orderly end");
                    let reason = "weft-reason: waypoint shop/gateway has no ready pod\r\n";
                    assert!(answer.contains(reason), "{to}, known: {known}: {answer}");
                }
                hears_nothing(&application).await;
            }
            // Bound to none at all: refused by the policy.
            let nowhere = Workload {
                policies: no_post(&[]),
                ..server
            };
            configure(&mut mesh, &[nowhere]);
            assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
            hears_nothing(&application).await;
        },
    );
}

#[test]
fn a_pod_that_needs_its_waypoint_refuses_everybody_else() {
    inside(
        "policy::a_pod_that_needs_its_waypoint_refuses_everybody_else",
        || async {
            let mut mesh = Mesh::new();
            let gateway = waypoint("gateway", &[]);
            let server = Workload {
                policies: no_post(&[&gateway]),
                ..pod("server", SERVER)
            };
            configure(&mut mesh, &[pod("client", CLIENT), server.clone()]);
            let captured = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            let connect = connect_to("10.77.0.2:8080");
            let (pool, target) = mesh.stranger("client", &server).await;
            match pool.open(&target, &connect).await.expect_err("refused") {
                Refusal::RefusedByPeer(403, why) => assert!(why.starts_with("WAYPOINT_REQUIRED: "), "{why}"),
                other => panic!("{other}"),
            }
            assert!(is_reset(&mut captured.plaintext_from(OUTSIDE, 8080).await).await);
            hears_nothing(&application).await;
            let (pool, target) = mesh.stranger("gateway", &server).await;
            let _stream = pool.open(&target, &connect).await.expect("the waypoint may");
            accepted(&application).await;
        },
    );
}

/// Two pods of a StatefulSet, bound to a waypoint that is not there, so that what needed it would fail; the first.
fn stateful(mesh: &mut Mesh) -> Workload {
    let gateway = waypoint("gateway", &[]);
    let of_set = |name, address| Workload {
        policies: no_post(&[&gateway]),
        ..pod(name, address)
    };
    let (one, two) = (of_set("db-0", SERVER), of_set("db-1", OTHER));
    configure(mesh, &[pod("prometheus", CLIENT), one.clone(), two.clone()]);
    mesh.change(|snapshot| {
        snapshot.put_service(Arc::new(service("db", "10.88.0.1", &[&one, &two], Some(&gateway))));
        snapshot.waypoints.insert(gateway.key.clone(), Arc::new(gateway));
    });
    one
}

#[test]
fn a_metrics_scrape_of_a_pod_behind_a_waypoint_goes_directly() {
    inside(
        "policy::a_metrics_scrape_of_a_pod_behind_a_waypoint_goes_directly",
        || async {
            let mut mesh = Mesh::new();
            stateful(&mut mesh);
            let prometheus = mesh.capture_and_listen("prometheus", CLIENT);
            let server = mesh.capture_and_listen("db-1", OTHER);
            let metrics = application("10.77.0.3:9090").await;
            let mut scrape = prometheus.connect("10.77.0.3:9090").await;
            talk(&mut scrape, &mut accepted(&metrics).await).await;
            let client = pod("prometheus", CLIENT).identity;
            assert_eq!(server.traffic.live()[0].peer.as_ref(), Some(&client), "by HBONE");
            // The port that the rule is about is not.
            let served = application("10.77.0.3:8080").await;
            assert!(is_reset(&mut prometheus.connect("10.77.0.3:8080").await).await);
            hears_nothing(&served).await;
        },
    );
}

#[test]
fn peers_of_a_stateful_set_behind_a_waypoint_reach_each_other_directly() {
    inside(
        "policy::peers_of_a_stateful_set_behind_a_waypoint_reach_each_other_directly",
        || async {
            let mut mesh = Mesh::new();
            let one = stateful(&mut mesh);
            let first = mesh.capture_and_listen("db-0", SERVER);
            let second = mesh.capture_and_listen("db-1", OTHER);
            // Each by its own address, as the headless Service's names tell it.
            let peer = application("10.77.0.3:7000").await;
            let mut replicating = first.connect("10.77.0.3:7000").await;
            talk(&mut replicating, &mut accepted(&peer).await).await;
            assert_eq!(second.traffic.live()[0].peer.as_ref(), Some(&one.identity), "by HBONE");
            let served = application("10.77.0.3:8080").await;
            assert!(is_reset(&mut first.connect("10.77.0.3:8080").await).await);
            hears_nothing(&served).await;
        },
    );
}

#[test]
fn of_services_with_different_waypoints_the_one_addressed_decides_whose_and_whatever_namespace() {
    inside(
        "policy::of_services_with_different_waypoints_the_one_addressed_decides_whose_and_whatever_namespace",
        || async {
            let mut mesh = Mesh::new();
            let native = |name, address| Workload {
                capture: Capture::Native,
                ..pod(name, address)
            };
            let (here, there) = (native("gateway", OTHER), native("egress", FOURTH));
            let ours = waypoint("gateway", &[&here]);
            // Of another namespace.
            let foreign = Waypoint {
                key: WaypointKey {
                    namespace: "infra".into(),
                    name: "egress".into(),
                },
                identity: there.identity.clone(),
                ..waypoint("egress", &[&there])
            };
            let server = Workload {
                policies: no_post(&[&ours, &foreign]),
                ..pod("server", SERVER)
            };
            configure(&mut mesh, &[pod("client", CLIENT), server.clone(), here, there]);
            mesh.change(|snapshot| {
                for waypoint in [&ours, &foreign] {
                    snapshot
                        .waypoints
                        .insert(waypoint.key.clone(), Arc::new(waypoint.clone()));
                }
                snapshot.put_service(Arc::new(service("one", "10.88.0.1", &[&server], Some(&ours))));
                snapshot.put_service(Arc::new(service("two", "10.88.0.2", &[&server], Some(&foreign))));
                snapshot.put_service(Arc::new(service("bare", "10.88.0.3", &[&server], None)));
            });
            let client = mesh.capture_and_listen("client", CLIENT);
            let _server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            let mut of_ours = stand_in(&mut mesh, "gateway", OTHER).await;
            let mut of_foreign = stand_in(&mut mesh, "egress", FOURTH).await;
            let authority = |text: &str| text.parse::<SocketAddr>().expect("an address");
            let mut asking = client.connect("10.88.0.1:80").await;
            let asked = timeout(LONG, of_ours.recv()).await.expect("is asked");
            assert_eq!(asked, Some(authority("10.88.0.1:80")));
            assert!(is_reset(&mut asking).await);
            let mut asking = client.connect("10.88.0.2:80").await;
            let asked = timeout(LONG, of_foreign.recv()).await.expect("is asked");
            assert_eq!(asked, Some(authority("10.88.0.2:80")));
            assert!(is_reset(&mut asking).await);
            // By the pod's address, or by a Service without a waypoint, through one that stands before the port.
            for to in ["10.77.0.2:8080", "10.88.0.3:80"] {
                let mut asking = client.connect(to).await;
                let asked = tokio::select! {
                    asked = of_ours.recv() => asked,
                    asked = of_foreign.recv() => asked,
                    () = sleep(LONG) => None,
                };
                assert_eq!(asked, Some(authority("10.77.0.2:8080")), "{to}");
                assert!(is_reset(&mut asking).await);
            }
            hears_nothing(&application).await;
        },
    );
}

#[test]
fn a_deleted_policy_denies_nobody_and_a_new_one_the_next_connection() {
    inside(
        "policy::a_deleted_policy_denies_nobody_and_a_new_one_the_next_connection",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let _server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            for _ in 0..3 {
                mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), deny_everything())));
                assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
                configure(&mut mesh, &[pod("server", SERVER)]);
                let mut ours = client.connect("10.77.0.2:8080").await;
                talk(&mut ours, &mut accepted(&application).await).await;
            }
        },
    );
}

#[test]
fn connections_that_look_alike_are_each_judged_again() {
    inside("policy::connections_that_look_alike_are_each_judged_again", || async {
        let mut mesh = Mesh::new();
        let server = pod("server", SERVER);
        configure(&mut mesh, &[pod("client", CLIENT), server.clone()]);
        let captured = mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:8080").await;
        // Streams of one tunnel: the same client address and port, the same destination.
        let (pool, target) = mesh.stranger("client", &server).await;
        let connect = connect_to("10.77.0.2:8080");
        let mut streams = Vec::new();
        for _ in 0..3 {
            let stream = pool.open(&target, &connect).await.expect("is let in");
            streams.push((stream, accepted(&application).await));
        }
        let live = captured.traffic.live();
        assert_eq!(live.len(), 3);
        assert!(
            live.iter()
                .all(|it| (it.client, it.destination) == (live[0].client, live[0].destination))
        );
        mesh.change(|snapshot| snapshot.put_workload(with_policies(server, deny_everything())));
        for (_, app) in &mut streams {
            assert!(is_reset(app).await);
        }
    });
}

#[test]
fn while_the_leaf_is_awaited_connections_are_held_and_then_refused_and_none_is_plain() {
    inside(
        "policy::while_the_leaf_is_awaited_connections_are_held_and_then_refused_and_none_is_plain",
        || async {
            let mut mesh = Mesh::new();
            let unavailable = CertError::Unavailable {
                identity: pod("client", CLIENT).identity,
                why: "it is away".into(),
            };
            mesh.authority.fail(Some(unavailable));
            configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let application = application("10.77.0.2:8080").await;
            let start = Instant::now();
            let mut held = client.connect("10.77.0.2:8080").await;
            assert!(is_reset(&mut held).await);
            assert!(start.elapsed() >= TrafficOptions::default().hold, "held first");
            hears_nothing(&application).await;
            // One that is held while the CA comes back goes through, by HBONE.
            let mut held = client.connect("10.77.0.2:8080").await;
            let server = mesh.capture_and_listen("server", SERVER);
            mesh.authority.fail(None);
            let mut theirs = accepted(&application).await;
            talk(&mut held, &mut theirs).await;
            assert_eq!(server.traffic.live()[0].direction, Direction::Inbound);
        },
    );
}

#[test]
fn held_connections_are_bounded_in_number() {
    inside("policy::held_connections_are_bounded_in_number", || async {
        let mut mesh = Mesh::new();
        let options = TrafficOptions {
            held: 1,
            hold: LONG,
            ..TrafficOptions::default()
        };
        let client = mesh.capture("client", CLIENT, options);
        client.listen(ports::OUTBOUND);
        let application = application("10.77.0.2:8080").await;
        let mut first = client.connect("10.77.0.2:8080").await;
        while client.traffic.live().is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
        let start = Instant::now();
        assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
        assert!(start.elapsed() < LONG, "at once, not when the hold ends");
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let _server = mesh.capture_and_listen("server", SERVER);
        let mut theirs = accepted(&application).await;
        talk(&mut first, &mut theirs).await;
    });
}

#[test]
fn before_the_first_lists_are_complete_connections_are_held_and_then_refused() {
    inside(
        "policy::before_the_first_lists_are_complete_connections_are_held_and_then_refused",
        || async {
            let mut mesh = Mesh::new();
            // Both pods are known already; what restricts them may not be.
            configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
            mesh.change(|snapshot| snapshot.complete = false);
            let options = TrafficOptions {
                hold: Duration::from_millis(300),
                ..TrafficOptions::default()
            };
            let client = mesh.capture("client", CLIENT, options.clone());
            client.listen(ports::OUTBOUND);
            let server = mesh.capture("server", SERVER, options);
            server.listen(ports::INBOUND_PLAINTEXT);
            let (application, outside) = (application("10.77.0.2:8080").await, application("10.99.0.1:443").await);
            for _ in 0..2 {
                let start = Instant::now();
                assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
                assert!(start.elapsed() >= Duration::from_millis(300), "held first");
                assert!(is_reset(&mut client.connect("10.99.0.1:443").await).await);
                assert!(is_reset(&mut server.plaintext_from(OUTSIDE, 8080).await).await);
            }
            hears_nothing(&application).await;
            hears_nothing(&outside).await;
            mesh.change(|snapshot| snapshot.complete = true);
            let mut ours = client.connect("10.99.0.1:443").await;
            talk(&mut ours, &mut accepted(&outside).await).await;
        },
    );
}
