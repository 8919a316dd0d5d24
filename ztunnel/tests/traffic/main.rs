//! Whole ways of connections through the traffic of captured pods, in one process.

mod mesh;
mod near;
mod outside;
mod policy;
mod seen;
mod shortage;
mod sockets;

use std::{io, sync::Arc, time::Duration};

use act::hbone::{Connect, PoolOptions};
use decide::model::{MtlsMode, MtlsRules, PolicySet, Refusal, Workload, ports};
use mesh::{
    CLIENT, LONG, Mesh, OTHER, OUTSIDE, SERVER, connect_to, deny_everything, echo_service, inside, ip, pod, waypoint,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep, timeout},
};
use ztunnel::traffic::{Direction, TrafficOptions};

async fn application(address: &str) -> TcpListener {
    TcpListener::bind(address).await.expect("a free port")
}

async fn accepted(application: &TcpListener) -> TcpStream {
    timeout(LONG, application.accept())
        .await
        .expect("is connected")
        .expect("accepts")
        .0
}

/// Sends there and back.
async fn talk(client: &mut TcpStream, server: &mut TcpStream) {
    client.write_all(b"ping").await.expect("writes");
    let mut asked = [0; 4];
    timeout(LONG, server.read_exact(&mut asked))
        .await
        .expect("arrives")
        .expect("reads");
    server.write_all(&asked).await.expect("writes");
    timeout(LONG, client.read_exact(&mut asked))
        .await
        .expect("arrives")
        .expect("reads");
    assert_eq!(&asked, b"ping");
}

async fn is_reset(socket: &mut TcpStream) -> bool {
    let mut buffer = [0; 64];
    match timeout(LONG, socket.read(&mut buffer)).await.expect("is told") {
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

fn with_policies(workload: Workload, policies: Arc<PolicySet>) -> Arc<Workload> {
    Arc::new(Workload { policies, ..workload })
}

fn configure(mesh: &mut Mesh, pods: &[Workload]) {
    mesh.change(|snapshot| pods.iter().for_each(|pod| snapshot.put_workload(Arc::new(pod.clone()))));
}

#[test]
fn the_application_sees_its_client_through_a_tunnel() {
    inside("the_application_sees_its_client_through_a_tunnel", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        let server = mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:8080").await;
        let mut ours = client.connect("10.77.0.2:8080").await;
        let mut theirs = accepted(&application).await;
        assert_eq!(theirs.peer_addr().expect("connected").ip(), ip(CLIENT));
        talk(&mut ours, &mut theirs).await;

        let (out, into) = (client.traffic.live(), server.traffic.live());
        assert_eq!((out.len(), into.len()), (1, 1));
        assert_eq!(
            (out[0].direction, into[0].direction),
            (Direction::Outbound, Direction::Inbound)
        );
        assert_eq!(into[0].peer.as_ref(), Some(&pod("client", CLIENT).identity));

        ours.shutdown().await.expect("ends");
        assert_eq!(theirs.read(&mut [0]).await.expect("half-close passes"), 0);
        theirs.write_all(b"late").await.expect("writes");
        drop(theirs);
        let mut late = String::new();
        ours.read_to_string(&mut late).await.expect("reads");
        assert_eq!(late, "late");
        while !(client.traffic.live().is_empty() && server.traffic.live().is_empty()) {
            sleep(Duration::from_millis(5)).await;
        }

        // Connections share the tunnel.
        let mut second = client.connect("10.77.0.2:8080").await;
        talk(&mut second, &mut accepted(&application).await).await;
        assert_eq!(client.traffic.tunnels(), 1);
    });
}

#[test]
fn no_stream_is_opened_in_a_tunnel_to_a_pod_that_is_gone() {
    inside("no_stream_is_opened_in_a_tunnel_to_a_pod_that_is_gone", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:8080").await;
        let mut ours = client.connect("10.77.0.2:8080").await;
        talk(&mut ours, &mut accepted(&application).await).await;
        assert_eq!(client.traffic.tunnels(), 1);
        // the address changes hands: another pod has it, and nobody has told the old one's ztunnel to go
        mesh.change(|snapshot| {
            snapshot.remove_workload("server");
            snapshot.put_workload(Arc::new(pod("other", SERVER)));
        });
        assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
        let heard = timeout(Duration::from_millis(100), application.accept()).await;
        assert!(heard.is_err(), "nothing came by the old tunnel");
        let swept = async {
            while client.traffic.tunnels() > 0 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(LONG, swept).await.expect("the old tunnel leaves the pool");
    });
}

#[test]
fn a_denied_client_is_reset_and_the_application_hears_nothing() {
    inside("a_denied_client_is_reset_and_the_application_hears_nothing", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT)]);
        mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), deny_everything())));
        let client = mesh.capture_and_listen("client", CLIENT);
        let server = mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:8080").await;
        assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
        assert!(is_reset(&mut server.plaintext_from(OTHER, 8080).await).await);
        assert!(timeout(Duration::from_millis(50), application.accept()).await.is_err());
    });
}

#[test]
fn a_proof_is_answered_by_the_other_ztunnel_and_no_application_hears_of_it() {
    let test = "a_proof_is_answered_by_the_other_ztunnel_and_no_application_hears_of_it";
    inside(test, || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("other", OTHER)]);
        mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), deny_everything())));
        let client = mesh.capture_and_listen("client", CLIENT);
        let server = mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:15022").await;
        let line = |mut socket: TcpStream| async move {
            let mut line = String::new();
            let read = timeout(LONG, socket.read_to_string(&mut line)).await;
            read.expect("in time").map(|_| line)
        };
        let proven = line(client.connect("10.77.0.2:15022").await).await.expect("a line");
        assert_eq!(proven, "proven spiffe://cluster.local/ns/shop/sa/client\n");
        assert!(is_reset(&mut server.plaintext_from(OTHER, 15022).await).await);
        assert!(timeout(Duration::from_millis(50), application.accept()).await.is_err());

        // Nobody serves the other pod: the line says what was tried.
        let refused = line(client.connect("10.77.0.3:15022").await).await.expect("a line");
        assert!(
            refused.starts_with("refused ") && refused.contains("10.77.0.3:15008"),
            "{refused}"
        );
    });
}

#[test]
fn a_connection_is_cut_when_a_change_denies_it_and_only_then() {
    inside("a_connection_is_cut_when_a_change_denies_it_and_only_then", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        let server = mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:8080").await;
        let mut tunnelled = client.connect("10.77.0.2:8080").await;
        let mut tunnelled_far = accepted(&application).await;
        let mut plain = server.plaintext_from(OTHER, 8080).await;
        let mut plain_far = accepted(&application).await;
        talk(&mut plain, &mut plain_far).await;

        // Changes that allow still: something else, another set, STRICT for nobody.
        configure(&mut mesh, &[pod("other", OTHER)]);
        mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), Arc::default())));
        sleep(Duration::from_millis(100)).await;
        talk(&mut tunnelled, &mut tunnelled_far).await;
        talk(&mut plain, &mut plain_far).await;

        // STRICT cuts what is plain.
        let strict = PolicySet {
            mtls: MtlsRules {
                default: (MtlsMode::Strict, None),
                ..MtlsRules::default()
            },
            ..PolicySet::default()
        };
        mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), Arc::new(strict))));
        assert!(is_reset(&mut plain).await);
        assert!(is_reset(&mut plain_far).await);
        talk(&mut tunnelled, &mut tunnelled_far).await;

        mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), deny_everything())));
        assert!(is_reset(&mut tunnelled).await);
        assert!(is_reset(&mut tunnelled_far).await);
    });
}

#[test]
fn connections_of_a_pod_that_is_no_more_are_cut() {
    inside("connections_of_a_pod_that_is_no_more_are_cut", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        let server = mesh.capture_and_listen("server", SERVER);
        let (near, outside) = (application("10.77.0.2:8080").await, application("10.99.0.1:443").await);
        let mut out = client.connect("10.99.0.1:443").await;
        let mut out_far = accepted(&outside).await;
        talk(&mut out, &mut out_far).await;
        let mut into = server.plaintext_from(OUTSIDE, 8080).await;
        let mut into_far = accepted(&near).await;
        talk(&mut into, &mut into_far).await;
        mesh.change(|snapshot| snapshot.remove_workload("client"));
        assert!(is_reset(&mut out).await);
        assert!(is_reset(&mut out_far).await);
        mesh.change(|snapshot| snapshot.remove_workload("server"));
        assert!(is_reset(&mut into).await);
    });
}

#[test]
fn plaintext_is_taken_where_it_is_permitted_and_keeps_its_source() {
    inside(
        "plaintext_is_taken_where_it_is_permitted_and_keeps_its_source",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("server", SERVER)]);
            let server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            let mut ours = server.plaintext_from(OUTSIDE, 8080).await;
            let mut theirs = accepted(&application).await;
            assert_eq!(theirs.peer_addr().expect("connected").ip(), ip(OUTSIDE));
            talk(&mut ours, &mut theirs).await;
            // The mesh's own ports are nobody's application.
            assert!(is_reset(&mut server.plaintext_from(OUTSIDE, ports::HBONE).await).await);
            // Straight to the listener, not redirected.
            let mut straight = TcpStream::connect((ip(SERVER), ports::INBOUND_PLAINTEXT))
                .await
                .expect("accepts");
            assert!(is_reset(&mut straight).await);
            assert!(
                is_reset(
                    &mut TcpStream::connect((ip(SERVER), ports::OUTBOUND))
                        .await
                        .expect("accepts")
                )
                .await
            );
        },
    );
}

#[test]
fn a_proxy_is_asked_only_for_its_own_pod() {
    inside("a_proxy_is_asked_only_for_its_own_pod", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("server", SERVER), pod("other", OTHER)]);
        let _server = mesh.capture_and_listen("server", SERVER);
        let elsewhere = [application("10.77.0.3:8080").await, application("127.0.0.1:8080").await];
        let (pool, target) = mesh.stranger("stranger", &pod("server", SERVER)).await;
        for (authority, status, label) in [
            ("10.77.0.3:8080", 400, "NOT_OURS"),
            ("127.0.0.1:8080", 400, "NOT_OURS"),
            ("10.77.0.2:15008", 400, "RESERVED_PORT"),
            ("10.77.0.2:15001", 400, "RESERVED_PORT"),
            ("10.77.0.2:15006", 400, "RESERVED_PORT"),
            ("10.77.0.2:9", 503, "CONNECT"),
        ] {
            let connect = connect_to(authority);
            match pool.open(&target, &connect).await.expect_err("refused") {
                Refusal::RefusedByPeer(said, why) => {
                    assert_eq!(said, status, "{authority}");
                    assert!(why.starts_with(&format!("{label}: ")), "{authority}: {why}");
                }
                other => panic!("{authority}: {other}"),
            }
        }
        for application in elsewhere {
            assert!(timeout(Duration::from_millis(20), application.accept()).await.is_err());
        }
    });
}

#[test]
fn who_is_not_who_is_expected_gets_no_connection() {
    inside("who_is_not_who_is_expected_gets_no_connection", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        // At the server's address, another pod of the mesh answers.
        configure(&mut mesh, &[pod("impostor", OTHER)]);
        let _impostor = mesh.capture_and_listen("impostor", SERVER);
        let application = application("10.77.0.2:8080").await;
        assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
        assert!(timeout(Duration::from_millis(20), application.accept()).await.is_err());
    });
}

#[test]
fn what_is_not_known_yet_is_held_and_then_refused() {
    inside("what_is_not_known_yet_is_held_and_then_refused", || async {
        let mut mesh = Mesh::new();
        let options = TrafficOptions {
            hold: Duration::from_millis(500),
            ..TrafficOptions::default()
        };
        let client = mesh.capture("client", CLIENT, options);
        client.listen(ports::OUTBOUND);
        let server = mesh.capture_and_listen("server", SERVER);
        let application = application("10.77.0.2:8080").await;
        let start = Instant::now();
        assert!(
            is_reset(&mut client.connect("10.77.0.2:8080").await).await,
            "the client itself is not known"
        );
        assert!(start.elapsed() >= Duration::from_millis(500));

        let mut held = client.connect("10.77.0.2:8080").await;
        let mut plain = server.plaintext_from(OUTSIDE, 8080).await;
        sleep(Duration::from_millis(50)).await;
        configure(&mut mesh, &[pod("client", CLIENT)]);
        sleep(Duration::from_millis(50)).await;
        configure(&mut mesh, &[pod("server", SERVER)]);
        let (mut one, mut two) = (accepted(&application).await, accepted(&application).await);
        if one.peer_addr().expect("connected").ip() == ip(OUTSIDE) {
            std::mem::swap(&mut one, &mut two);
        }
        talk(&mut held, &mut one).await;
        talk(&mut plain, &mut two).await;
        // In a pod range, and explained by nothing.
        assert!(is_reset(&mut client.connect("10.77.9.9:80").await).await);
    });
}

#[test]
fn a_pod_whose_address_the_others_know_earlier_holds_their_connections_until_it_does() {
    inside(
        "a_pod_whose_address_the_others_know_earlier_holds_their_connections_until_it_does",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("server", SERVER)]);
            let server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            let (pool, target) = mesh.stranger("stranger", &pod("server", SERVER)).await;
            let connect = connect_to("10.77.0.2:8080");
            let live = async |count| {
                let there = async {
                    while server.traffic.live().len() != count {
                        sleep(Duration::from_millis(5)).await;
                    }
                };
                timeout(LONG, there).await.expect("as many live as are expected");
            };
            // The tunnel is there already: what is held is what is asked in it.
            drop(pool.open(&target, &connect).await.expect("a stream"));
            drop(accepted(&application).await);
            live(0).await;
            let nameless = Workload {
                addresses: Vec::new(),
                ..pod("server", SERVER)
            };
            configure(&mut mesh, &[nameless]);
            let asked = pool.open(&target, &connect);
            let mut plain = server.plaintext_from(OUTSIDE, 8080).await;
            let told = async {
                live(2).await;
                configure(&mut mesh, &[pod("server", SERVER)]);
            };
            let (opened, ()) = tokio::join!(asked, told);
            assert!(opened.is_ok(), "{:?}", opened.err());
            let (one, two) = (accepted(&application).await, accepted(&application).await);
            let is_plain = |it: &TcpStream| it.peer_addr().expect("connected").ip() == ip(OUTSIDE);
            let mut theirs = if is_plain(&one) { one } else { two };
            talk(&mut plain, &mut theirs).await;
        },
    );
}

#[test]
fn a_peer_that_opens_a_moment_later_is_dialled_again_and_never_as_plaintext() {
    inside(
        "a_peer_that_opens_a_moment_later_is_dialled_again_and_never_as_plaintext",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let application = application("10.77.0.2:8080").await;
            let mut ours = client.connect("10.77.0.2:8080").await;
            assert!(timeout(Duration::from_millis(300), application.accept()).await.is_err());
            let server = mesh.capture("server", SERVER, TrafficOptions::default());
            server.listen(ports::HBONE);
            let mut theirs = accepted(&application).await;
            assert_eq!(server.traffic.live().len(), 1, "by HBONE");
            talk(&mut ours, &mut theirs).await;
        },
    );
}

#[test]
fn another_endpoint_is_tried_while_nothing_was_sent() {
    inside("another_endpoint_is_tried_while_nothing_was_sent", || async {
        let mut mesh = Mesh::new();
        let (server, other) = (pod("server", SERVER), pod("other", OTHER));
        configure(&mut mesh, &[pod("client", CLIENT), server.clone(), other.clone()]);
        mesh.change(|snapshot| snapshot.put_service(Arc::new(echo_service("10.88.0.1", &[&server, &other]))));
        let client = mesh.capture_and_listen("client", CLIENT);
        // One proxy is there without its application, the other endpoint works.
        let _server = mesh.capture_and_listen("server", SERVER);
        let _other = mesh.capture_and_listen("other", OTHER);
        let application = application("10.77.0.3:8080").await;
        for _ in 0..16 {
            let mut ours = client.connect("10.88.0.1:80").await;
            talk(&mut ours, &mut accepted(&application).await).await;
        }
    });
}

const REQUEST: &[u8] = b"GET /secret HTTP/1.1\r\nhost: echo\r\n\r\n";

#[test]
fn without_its_waypoint_http_is_told_503_with_the_reason_and_everything_else_reset() {
    inside(
        "without_its_waypoint_http_is_told_503_with_the_reason_and_everything_else_reset",
        || async {
            let mut mesh = Mesh::new();
            let server = pod("server", SERVER);
            configure(&mut mesh, &[pod("client", CLIENT), server.clone()]);
            let gateway = waypoint("gateway", &[]);
            mesh.change(|snapshot| {
                let mut service = echo_service("10.88.0.1", &[&server]);
                service.waypoint = Some(gateway.key.clone());
                snapshot.put_service(Arc::new(service));
                snapshot
                    .waypoints
                    .insert(gateway.key.clone(), Arc::new(gateway.clone()));
            });
            let client = mesh.capture_and_listen("client", CLIENT);
            let _server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;

            let mut http = client.connect("10.88.0.1:80").await;
            http.write_all(REQUEST).await.expect("writes");
            let mut answer = String::new();
            timeout(LONG, http.read_to_string(&mut answer))
                .await
                .expect("answers")
                .expect("an orderly end");
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
            assert!(answer.contains("weft-refusal: WAYPOINT_UNAVAILABLE\r\n"), "{answer}");
            assert!(answer.contains("shop/gateway"), "{answer}");

            let mut other = client.connect("10.88.0.1:80").await;
            other.write_all(b"EHLO mail\r\n").await.expect("writes");
            assert!(is_reset(&mut other).await);
            assert!(
                is_reset(&mut client.connect("10.88.0.1:80").await).await,
                "says nothing at all"
            );
            assert!(timeout(Duration::from_millis(20), application.accept()).await.is_err());
        },
    );
}

#[test]
fn a_waypoint_that_does_not_answer_is_told_in_http_too() {
    inside("a_waypoint_that_does_not_answer_is_told_in_http_too", || async {
        let mut mesh = Mesh::new();
        let (server, proxy) = (pod("server", SERVER), pod("gateway", OTHER));
        configure(&mut mesh, &[pod("client", CLIENT), server.clone(), proxy.clone()]);
        let gateway = waypoint("gateway", &[&proxy]);
        mesh.change(|snapshot| {
            let mut service = echo_service("10.88.0.1", &[&server]);
            service.waypoint = Some(gateway.key.clone());
            snapshot.put_service(Arc::new(service));
            snapshot
                .waypoints
                .insert(gateway.key.clone(), Arc::new(gateway.clone()));
        });
        let options = TrafficOptions {
            hold: Duration::from_millis(200),
            ..TrafficOptions::default()
        };
        let client = mesh.capture("client", CLIENT, options);
        client.listen(ports::OUTBOUND);
        let mut http = client.connect("10.88.0.1:80").await;
        http.write_all(REQUEST).await.expect("writes");
        let mut answer = String::new();
        timeout(LONG, http.read_to_string(&mut answer))
            .await
            .expect("answers")
            .expect("an orderly end");
        assert!(
            answer.starts_with("HTTP/1.1 503 ") && answer.contains("weft-refusal: CONNECT\r\n"),
            "{answer}"
        );
    });
}

#[test]
fn what_is_outside_the_mesh_is_reached_plainly() {
    inside("what_is_outside_the_mesh_is_reached_plainly", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        let application = application("10.99.0.1:443").await;
        let mut ours = client.connect("10.99.0.1:443").await;
        talk(&mut ours, &mut accepted(&application).await).await;
        assert!(is_reset(&mut client.connect("10.99.0.1:444").await).await);
    });
}

#[test]
fn draining_lets_connections_end_and_makes_peers_dial_elsewhere() {
    inside(
        "draining_lets_connections_end_and_makes_peers_dial_elsewhere",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let server = mesh.capture_and_listen("server", SERVER);
            let application = application("10.77.0.2:8080").await;
            let mut ours = client.connect("10.77.0.2:8080").await;
            let mut theirs = accepted(&application).await;
            talk(&mut ours, &mut theirs).await;
            let traffic = server.traffic.clone();
            let draining = tokio::spawn(async move { traffic.drain().await });
            sleep(Duration::from_millis(100)).await;
            talk(&mut ours, &mut theirs).await;
            assert!(!draining.is_finished());
            // The listener still stands: a new connection comes by a new tunnel.
            let mut second = client.connect("10.77.0.2:8080").await;
            let mut second_far = accepted(&application).await;
            talk(&mut second, &mut second_far).await;
            drop((ours, theirs, second, second_far));
            timeout(LONG, draining).await.expect("ends").expect("runs");
        },
    );
}

#[test]
fn silent_handshakes_are_bounded_in_time_and_number() {
    inside("silent_handshakes_are_bounded_in_time_and_number", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("server", SERVER)]);
        let mut options = TrafficOptions {
            unauthenticated: 2,
            pool: PoolOptions::default(),
            ..TrafficOptions::default()
        };
        options.pool.tunnel.handshake = Duration::from_millis(400);
        let server = mesh.capture("server", SERVER, options);
        server.listen(ports::HBONE);
        let silent = || TcpStream::connect((ip(SERVER), ports::HBONE));
        let ends = async |socket: &mut TcpStream| {
            let ended = timeout(LONG, socket.read(&mut [0])).await.expect("ends");
            assert!(ended.is_err() || ended.is_ok_and(|read| read == 0));
        };
        let (mut first, mut second) = (silent().await.expect("accepts"), silent().await.expect("accepts"));
        sleep(Duration::from_millis(50)).await;
        let start = Instant::now();
        let mut third = silent().await.expect("accepts");
        ends(&mut first).await;
        assert!(
            start.elapsed() < Duration::from_millis(300),
            "one too many, and the oldest goes"
        );
        ends(&mut second).await;
        ends(&mut third).await;
        assert!(
            start.elapsed() >= Duration::from_millis(300),
            "the others have their time"
        );
    });
}

#[test]
fn strangers_that_say_nothing_keep_nobody_out() {
    inside("strangers_that_say_nothing_keep_nobody_out", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("server", SERVER)]);
        let options = TrafficOptions {
            unauthenticated: 4,
            ..TrafficOptions::default()
        };
        let server = mesh.capture("server", SERVER, options);
        server.listen(ports::HBONE);
        let _application = application("10.77.0.2:8080").await;
        let mut strangers = Vec::new();
        for _ in 0..20 {
            strangers.push(TcpStream::connect((ip(SERVER), ports::HBONE)).await.expect("accepts"));
        }
        sleep(Duration::from_millis(50)).await;
        let (pool, target) = mesh.stranger("client", &pod("server", SERVER)).await;
        let connect = Connect {
            authority: (ip(SERVER), 8080).into(),
            client: (ip(CLIENT), 40_000).into(),
            host: None,
            baggage: None,
            traceparent: None,
        };
        let opened = timeout(LONG, pool.open(&target, &connect)).await.expect("in time");
        opened.expect("whoever proves who they are is let in");
        drop(strangers);
    });
}
