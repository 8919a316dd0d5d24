//! The life of pods in the ztunnel itself, with the agent and its rules: only the CA is in this process.

use std::{
    io::{Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use act::certs::{CertError, local::LocalAuthority};
use decide::model::Identity;
use ztunnel::zds;

use crate::{
    node::{Node, ZDS, at, outside, permissive},
    proxy::{MANY, Ztunnel, listeners},
    world::{Call, PodNet, SOON, alone, sh, until},
};

#[test]
fn a_pod_is_acknowledged_when_its_leaf_is_there_and_its_listeners_are_open() {
    alone(
        "life::a_pod_is_acknowledged_when_its_leaf_is_there_and_its_listeners_are_open",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let authority = Arc::new(LocalAuthority::new().unwrap());
            let identity = Identity::new("cluster.local", "shop", "cart").unwrap();
            authority.fail(Some(CertError::Unavailable {
                identity,
                why: "not today".into(),
            }));
            let ztunnel = Ztunnel::with(authority, &node, SOON, MANY);
            let told = || {
                node.tally.dump()["server"]["why"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            until("the agent is told why", || told().contains("not today")).await;
            assert_eq!(listeners(&server), 0);
            assert!(!server.nft().contains("weft"), "no rules yet");
            client.call(at(server.v4, 80)).unwrap().echo().unwrap();
            ztunnel.authority.fail(None);
            node.state("server", Some("Captured")).await;
            assert_eq!(listeners(&server), 3);
            assert!(ztunnel.readiness.waits_for().is_empty());
            let mut call = client.call(at(server.v4, 80)).unwrap();
            call.echo().unwrap();
            assert_eq!(call.seen, client.v4.to_string());
            assert_eq!(ztunnel.open("server"), 1);
            drop(call);
            until("its place is free again", || ztunnel.open("server") == 0).await;
        },
    );
}

#[test]
fn a_pod_nobody_knows_waits_and_says_so() {
    alone("life::a_pod_nobody_knows_waits_and_says_so", async || {
        let server = PodNet::new("server", 2);
        let mut node = Node::start(Path::new(ZDS), &[]);
        let ztunnel = Ztunnel::start(&node, SOON, MANY);
        let announced = zds::Announced {
            pod: zds::Pod {
                uid: "server".into(),
                name: "server".into(),
                namespace: "shop".into(),
                service_account: "cart".into(),
            },
            netns: Arc::new(std::fs::File::open("/run/netns/server").unwrap().into()),
        };
        node.announcements.announce(announced);
        let announcements = node.announcements.clone();
        let said = || announcements.standing("server");
        until("the agent is told", || {
            said() == Some(Err("no Pod has the UID server".to_owned()))
        })
        .await;
        node.put(outside(&server));
        until("it is served", || said() == Some(Ok(()))).await;
        assert_eq!(ztunnel.state("server").as_deref(), Some("Serving"));
    });
}

#[test]
fn a_released_pod_drains_and_its_connections_live_on() {
    alone("life::a_released_pod_drains_and_its_connections_live_on", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        server.serve(80);
        let mut node = Node::start(Path::new(ZDS), &[permissive(&server)]);
        let ztunnel = Ztunnel::start(&node, Duration::from_millis(1500), MANY);
        node.state("server", Some("Captured")).await;
        let mut live = client.call(at(server.v4, 80)).unwrap();
        node.put(outside(&server));
        ztunnel.reaches("server", Some("Draining")).await;
        assert_eq!(listeners(&server), 3, "peers that have not noticed are served on");
        ztunnel.reaches("server", Some("Closed")).await;
        until("the listeners are closed", || listeners(&server) == 0).await;
        for _ in 0..3 {
            live.echo().unwrap();
            client.call(at(server.v4, 80)).unwrap().echo().unwrap();
        }
        node.state("server", Some("Released")).await;
        drop(live);
        ztunnel.reaches("server", None).await;
        node.state("server", None).await;
        assert!(!server.nft().contains("weft"));
    });
}

#[test]
fn a_pod_announced_again_is_taken_up_again_whenever_that_is() {
    alone(
        "life::a_pod_announced_again_is_taken_up_again_whenever_that_is",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            let mut node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Ztunnel::start(&node, Duration::from_secs(2), MANY);
            node.state("server", Some("Captured")).await;
            let mut live = vec![client.call(at(server.v4, 80)).unwrap()];
            for during in ["Draining", "Closed"] {
                node.put(outside(&server));
                ztunnel.reaches("server", Some(during)).await;
                node.put(permissive(&server));
                node.state("server", Some("Captured")).await;
                assert_eq!(listeners(&server), 3, "taken up while {during}");
                live.push(client.call(at(server.v4, 80)).unwrap());
                assert!(ztunnel.open("server") >= 1);
                for call in &mut live {
                    call.echo().unwrap();
                }
            }
        },
    );
}

#[test]
fn a_pod_has_no_more_connections_than_its_bound() {
    alone("life::a_pod_has_no_more_connections_than_its_bound", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        server.serve(80);
        let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
        let ztunnel = Ztunnel::start(&node, SOON, 10);
        node.state("server", Some("Captured")).await;
        let mut live: Vec<Call> = (0..10).map(|_| client.call(at(server.v4, 80)).unwrap()).collect();
        client.call(at(server.v4, 80)).unwrap_err();
        live.pop();
        until("a place is free", || ztunnel.open("server") == 9).await;
        client.call(at(server.v4, 80)).unwrap().echo().unwrap();
        for call in &mut live {
            call.echo().unwrap();
        }
    });
}

#[test]
fn what_lives_in_a_namespace_that_died_ends() {
    alone("life::what_lives_in_a_namespace_that_died_ends", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        // an app that never closes what it accepted
        let app = server.netns.run(|| crate::world::listen(80)).unwrap();
        let accepting = std::thread::spawn(move || app.accept().unwrap());
        let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
        let ztunnel = Ztunnel::start(&node, SOON, MANY);
        node.state("server", Some("Captured")).await;
        let mut call = client
            .netns
            .run(|| std::net::TcpStream::connect((server.v4, 80)))
            .unwrap();
        call.write_all(b"hello").unwrap();
        let (mut accepted, _) = accepting.join().unwrap();
        let mut hello = [0; 5];
        accepted.read_exact(&mut hello).unwrap();
        until("it is counted", || ztunnel.open("server") == 1).await;
        // what the container runtime does when a pod ends
        sh("ip -n server link del eth0; ip netns del server");
        ztunnel.reaches("server", None).await;
    });
}
