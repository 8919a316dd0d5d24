//! The CNI plugin as a container runtime calls it, against an agent in the same namespaces; and pods found by
//! their processes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use act::{
    certs::local::LocalAuthority,
    hbone::{Connect, Pool, PoolOptions, Target},
    net::{Dialer, SocketOptions},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, task::JoinHandle};
use ztunnel::{
    capture::{Namespaces, Sandboxes},
    cni::{Known, Server},
};

use crate::{
    node::{Node, ZDS, at, outside, permissive, strict},
    passing::Passing,
    proxy::Ztunnel,
    world::{NETNS, PodNet, alone, listen, sh, until},
};

const SOCKET: &str = "/run/cni.sock";
const STATE: &str = "/run/weft-cni.state";
const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

/// A call of the plugin, and what came of it.
struct Called {
    ok: bool,
    said: Value,
}

/// The plugin, as a runtime calls it for a pod of the namespace `shop`.
async fn call(command: &str, namespace: &str, pod: &PodNet, uid: &str) -> Called {
    let result = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "eth0", "sandbox": "x"}],
        "ips": [{"address": format!("{}/24", pod.v4), "gateway": "10.9.0.1", "interface": 0}],
        "dns": {},
    });
    let config = json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "type": "weft-cni",
        "socket": SOCKET,
        "kubeconfig": "/run/weft-cni.kubeconfig",
        "state": STATE,
        "excludeNamespaces": ["kube-system", "weft-system"],
        "prevResult": result,
    });
    let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={uid};K8S_POD_UID={uid}");
    let mut child = Command::new(env!("CARGO_BIN_EXE_weft-cni"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", "sandbox")
        .env("CNI_NETNS", format!("{NETNS}/{}", pod.uid))
        .env("CNI_IFNAME", "eth0")
        .env("CNI_ARGS", arguments)
        .env("CNI_PATH", "/opt/cni/bin")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(config.to_string().as_bytes()).await.unwrap();
    drop(stdin);
    let ended = child.wait_with_output().await.unwrap();
    let said = serde_json::from_slice(&ended.stdout).unwrap_or(Value::Null);
    if command == "ADD" && ended.status.success() {
        assert_eq!(said, result, "the result of the plugins before is passed on");
    }
    Called {
        ok: ended.status.success(),
        said,
    }
}

/// A `/proc` with the processes that a test says there are.
struct Proc(PathBuf);

impl Proc {
    fn new() -> Self {
        fs::create_dir_all("/run/proc").unwrap();
        Self("/run/proc".into())
    }

    fn process(&self, pid: u32, started: u32, uid: &str, netns: &str) {
        let directory = self.0.join(pid.to_string());
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("ns")).unwrap();
        fs::write(directory.join("cgroup"), format!("0::/kubepods/burstable/pod{uid}/c\n")).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(directory.join("stat"), format!("{pid} (x) S {zeros}{started} 0")).unwrap();
        std::os::unix::fs::symlink(format!("{NETNS}/{netns}"), directory.join("ns/net")).unwrap();
    }

    fn ends(&self, pid: u32) {
        fs::remove_dir_all(self.0.join(pid.to_string())).unwrap();
    }
}

fn serve(node: &Node, sandboxes: Arc<Sandboxes>) -> JoinHandle<()> {
    let server = Server {
        node: "n1".into(),
        reader: node.reader.clone(),
        sandboxes,
        tally: node.tally.clone(),
        announcements: node.announcements.clone(),
        cluster: None,
        patience: Duration::from_secs(3),
    };
    tokio::spawn(server.listen(Path::new(SOCKET)).unwrap())
}

fn is_captured(pod: &PodNet) -> bool {
    pod.nft().contains("table inet weft")
}

#[test]
fn a_new_pod_of_the_mesh_does_not_start_before_it_is_captured_and_others_do_not_wait() {
    alone(
        "cni::a_new_pod_of_the_mesh_does_not_start_before_it_is_captured_and_others_do_not_wait",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            let sandboxes = Sandboxes::new(&Proc::new().0);
            let namespaces = Namespaces::Node(sandboxes.clone());
            let node = Node::of(
                Path::new(ZDS),
                namespaces,
                &[permissive(&server), outside(&client)],
                &[],
            );
            let _serving = serve(&node, sandboxes);

            let refused = call("ADD", "shop", &server, "server").await;
            assert!(!refused.ok && !is_captured(&server));
            assert_eq!(refused.said["code"], 11);
            assert_eq!(
                refused.said["msg"],
                "shop/server is in the mesh and does not start before it is captured: no ztunnel is connected"
            );
            assert!(!call("CHECK", "shop", &server, "server").await.ok);
            assert!(call("DEL", "shop", &server, "server").await.ok);

            // others do not wait, captured or not, known or not
            assert!(call("ADD", "shop", &client, "client").await.ok);
            assert!(call("ADD", "shop", &client, "unknown").await.ok);
            assert!(call("ADD", "kube-system", &client, "server").await.ok);
            assert!(!is_captured(&client));

            let _ztunnel = Passing::start(Path::new(ZDS));
            assert!(call("ADD", "shop", &server, "server").await.ok);
            assert!(is_captured(&server), "captured when the runtime goes on");
            assert!(call("CHECK", "shop", &server, "server").await.ok);
        },
    );
}

#[test]
fn a_new_sandbox_of_a_pod_is_captured_and_the_old_one_let_go() {
    alone(
        "cni::a_new_sandbox_of_a_pod_is_captured_and_the_old_one_let_go",
        async || {
            let (first, second, client) = (
                PodNet::new("first", 2),
                PodNet::new("second", 3),
                PodNet::new("client", 4),
            );
            let proc = Proc::new();
            let sandboxes = Sandboxes::new(&proc.0);
            let mut wanted = strict(&first);
            (wanted.uid, wanted.name) = (UID.into(), UID.into());
            let node = Node::of(Path::new(ZDS), Namespaces::Node(sandboxes.clone()), &[wanted], &[]);
            let _serving = serve(&node, sandboxes);
            let ztunnel = Passing::start(Path::new(ZDS));
            assert!(call("ADD", "shop", &first, UID).await.ok);
            proc.process(7, 100, UID, "first");
            // the sandbox dies and is made anew: same UID, other namespace and address, while the status is old
            proc.ends(7);
            assert!(call("DEL", "shop", &first, UID).await.ok);
            assert!(call("ADD", "shop", &second, UID).await.ok);
            assert!(is_captured(&second));
            second.serve(80);
            client.call(at(second.v4, 80)).unwrap().echo().unwrap();
            assert_eq!(ztunnel.take_log().len(), 1);
        },
    );
}

#[test]
fn a_removed_sandboxs_peers_are_told_while_its_network_is_there() {
    alone(
        "cni::a_removed_sandboxs_peers_are_told_while_its_network_is_there",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            let sandboxes = Sandboxes::new(&Proc::new().0);
            let namespaces = Namespaces::Node(sandboxes.clone());
            let node = Node::of(Path::new(ZDS), namespaces, &[permissive(&server)], &[]);
            let _serving = serve(&node, sandboxes);
            let authority = Arc::new(LocalAuthority::new().unwrap());
            let _ztunnel = Ztunnel::join(&authority, &node).await;
            assert!(call("ADD", "shop", &server, "server").await.ok);
            let identity = permissive(&server).identity;
            let target = Target {
                source: "client".into(),
                source_address: client.v4,
                leaf: authority.leaf(&identity).unwrap(),
                dialer: Dialer {
                    netns: client.netns.clone(),
                    mark: None,
                    options: SocketOptions::default(),
                },
                expected: identity,
                workload: "server".into(),
                address: at(server.v4, 15008),
            };
            let connect = Connect {
                authority: at(server.v4, 80),
                client: at(client.v4, 1),
                host: None,
                baggage: None,
                traceparent: None,
            };
            let pool = Pool::new(PoolOptions::default());
            drop(pool.open(&target, &connect).await.unwrap());
            assert_eq!(pool.tunnels(), 1, "an idle tunnel stays");
            let tunnels = || sh("ip netns exec server ss -Htn state established sport = :15008");
            assert!(!tunnels().is_empty());
            assert!(call("DEL", "shop", &server, "server").await.ok);
            assert_eq!(tunnels(), "", "when the runtime goes on, no peer has a tunnel");
            until("the peer has noticed", || pool.tunnels() == 0).await;
        },
    );
}

#[test]
fn without_the_agent_no_pod_of_the_mesh_starts_and_every_other_does() {
    alone(
        "cni::without_the_agent_no_pod_of_the_mesh_starts_and_every_other_does",
        async || {
            let pod = PodNet::new("pod", 2);
            // nothing known: a node where no agent ever ran
            assert!(call("ADD", "shop", &pod, "pod").await.ok);
            let known = Known {
                enabled: ["shop".into()].into(),
            };
            known.write(Path::new(STATE)).unwrap();
            let refused = call("ADD", "shop", &pod, "pod").await;
            assert!(!refused.ok);
            let why = refused.said["msg"].as_str().unwrap();
            assert!(
                why.contains("the agent weft-cni of this node does not answer at /run/cni.sock"),
                "{why}"
            );
            for namespace in ["other", "kube-system", "weft-system"] {
                assert!(call("ADD", namespace, &pod, "pod").await.ok, "{namespace}");
            }
            assert!(call("DEL", "shop", &pod, "pod").await.ok);
            for command in ["STATUS", "GC", "VERSION"] {
                assert!(call(command, "shop", &pod, "pod").await.ok, "{command}");
            }
            assert!(!call("UPDATE", "shop", &pod, "pod").await.ok);
        },
    );
}

#[test]
fn a_running_pod_is_found_by_its_processes_and_only_with_its_own_addresses() {
    alone(
        "cni::a_running_pod_is_found_by_its_processes_and_only_with_its_own_addresses",
        async || {
            let (own, other) = (PodNet::new("own", 2), PodNet::new("other", 3));
            let proc = Proc::new();
            // a younger process of the pod has made itself a namespace; the oldest counts
            proc.process(7, 100, UID, "own");
            proc.process(6, 200, UID, "other");
            let mut wanted = permissive(&own);
            wanted.uid = UID.into();
            wanted.addresses = vec![other.v4];
            let namespaces = Namespaces::Node(Sandboxes::new(&proc.0));
            let mut node = Node::of(Path::new(ZDS), namespaces, &[wanted.clone()], &[]);
            let _ztunnel = Passing::start(Path::new(ZDS));
            let why = || {
                node.tally.dump()[UID]["why"]
                    .as_str()
                    .unwrap_or("")
                    .contains("has not the pod's address 10.9.0.3")
            };
            until("it says that the namespace is not the pod's", why).await;
            assert!(!is_captured(&own) && !is_captured(&other));
            wanted.addresses = vec![own.v4, own.v6];
            if !crate::world::ipv6() {
                wanted.addresses.pop();
            }
            node.put(wanted);
            node.state(UID, Some("Captured")).await;
            assert!(is_captured(&own) && !is_captured(&other));
        },
    );
}

/// A connection out of a pod on which the other side alone speaks, and what ended it.
fn a_client_that_only_reads(from: &PodNet, to: &PodNet) -> std::thread::JoinHandle<Option<std::io::ErrorKind>> {
    let listener = to.netns.run(|| listen(90)).unwrap();
    std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        while std::io::Write::write_all(&mut socket, &[0; 1000]).is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let mut socket = from.netns.run(|| std::net::TcpStream::connect((to.v4, 90))).unwrap();
    std::thread::spawn(move || {
        let ended = std::io::copy(&mut socket, &mut std::io::sink());
        ended.err().map(|why| why.kind())
    })
}

#[test]
fn a_pod_that_ran_uncaptured_is_captured_told_of_and_its_connections_reset() {
    alone(
        "cni::a_pod_that_ran_uncaptured_is_captured_told_of_and_its_connections_reset",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(80);
            client.serve(80);
            let mut live = client.call(at(server.v4, 80)).unwrap();
            live.echo().unwrap();
            let mut outbound = server.call(at(client.v4, 80)).unwrap();
            outbound.echo().unwrap();
            let reading = a_client_that_only_reads(&server, &client);
            let proc = Proc::new();
            proc.process(7, 100, UID, "server");
            let mut wanted = permissive(&server);
            wanted.uid = UID.into();
            let _ztunnel = Passing::start(Path::new(ZDS));
            let namespaces = || Namespaces::Node(Sandboxes::new(&proc.0));
            let node = Node::of(Path::new(ZDS), namespaces(), &[wanted.clone()], &["shop"]);
            node.state(UID, Some("Captured")).await;
            assert_eq!(node.tally.dump()[UID]["gap"], true);
            live.echo().unwrap_err();
            let reset = outbound.echo().unwrap_err();
            assert_eq!(reset.kind(), std::io::ErrorKind::ConnectionReset, "at once, and told");
            until("the client that only reads is told", || reading.is_finished()).await;
            assert_eq!(reading.join().unwrap(), Some(std::io::ErrorKind::ConnectionReset));
            node.counted(UID, "old_reset", 3).await;
            server.call(at(client.v4, 80)).unwrap().echo().unwrap();
            // the agent's own restart is no gap
            node.die().await;
            let mut live = client.call(at(server.v4, 80)).unwrap();
            let node = Node::of(Path::new(ZDS), namespaces(), &[wanted], &["shop"]);
            node.state(UID, Some("Captured")).await;
            assert_eq!(node.tally.dump()[UID]["gap"], false);
            live.echo().unwrap();
            sh("test -z \"$(ip netns exec client nft list ruleset)\"");
        },
    );
}
