//! Two captured pods of one node, with agent, rules and a real ztunnel: nothing between them is on a wire.

use std::{io::ErrorKind, path::Path, sync::Arc};

use decide::model::{Action, AppliedPolicy, Capture, Fence, MtlsMode, ObjectRef, Policy, PolicySet, Rule, Workload};

use crate::{
    node::{Node, ZDS, at, workload},
    proxy::{MANY, Ztunnel},
    world::{PodNet, SOON, alone, sh, until},
};

fn open(pod: &PodNet, fence: Fence) -> Workload {
    Workload {
        fence,
        ..workload(pod, Capture::Captured, MtlsMode::Strict)
    }
}

/// Established connections to or from 15008 in a pod.
fn tunnels(pod: &PodNet) -> usize {
    let told = sh(&format!("ip netns exec {} ss -Htn state established", pod.uid));
    told.lines().filter(|line| line.contains(":15008")).count()
}

/// Packets of any connection to or from 15008 that a pod has seen.
fn packets(pod: &PodNet) -> u64 {
    let told = sh(&format!("ip netns exec {} nft list counter inet seen hbone", pod.uid));
    let mut words = told.split_whitespace().skip_while(|word| *word != "packets");
    words.nth(1).and_then(|count| count.parse().ok()).expect("a count")
}

fn watch(pod: &PodNet) {
    sh(&format!(
        "ip netns exec {} nft 'table inet seen {{
           counter hbone {{ }}
           chain in {{ type filter hook input priority -500; tcp dport 15008 counter name hbone; tcp sport 15008 counter name hbone; }}
           chain out {{ type filter hook output priority -500; tcp dport 15008 counter name hbone; tcp sport 15008 counter name hbone; }}
         }}'",
        pod.uid
    ));
}

#[test]
fn between_two_pods_of_one_node_nothing_is_on_15008_until_a_network_policy_asks_for_it() {
    alone(
        "near::between_two_pods_of_one_node_nothing_is_on_15008_until_a_network_policy_asks_for_it",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            watch(&server);
            watch(&client);
            let pods = [open(&server, Fence::Absent), open(&client, Fence::Absent)];
            let mut node = Node::start(Path::new(ZDS), &pods);
            let ztunnel = Ztunnel::start(&node, SOON, MANY);
            node.state("server", Some("Captured")).await;
            node.state("client", Some("Captured")).await;
            let mut near = client.call(at(server.v4, 80)).unwrap();
            near.echo().unwrap();
            assert_eq!(near.seen, client.v4.to_string());
            assert_eq!((packets(&server), packets(&client)), (0, 0));
            assert_eq!((ztunnel.open("server"), ztunnel.open("client")), (1, 1));

            node.put(open(&server, Fence::By("strict".into())));
            let mut far = client.call(at(server.v4, 80)).unwrap();
            far.echo().unwrap();
            assert_eq!(far.seen, client.v4.to_string());
            assert!(tunnels(&server) > 0 && packets(&server) > 0);
            near.echo().unwrap();

            node.put(open(&server, Fence::Absent));
            let mut again = client.call(at(server.v4, 80)).unwrap();
            again.echo().unwrap();
            drop((near, far, again));
            until("their places are free again", || ztunnel.open("client") == 0).await;
        },
    );
}

#[test]
fn in_memory_a_denied_pod_of_the_same_node_is_reset() {
    alone("near::in_memory_a_denied_pod_of_the_same_node_is_reset", async || {
        let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
        server.serve(80);
        let mut denying = open(&server, Fence::Absent);
        let mut policies = PolicySet::clone(&denying.policies);
        policies.policies.push(AppliedPolicy {
            policy: Arc::new(Policy {
                object: ObjectRef {
                    kind: "AuthorizationPolicy".into(),
                    namespace: "shop".into(),
                    name: "nobody".into(),
                },
                action: Action::Deny,
                rules: vec![Rule::default()],
                dry_run: false,
                broken: None,
            }),
            ports: None,
        });
        denying.policies = Arc::new(policies);
        let pods = [open(&server, Fence::Absent), open(&client, Fence::Absent)];
        let mut node = Node::start(Path::new(ZDS), &pods);
        let _ztunnel = Ztunnel::start(&node, SOON, MANY);
        node.state("server", Some("Captured")).await;
        node.state("client", Some("Captured")).await;
        let mut live = client.call(at(server.v4, 80)).unwrap();
        live.echo().unwrap();
        node.put(denying);
        until("what lives is cut", || live.echo().is_err()).await;
        let refused = client.call(at(server.v4, 80)).and_then(|mut call| call.echo());
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset);
    });
}
