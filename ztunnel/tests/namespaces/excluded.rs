//! What annotations exclude from the mesh, and hosts without IPv6, with real nftables.

use std::{path::Path, thread};

use act::net::{Listen, listen};
use decide::model::Exclusions;

use crate::{
    node::{Node, ZDS, at, permissive},
    passing::Passing,
    world::{PodNet, alone, ipv6, sh, until},
};

#[test]
fn what_is_excluded_bypasses_the_ztunnel_at_once_and_the_mesh_itself_never_does() {
    alone(
        "excluded::what_is_excluded_bypasses_the_ztunnel_at_once_and_the_mesh_itself_never_does",
        async || {
            let (pod, outside, inside) = (
                PodNet::new("pod", 2),
                PodNet::new("outside", 3),
                PodNet::new("inside", 4),
            );
            for server in [&outside, &inside] {
                server.serve(80);
                server.serve(81);
            }
            let mut node = Node::start(Path::new(ZDS), &[permissive(&pod)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("pod", Some("Captured")).await;
            pod.call(at(outside.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log().len(), 1);

            let networks = |all: &[&PodNet]| {
                let all = all.iter().flat_map(|net| [net.v4, net.v6]);
                all.map(Into::into).collect::<Vec<ipnet::IpNet>>()
            };
            node.exclude(
                "pod",
                Exclusions {
                    networks: networks(&[&outside, &inside]),
                    ports: vec![81],
                    kept: networks(&[&inside]),
                },
            );
            until("the rules exclude", || pod.nft().contains("excluded_outbound\" return")).await;
            // Past the ztunnel, and still when it is gone; the mesh's own is not, whatever was asked for.
            let mut open = pod.call(at(outside.v4, 80)).unwrap();
            open.echo().unwrap();
            if ipv6() {
                pod.call(at(outside.v6, 80)).unwrap().echo().unwrap();
            }
            assert!(ztunnel.take_log().is_empty());
            for port in [80, 81] {
                pod.call(at(inside.v4, port)).unwrap().echo().unwrap();
            }
            assert_eq!(
                ztunnel.take_log(),
                ["outbound 10.9.0.2 10.9.0.4:80", "outbound 10.9.0.2 10.9.0.4:81"]
            );
            node.counted("pod", "excluded_outbound", if ipv6() { 2 } else { 1 })
                .await;
            // What is excluded is no old connection, and no longer excluded it goes on to its end.
            node.counted("pod", "old_outbound", 0).await;
            node.exclude("pod", Exclusions::default());
            until("nothing is excluded", || {
                !pod.nft().contains("excluded_outbound\" return")
            })
            .await;
            open.echo().unwrap();
            assert!(ztunnel.take_log().is_empty());
            pod.call(at(outside.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log(), ["outbound 10.9.0.2 10.9.0.3:80"]);
        },
    );
}

#[test]
fn a_pod_without_ipv6_is_captured_and_listened_in_all_the_same() {
    alone(
        "excluded::a_pod_without_ipv6_is_captured_and_listened_in_all_the_same",
        async || {
            let (pod, peer) = (PodNet::new("pod", 2), PodNet::new("peer", 3));
            for name in ["all", "default", "lo", "eth0"] {
                let key = format!("net.ipv6.conf.{name}.disable_ipv6");
                sh(&format!(
                    "ip netns exec pod sysctl -qw {key}=1 || test ! -d /proc/sys/net/ipv6"
                ));
            }
            let listener = listen(&pod.netns, Listen::everywhere(90)).unwrap();
            let accepting = thread::spawn(move || {
                listener.set_nonblocking(false).unwrap();
                listener.accept().unwrap().1.ip().to_canonical()
            });
            drop(peer.netns.run(|| std::net::TcpStream::connect((pod.v4, 90))).unwrap());
            assert_eq!(accepting.join().unwrap(), peer.v4);

            pod.serve(80);
            peer.serve(80);
            let node = Node::start(Path::new(ZDS), &[permissive(&pod)]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("pod", Some("Captured")).await;
            peer.call(at(pod.v4, 80)).unwrap().echo().unwrap();
            pod.call(at(peer.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(
                ztunnel.take_log(),
                ["inbound 10.9.0.3 10.9.0.2:80", "outbound 10.9.0.2 10.9.0.3:80"]
            );
        },
    );
}
