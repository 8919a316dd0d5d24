//! Two captured pods of one node: handed over in memory, judged as by HBONE (design 13).

use std::{io, time::Duration};

use act::net::reset;
use decide::model::{Fence, MeshSettings, PolicySet, SameNode, Workload, ports};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};
use ztunnel::traffic::{Direction, TrafficOptions};

use super::{
    accepted, application, configure, is_reset,
    mesh::{CLIENT, Captured, LONG, Mesh, OUTSIDE, SERVER, deny_everything, inside, ip, pod},
    talk, with_policies,
};

const TO: &str = "10.77.0.2:8080";

fn open(name: &str, address: &str) -> Workload {
    Workload {
        fence: Fence::Absent,
        ..pod(name, address)
    }
}

/// A client and a server whose pods no NetworkPolicy selects. Nothing listens on 15008 yet: what arrives came in memory.
fn near() -> (Mesh, Captured, Captured) {
    let mut mesh = Mesh::new();
    configure(&mut mesh, &[open("client", CLIENT), open("server", SERVER)]);
    let client = mesh.capture("client", CLIENT, TrafficOptions::default());
    client.listen(ports::OUTBOUND);
    let server = mesh.capture("server", SERVER, TrafficOptions::default());
    (mesh, client, server)
}

/// How the server's only connection came.
fn came(server: &Captured) -> Direction {
    let live = server.traffic.live();
    assert_eq!(live.len(), 1);
    live[0].direction
}

async fn nothing_lives(pods: [&Captured; 2]) {
    let gone = async {
        while pods.iter().any(|pod| !pod.traffic.live().is_empty()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, gone).await.expect("nothing is left");
}

#[test]
fn two_pods_of_one_node_need_no_wire() {
    inside("near::two_pods_of_one_node_need_no_wire", || async {
        let (_mesh, client, server) = near();
        let application = application(TO).await;
        let mut ours = client.connect(TO).await;
        let mut theirs = accepted(&application).await;
        assert_eq!(theirs.peer_addr().expect("connected").ip(), ip(CLIENT));
        talk(&mut ours, &mut theirs).await;
        assert_eq!(came(&server), Direction::SameNode);
        assert_eq!(server.traffic.live()[0].peer, Some(pod("client", CLIENT).identity));
        assert_eq!(client.traffic.live()[0].direction, Direction::Outbound);
        assert_eq!(client.traffic.tunnels(), 0);

        ours.shutdown().await.expect("ends");
        assert_eq!(theirs.read(&mut [0]).await.expect("half-close passes"), 0);
        theirs.write_all(b"late").await.expect("writes");
        drop(theirs);
        let mut late = String::new();
        ours.read_to_string(&mut late).await.expect("reads");
        assert_eq!(late, "late");
        nothing_lives([&client, &server]).await;
    });
}

#[test]
fn in_memory_a_reset_stays_a_reset() {
    inside("near::in_memory_a_reset_stays_a_reset", || async {
        let (_mesh, client, server) = near();
        let application = application(TO).await;
        for resets in ["client", "server"] {
            let mut ours = client.connect(TO).await;
            let mut theirs = accepted(&application).await;
            talk(&mut ours, &mut theirs).await;
            let (one, mut other) = if resets == "client" {
                (ours, theirs)
            } else {
                (theirs, ours)
            };
            reset(one);
            assert!(is_reset(&mut other).await, "{resets}");
            nothing_lives([&client, &server]).await;
        }
    });
}

#[test]
fn in_memory_is_denied_as_on_the_wire() {
    inside("near::in_memory_is_denied_as_on_the_wire", || async {
        let (mut mesh, client, _server) = near();
        mesh.change(|snapshot| snapshot.put_workload(with_policies(open("server", SERVER), deny_everything())));
        let application = application(TO).await;
        assert!(is_reset(&mut client.connect(TO).await).await);
        assert!(timeout(Duration::from_millis(50), application.accept()).await.is_err());
        assert_eq!(client.traffic.tunnels(), 0, "it is no reason to try the wire");
    });
}

#[test]
fn a_change_that_denies_cuts_in_memory_and_one_that_does_not_spares() {
    inside(
        "near::a_change_that_denies_cuts_in_memory_and_one_that_does_not_spares",
        || async {
            let (mut mesh, client, server) = near();
            let application = application(TO).await;
            let mut ours = client.connect(TO).await;
            let mut theirs = accepted(&application).await;
            let other = PolicySet::default();
            mesh.change(|snapshot| snapshot.put_workload(with_policies(open("server", SERVER), other.into())));
            sleep(Duration::from_millis(50)).await;
            talk(&mut ours, &mut theirs).await;
            mesh.change(|snapshot| snapshot.put_workload(with_policies(open("server", SERVER), deny_everything())));
            assert!(is_reset(&mut ours).await);
            assert!(is_reset(&mut theirs).await);
            nothing_lives([&client, &server]).await;
        },
    );
}

#[test]
fn either_pods_end_cuts_what_was_handed_over() {
    inside("near::either_pods_end_cuts_what_was_handed_over", || async {
        for gone in ["client", "server"] {
            let (mut mesh, client, server) = near();
            let application = application(TO).await;
            let mut ours = client.connect(TO).await;
            let mut theirs = accepted(&application).await;
            talk(&mut ours, &mut theirs).await;
            mesh.change(|snapshot| snapshot.remove_workload(gone));
            assert!(is_reset(&mut ours).await, "{gone}");
            assert!(is_reset(&mut theirs).await, "{gone}");
            nothing_lives([&client, &server]).await;
            client.close().await;
        }
    });
}

#[test]
fn what_the_network_must_see_and_what_is_configured_so_takes_the_wire() {
    inside(
        "near::what_the_network_must_see_and_what_is_configured_so_takes_the_wire",
        || async {
            let (mut mesh, client, server) = near();
            server.listen(ports::HBONE);
            let application = application(TO).await;
            let fence = |name: &str, address: &str, fence: Fence| Workload {
                fence,
                ..pod(name, address)
            };
            let by = || Fence::By("strict".into());
            let (near_client, near_server) = (open("client", CLIENT), open("server", SERVER));
            for (pods, expected) in [
                ([near_client.clone(), fence("server", SERVER, by())], Direction::Inbound),
                ([near_client.clone(), near_server.clone()], Direction::SameNode),
                ([fence("client", CLIENT, by()), near_server.clone()], Direction::Inbound),
                (
                    [near_client.clone(), fence("server", SERVER, Fence::Unread)],
                    Direction::Inbound,
                ),
                ([near_client, near_server], Direction::SameNode),
            ] {
                configure(&mut mesh, &pods);
                let mut ours = client.connect(TO).await;
                let mut theirs = accepted(&application).await;
                talk(&mut ours, &mut theirs).await;
                assert_eq!(came(&server), expected, "{pods:?}");
                drop((ours, theirs));
                nothing_lives([&client, &server]).await;
            }
            mesh.change(|snapshot| {
                snapshot.mesh = MeshSettings {
                    same_node: SameNode::Wire,
                    ..MeshSettings::clone(&snapshot.mesh)
                }
                .into();
            });
            let mut ours = client.connect(TO).await;
            talk(&mut ours, &mut accepted(&application).await).await;
            assert_eq!(came(&server), Direction::Inbound);
        },
    );
}

#[test]
fn a_pod_that_is_not_served_here_any_more_is_reached_by_the_wire() {
    inside(
        "near::a_pod_that_is_not_served_here_any_more_is_reached_by_the_wire",
        || async {
            let (mesh, client, server) = near();
            server.listen(ports::HBONE);
            mesh.leave("server");
            let application = application(TO).await;
            let mut ours = client.connect(TO).await;
            talk(&mut ours, &mut accepted(&application).await).await;
            assert_eq!(came(&server), Direction::Inbound);
        },
    );
}

#[test]
fn without_a_valid_leaf_of_both_nothing_is_handed_over() {
    inside("near::without_a_valid_leaf_of_both_nothing_is_handed_over", || async {
        let (mut mesh, client, server) = near();
        let application = application(TO).await;
        let mut ours = client.connect(TO).await;
        talk(&mut ours, &mut accepted(&application).await).await;
        drop(ours);
        nothing_lives([&client, &server]).await;
        // Nothing listens on 15008, so what may not go in memory goes nowhere.
        mesh.let_go(&pod("server", SERVER).identity);
        let mut refused = client.connect(TO).await;
        assert!(is_reset(&mut refused).await);
        assert!(timeout(Duration::from_millis(50), application.accept()).await.is_err());
    });
}

#[test]
fn an_address_that_is_not_the_pods_own_counts_for_nothing_in_memory() {
    inside(
        "near::an_address_that_is_not_the_pods_own_counts_for_nothing_in_memory",
        || async {
            let (_mesh, client, server) = near();
            server.listen(ports::HBONE);
            let application = application(TO).await;
            let mut ours = client.connect_as(OUTSIDE, TO).await;
            let mut theirs = accepted(&application).await;
            talk(&mut ours, &mut theirs).await;
            assert_eq!(came(&server), Direction::Inbound);
            assert_eq!(
                theirs.peer_addr().expect("connected").ip(),
                ip(CLIENT),
                "as the network sees the pod"
            );
        },
    );
}

#[test]
fn in_memory_an_application_that_refuses_is_a_refusal_and_another_endpoint_is_tried() {
    inside(
        "near::in_memory_an_application_that_refuses_is_a_refusal_and_another_endpoint_is_tried",
        || async {
            let (mut mesh, client, server) = near();
            assert!(is_reset(&mut client.connect(TO).await).await, "nobody listens there");
            nothing_lives([&client, &server]).await;
            let (down, up) = (open("server", SERVER), open("other", super::OTHER));
            configure(&mut mesh, std::slice::from_ref(&up));
            let service = super::echo_service("10.88.0.1", &[&down, &up]);
            mesh.change(|snapshot| snapshot.put_service(service.into()));
            let _up = mesh.capture("other", super::OTHER, TrafficOptions::default());
            let application = application("10.77.0.3:8080").await;
            for _ in 0..16 {
                let mut ours = client.connect("10.88.0.1:80").await;
                talk(&mut ours, &mut accepted(&application).await).await;
            }
        },
    );
}

#[test]
fn bulk_in_memory_arrives_whole() {
    inside("near::bulk_in_memory_arrives_whole", || async {
        let (_mesh, client, _server) = near();
        let application = application(TO).await;
        let ours = client.connect(TO).await;
        let theirs = accepted(&application).await;
        let sent: Vec<u8> = (0..32_usize << 20)
            .map(|at| u8::try_from(at % 251).expect("small"))
            .collect();
        let ((mut ours_in, mut ours_out), (mut theirs_in, mut theirs_out)) = (ours.into_split(), theirs.into_split());
        let echo = tokio::spawn(async move {
            let passed = tokio::io::copy(&mut theirs_in, &mut theirs_out).await?;
            theirs_out.shutdown().await?;
            io::Result::Ok(passed)
        });
        let send = async {
            ours_out.write_all(&sent).await.expect("writes");
            ours_out.shutdown().await.expect("ends");
        };
        let receive = async {
            let mut got = Vec::new();
            ours_in.read_to_end(&mut got).await.expect("reads");
            got
        };
        let ((), got) = timeout(LONG, async { tokio::join!(send, receive) })
            .await
            .expect("in time");
        assert!(got == sent, "every byte in its place");
        assert_eq!(
            echo.await.expect("runs").expect("echoes"),
            u64::try_from(sent.len()).expect("a length")
        );
    });
}
