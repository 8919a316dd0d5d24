//! Capture and release with real nftables, in network namespaces.

use std::path::Path;

use crate::{
    node::{Node, ZDS, at, named, outside, permissive, strict},
    passing::Passing,
    world::{self, Call, PodNet, alone, ipv6, sh, until},
};

#[test]
fn a_captured_pods_connections_pass_the_ztunnel_and_keep_their_source() {
    alone(
        "capture::a_captured_pods_connections_pass_the_ztunnel_and_keep_their_source",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            client.serve(80);
            let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            let families: &[_] = if ipv6() {
                &[(server.v4, client.v4), (server.v6, client.v6)]
            } else {
                &[(server.v4, client.v4)]
            };
            for (server_ip, client_ip) in families {
                let to = at(*server_ip, 80);
                let mut inbound = client.call(to).unwrap();
                inbound.echo().unwrap();
                assert_eq!(inbound.seen, client_ip.to_string(), "the client's own address");
                assert_eq!(ztunnel.take_log(), [format!("inbound {client_ip} {to}")]);

                let to = at(*client_ip, 80);
                let mut outbound = server.call(to).unwrap();
                outbound.echo().unwrap();
                assert_eq!(outbound.seen, server_ip.to_string());
                assert_eq!(ztunnel.take_log(), [format!("outbound {server_ip} {to}")]);

                // its own address and loopback are nobody else's business
                for own in [at(*server_ip, 80), "127.0.0.1:80".parse().unwrap()] {
                    server.call(own).unwrap().echo().unwrap();
                    assert!(ztunnel.take_log().is_empty());
                }
            }
            // from the node itself, and to a port nobody serves
            Call::to(at(server.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log(), ["inbound 10.9.0.1 10.9.0.2:80"]);
            client.call(at(server.v4, 81)).unwrap_err();
        },
    );
}

#[test]
fn our_redirected_ports_are_reached_by_redirection_alone() {
    alone(
        "capture::our_redirected_ports_are_reached_by_redirection_alone",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            for port in [15001, 15006] {
                let refused = |call: std::io::Result<Call>| call.unwrap_err().kind();
                assert_eq!(
                    refused(client.call(at(server.v4, port))),
                    std::io::ErrorKind::ConnectionRefused
                );
                assert_eq!(
                    refused(server.call(at(server.v4, port))),
                    std::io::ErrorKind::ConnectionRefused
                );
                let loopback = at("127.0.0.1".parse().unwrap(), port);
                assert_eq!(refused(server.call(loopback)), std::io::ErrorKind::ConnectionRefused);
            }
            assert!(ztunnel.take_log().is_empty());
            // 15008 is reached directly
            let _ = client.call(at(server.v4, 15008));
            assert_eq!(ztunnel.take_log(), ["inbound 10.9.0.3 10.9.0.2:15008"]);
        },
    );
}

#[test]
fn permissive_counts_older_connections_and_lets_them_live() {
    alone(
        "capture::permissive_counts_older_connections_and_lets_them_live",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            server.serve(40123);
            client.serve(80);
            let mut old: Vec<Call> = [80, 80, 40123]
                .map(|port| client.call(at(server.v4, port)).unwrap())
                .into();
            old.push(server.call(at(client.v4, 80)).unwrap());
            let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            for call in &mut old {
                for _ in 0..3 {
                    call.echo().unwrap();
                }
            }
            node.counted("server", "old_inbound", 3).await;
            node.counted("server", "old_outbound", 1).await;
            node.counted("server", "old_reset", 0).await;
            assert!(ztunnel.take_log().is_empty());
        },
    );
}

#[test]
fn strict_resets_older_inbound_connections_whoever_speaks_first() {
    alone(
        "capture::strict_resets_older_inbound_connections_whoever_speaks_first",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            server.serve(40123);
            client.serve(80);
            let mut inbound = [80, 40123].map(|port| client.call(at(server.v4, port)).unwrap());
            let mut outbound = server.call(at(client.v4, 80)).unwrap();
            // a server that only sends: it learns of its end by sending
            let sending = server.netns.run(|| world::listen(90)).unwrap();
            let sender = std::thread::spawn(move || {
                let (mut socket, _) = sending.accept().unwrap();
                while std::io::Write::write_all(&mut socket, &[0; 1000]).is_ok() {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
            });
            let download = client
                .netns
                .run(|| std::net::TcpStream::connect((server.v4, 90)))
                .unwrap();
            let node = Node::start(Path::new(ZDS), &[strict(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            for call in &mut inbound {
                call.echo().unwrap_err();
            }
            until("the sending server was stopped", || sender.is_finished()).await;
            drop(download);
            outbound.echo().unwrap();
            node.counted("server", "old_outbound", 1).await;
            node.counted("server", "old_reset", 3).await;
            // new ones pass the ztunnel, which is the one to judge them
            client.call(at(server.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log(), ["inbound 10.9.0.3 10.9.0.2:80"]);
        },
    );
}

#[test]
fn turning_strict_resets_older_connections() {
    alone("capture::turning_strict_resets_older_connections", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        server.serve(80);
        let mut old = client.call(at(server.v4, 80)).unwrap();
        let mut node = Node::start(Path::new(ZDS), &[permissive(&server)]);
        let _ztunnel = Passing::start(Path::new(ZDS));
        node.state("server", Some("Captured")).await;
        let mut new = client.call(at(server.v4, 80)).unwrap();
        old.echo().unwrap();
        node.put(strict(&server));
        until("the old connection is reset", || old.echo().is_err()).await;
        new.echo().unwrap();
    });
}

#[test]
fn release_keeps_established_connections_and_leaves_nothing_behind() {
    alone(
        "capture::release_keeps_established_connections_and_leaves_nothing_behind",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            client.serve(80);
            let before = (server.nft(), routing("server"));
            let mut node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            let mut live = [
                client.call(at(server.v4, 80)).unwrap(),
                server.call(at(client.v4, 80)).unwrap(),
            ];
            assert_eq!(ztunnel.take_log().len(), 2);
            node.put(outside(&server));
            until("the ztunnel serves it no more", || ztunnel.served().is_empty()).await;
            for _ in 0..5 {
                for call in &mut live {
                    call.echo().unwrap();
                }
                client.call(at(server.v4, 80)).unwrap().echo().unwrap();
                server.call(at(client.v4, 80)).unwrap().echo().unwrap();
            }
            assert!(ztunnel.take_log().is_empty(), "new connections pass the ztunnel by");
            node.state("server", Some("Released")).await;
            assert!(server.nft().contains("table inet weft"));
            drop(live);
            node.state("server", None).await;
            assert_eq!((server.nft(), routing("server")), before);
            // and again, as if nothing had been
            node.put(permissive(&server));
            node.state("server", Some("Captured")).await;
            client.call(at(server.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log(), ["inbound 10.9.0.3 10.9.0.2:80"]);
        },
    );
}

#[test]
fn a_pod_captured_again_while_released_loses_nothing() {
    alone(
        "capture::a_pod_captured_again_while_released_loses_nothing",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            let mut node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            let mut first = client.call(at(server.v4, 80)).unwrap();
            node.put(outside(&server));
            node.state("server", Some("Released")).await;
            until("the ztunnel serves it no more", || ztunnel.served().is_empty()).await;
            let mut between = client.call(at(server.v4, 80)).unwrap();
            node.put(strict(&server));
            node.state("server", Some("Captured")).await;
            first.echo().unwrap();
            between.echo().unwrap_err();
        },
    );
}

#[test]
fn a_new_agent_repairs_what_is_wished_and_releases_what_is_not() {
    alone(
        "capture::a_new_agent_repairs_what_is_wished_and_releases_what_is_not",
        async || {
            let (server, client, other) = (
                PodNet::new("server", 2),
                PodNet::new("client", 3),
                PodNet::new("other", 4),
            );
            server.serve(80);
            let node = Node::start(Path::new(ZDS), &[permissive(&server), permissive(&other)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            node.state("other", Some("Captured")).await;
            let mut live = client.call(at(server.v4, 80)).unwrap();
            node.die().await;
            live.echo().unwrap();
            sh("ip netns exec server nft flush chain inet weft redirect_inbound");
            let node = Node::start(Path::new(ZDS), &[permissive(&server), outside(&other)]);
            node.state("server", Some("Captured")).await;
            live.echo().unwrap();
            node.state("other", None).await;
            until("only the wished pod is served", || ztunnel.served() == ["server"]).await;
            assert!(!other.nft().contains("weft"));
            ztunnel.take_log();
            client.call(at(server.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log().len(), 1);
        },
    );
}

#[test]
fn no_rules_before_the_ztunnel_serves() {
    alone("capture::no_rules_before_the_ztunnel_serves", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        server.serve(80);
        let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
        let why = || node.tally.dump()["server"]["why"].as_str() == Some("no ztunnel is connected");
        until("it says what it waits for", why).await;
        assert!(!server.nft().contains("weft"));
        client.call(at(server.v4, 80)).unwrap().echo().unwrap();
        let ztunnel = Passing::start(Path::new(ZDS));
        node.state("server", Some("Captured")).await;
        client.call(at(server.v4, 80)).unwrap().echo().unwrap();
        assert_eq!(ztunnel.take_log().len(), 1);
    });
}

#[test]
fn a_vanished_pod_is_let_go_and_a_new_sandbox_captured() {
    alone(
        "capture::a_vanished_pod_is_let_go_and_a_new_sandbox_captured",
        async || {
            let mut server = PodNet::new("server", 2);
            let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            sh("ip netns del server; ip link del veth2 2>/dev/null || true");
            node.state("server", Some("Waiting")).await;
            until("the ztunnel has let it go", || ztunnel.served().is_empty()).await;
            server = PodNet::new("server", 2);
            server.serve(80);
            node.state("server", Some("Captured")).await;
            Call::to(at(server.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log().len(), 1);
        },
    );
}

#[test]
fn datagrams_pass_counted_unless_guarded() {
    alone("capture::datagrams_pass_counted_unless_guarded", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        let bind = |pod: &PodNet, port| {
            let socket = pod.netns.run(|| std::net::UdpSocket::bind((pod.v4, port))).unwrap();
            socket
                .set_read_timeout(Some(std::time::Duration::from_millis(500)))
                .unwrap();
            socket
        };
        let (served, asked, other) = (bind(&server, 53), bind(&client, 53), bind(&server, 5353));
        let ask = |from: &PodNet, to: &std::net::UdpSocket| {
            let socket = bind(from, 0);
            socket.send_to(b"?", to.local_addr().unwrap()).unwrap();
            let (_, back) = to.recv_from(&mut [0; 9])?;
            to.send_to(b"!", back).unwrap();
            socket.recv_from(&mut [0; 9]).map(drop)
        };
        let mut node = Node::start(Path::new(ZDS), &[permissive(&server)]);
        let _ztunnel = Passing::start(Path::new(ZDS));
        node.state("server", Some("Captured")).await;
        ask(&client, &served).unwrap();
        ask(&server, &asked).unwrap();
        node.counted("server", "datagrams_inbound", 1).await;
        node.counted("server", "datagrams_outbound", 1).await;
        node.put(strict(&server));
        until("guarded", || ask(&client, &served).is_err()).await;
        ask(&server, &asked).expect("the answers to the pod's own questions pass");
        node.put(named(&server, 53));
        until("only the port that a policy names is guarded", || {
            ask(&client, &other).is_ok()
        })
        .await;
        assert!(ask(&client, &served).is_err());
        node.put(strict(&server));
        until("guarded again", || ask(&client, &other).is_err()).await;
        assert!(node.tally.dump()["server"]["datagrams_dropped"].as_u64() > Some(0));
        node.allow_datagrams();
        until("allowed by MeshConfig", || ask(&client, &served).is_ok()).await;
        assert!(ask(&client, &other).is_ok());
    });
}

#[test]
fn many_plain_connections_of_one_client_do_not_collide() {
    alone(
        "capture::many_plain_connections_of_one_client_do_not_collide",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            // few ports, so that the client's own and those its connections are passed on from meet often
            for pod in ["server", "client"] {
                sh(&format!(
                    "ip netns exec {pod} sysctl -qw net.ipv4.ip_local_port_range='40000 40399'"
                ));
            }
            server.serve(80);
            let node = Node::start(Path::new(ZDS), &[permissive(&server)]);
            let _ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            let mut live = Vec::new();
            for index in 0..300 {
                let call = client.call(at(server.v4, 80));
                live.push(call.unwrap_or_else(|why| panic!("connection {index}: {why}")));
            }
            for call in &mut live {
                call.echo().unwrap();
            }
        },
    );
}

/// The policy rules and local routes of a pod.
fn routing(uid: &str) -> String {
    sh(&format!(
        "ip -n {uid} rule; ip -n {uid} -6 rule 2>/dev/null || true; ip -n {uid} route show table 100 2>/dev/null || true"
    ))
}

#[test]
fn a_captured_pod_migrates_what_waits_at_a_closed_listener_and_a_freed_one_as_before() {
    alone(
        "capture::a_captured_pod_migrates_what_waits_at_a_closed_listener_and_a_freed_one_as_before",
        async || {
            let (off, on) = (PodNet::new("off", 2), PodNet::new("on", 3));
            let read = |pod: &str| sh(&format!("ip netns exec {pod} sysctl -n net.ipv4.tcp_migrate_req"));
            sh("ip netns exec on sysctl -qw net.ipv4.tcp_migrate_req=1");
            assert_eq!((read("off").trim(), read("on").trim()), ("0", "1"));
            let mut node = Node::start(Path::new(ZDS), &[permissive(&off), permissive(&on)]);
            let _ztunnel = Passing::start(Path::new(ZDS));
            for pod in ["off", "on"] {
                node.state(pod, Some("Captured")).await;
                assert_eq!(read(pod).trim(), "1");
            }
            // the rules are brought up to date: that it was off is not forgotten
            node.put(strict(&off));
            until("the new rules stand", || {
                off.nft().contains("counter name \"old_reset\"")
            })
            .await;
            node.put(outside(&off));
            node.put(outside(&on));
            for pod in ["off", "on"] {
                node.state(pod, None).await;
            }
            assert_eq!((read("off").trim(), read("on").trim()), ("0", "1"));
        },
    );
}
