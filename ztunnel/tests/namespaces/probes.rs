//! Probes by the kernel alone: a kubelet's connections pass with neither agent nor ztunnel, everybody else's do not.

use std::{
    collections::BTreeSet,
    io::{self, BufRead, BufReader, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use decide::model::Workload;
use tokio::task::JoinHandle;
use ztunnel::capture::{Guard, Host, PodNamespace, Ports, ProbeOptions, Terms};

use crate::{
    node::{Node, ZDS, at, permissive},
    passing::Passing,
    world::{Call, NETNS, PodNet, alone, ipv6, sh, until},
};

const PROBED: u16 = 8080;
const NOT_PROBED: u16 = 8081;

/// A cgroup of the v2 hierarchy, removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(name: &str) -> Self {
        let beside_v1 = Path::new("/sys/fs/cgroup/unified");
        let root = if beside_v1.is_dir() {
            beside_v1
        } else {
            Path::new("/sys/fs/cgroup")
        };
        let path = root.join(format!("weft-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&path).expect("cgroup v2 is there, and this test may make a cgroup");
        Self(path)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..100 {
            if std::fs::remove_dir(&self.0).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A process named kubelet in a cgroup of its own, which probes when it is told to.
struct Kubelet {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Kubelet {
    fn start(cgroup: &Cgroup) -> Self {
        let script = r#"
            echo $$ > "$0/cgroup.procs" || exit 1
            echo ready
            while read -r host port; do
                answer=refused
                if exec 3<>"/dev/tcp/$host/$port"; then read -t 3 -r answer <&3 || answer=refused; exec 3>&-; fi
                echo "$answer"
            done"#;
        sh("mkdir -p /run/bin && ln -sf \"$(command -v bash)\" /run/bin/kubelet");
        let mut process = Command::new("/run/bin/kubelet")
            .args(["-c", script])
            .arg(&cgroup.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let ask = process.stdin.take().unwrap();
        let mut kubelet = Self {
            answers: BufReader::new(process.stdout.take().unwrap()),
            ask,
            process,
        };
        assert_eq!(kubelet.answer(), "ready");
        kubelet
    }

    /// What the pod greets with: the address it saw; `refused` if it did not.
    fn probe(&mut self, to: SocketAddr) -> String {
        writeln!(self.ask, "{} {}", to.ip(), to.port()).unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim().to_owned()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(host: &Host) -> JoinHandle<()> {
    let host = host.clone();
    tokio::spawn(async move { match host.run().await {} })
}

/// Rules of STRICT in a pod of which one port is probed. No ztunnel is anywhere.
async fn capture(host: &Host, pod: &PodNet) {
    let uid = pod.uid.into();
    let namespace = PodNamespace::open(Path::new(NETNS), &uid).unwrap();
    let addresses = namespace.addresses().await.unwrap();
    assert!(addresses.contains(&pod.v4), "{addresses:?}");
    let probes = host.admit(&uid, addresses, &[PROBED]).await;
    let strict = Guard {
        tcp: Ports::all(),
        datagrams: Ports::all(),
        outbound: false,
    };
    let terms = Terms {
        guard: strict,
        probes,
        ..Terms::default()
    };
    namespace.capture(&terms).await.unwrap();
}

/// The pod's address and the node's, in each family there is.
fn families(pod: &PodNet) -> Vec<(IpAddr, IpAddr)> {
    let mut families = vec![(pod.v4, "10.9.0.1".parse().unwrap())];
    if ipv6() {
        families.push((pod.v6, "fd09::1".parse().unwrap()));
    }
    families
}

/// Connects from a source port of its own choice.
fn call_from(source: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let family = if to.is_ipv4() {
        rustix::net::AddressFamily::INET
    } else {
        rustix::net::AddressFamily::INET6
    };
    let socket = rustix::net::socket(family, rustix::net::SocketType::STREAM, None)?;
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &source)?;
    rustix::net::sockopt::set_socket_timeout(
        &socket,
        rustix::net::sockopt::Timeout::Send,
        Some(Duration::from_secs(2)),
    )?;
    rustix::net::connect(&socket, &to)?;
    let socket = TcpStream::from(socket);
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    match BufReader::new(socket).read_line(&mut String::new())? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn mode(host: &Host) -> String {
    host.dump()["mode"].as_str().unwrap().to_owned()
}

#[test]
fn the_kubelets_probes_pass_with_neither_agent_nor_ztunnel_and_nothing_else_does() {
    alone(
        "probes::the_kubelets_probes_pass_with_neither_agent_nor_ztunnel_and_nothing_else_does",
        only_the_kubelet_passes,
    );
}

#[test]
fn a_kubelet_is_told_from_others_where_cgroup_v2_is_mounted_alone() {
    alone(
        "probes::a_kubelet_is_told_from_others_where_cgroup_v2_is_mounted_alone",
        async || {
            sh("umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup");
            let mounts = sh("cat /proc/self/mountinfo");
            let versions = mounts.lines().filter(|line| line.contains(" - cgroup"));
            assert!(
                versions.clone().all(|line| line.contains(" /sys/fs/cgroup ")),
                "{mounts}"
            );
            assert_eq!(versions.count(), 1, "{mounts}");
            only_the_kubelet_passes().await;
        },
    );
}

async fn only_the_kubelet_passes() {
    let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
    server.serve(PROBED);
    server.serve(NOT_PROBED);
    let cgroup = Cgroup::new("kubelet");
    let mut kubelet = Kubelet::start(&cgroup);
    let host = Host::new(ProbeOptions::default());
    let agent = run(&host);
    for (pod, node) in families(&server) {
        assert_eq!(kubelet.probe(at(pod, PROBED)), node.to_string(), "before");
        call_from(at(node, 61500), at(pod, PROBED)).expect("so can everybody");
    }
    capture(&host, &server).await;
    assert_eq!(mode(&host), "cgroup", "{}", host.dump());
    agent.abort();
    for (pod, node) in families(&server) {
        for _ in 0..3 {
            assert_eq!(kubelet.probe(at(pod, PROBED)), node.to_string(), "{}", server.nft());
        }
        assert_eq!(kubelet.probe(at(pod, NOT_PROBED)), "refused");
        Call::to(at(pod, PROBED)).expect_err("another process of the host");
        for source in [61000, 61500, 61999] {
            call_from(at(node, source), at(pod, PROBED)).expect_err("with the kubelet's source port");
        }
        client.call(at(pod, PROBED)).expect_err("another pod");
    }
    let claimed = client
        .netns
        .run(|| call_from(at(client.v4, 61500), at(server.v4, PROBED)));
    claimed.expect_err("another pod, with the kubelet's source port");
}

#[test]
fn where_no_cgroup_tells_the_kubelet_every_process_of_the_host_passes_to_probed_ports_and_nobody_else() {
    alone(
        "probes::where_no_cgroup_tells_the_kubelet_every_process_of_the_host_passes_to_probed_ports_and_nobody_else",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(PROBED);
            server.serve(NOT_PROBED);
            let host = Host::new(ProbeOptions::default());
            let agent = run(&host);
            capture(&host, &server).await;
            assert_eq!(mode(&host), "address");
            let why = host.dump()["why"].as_str().unwrap_or_default().to_owned();
            assert!(why.contains("--kubelet-cgroup"), "{why}");
            agent.abort();
            for (pod, _) in families(&server) {
                Call::to(at(pod, PROBED)).unwrap().echo().unwrap();
                Call::to(at(pod, NOT_PROBED)).unwrap_err();
                client.call(at(pod, PROBED)).unwrap_err();
            }
            what_is_masqueraded_is_no_probe(&server);
        },
    );
}

/// From outside, by a Service proxy that masquerades with its mark, and by somebody who just does.
fn what_is_masqueraded_is_no_probe(server: &PodNet) {
    sh("ip netns add outside
        ip link add out0 type veth peer name eth0 netns outside
        ip addr add 192.0.2.1/24 dev out0
        ip link set out0 up
        ip -n outside addr add 192.0.2.2/24 dev eth0
        ip -n outside link set eth0 up
        ip -n outside route add default via 192.0.2.1
        sysctl -qw net.ipv4.ip_forward=1");
    let outside = act::net::Netns::new(std::fs::File::open("/run/netns/outside").unwrap().into());
    let source = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 2), 61500));
    let from_outside = |port| outside.run(|| call_from(source, at(server.v4, port)));
    let masquerading = "nft add table ip proxy
        nft 'add chain ip proxy forward { type filter hook forward priority 0; }'
        nft 'add chain ip proxy postrouting { type nat hook postrouting priority 100; }'";
    sh(masquerading);
    let rules = |marked: bool| {
        let (mark, condition) = if marked {
            ("meta mark set 0x4000", "meta mark 0x4000")
        } else {
            ("accept", "")
        };
        sh(&format!(
            "nft flush table ip proxy
             nft 'add rule ip proxy forward iifname out0 {mark}'
             nft 'add rule ip proxy postrouting oifname br0 {condition} masquerade'"
        ));
    };
    for marked in [true, false] {
        rules(marked);
        from_outside(PROBED).unwrap_err();
    }
    // it was the rules that refused
    sh(
        "nft delete table inet weft_host; ip netns exec server nft flush chain inet weft redirect_inbound; ip netns exec server nft flush chain inet weft inbound",
    );
    from_outside(PROBED).unwrap();
}

#[test]
fn a_kubelet_that_starts_again_is_known_again_and_removed_rules_come_back() {
    alone(
        "probes::a_kubelet_that_starts_again_is_known_again_and_removed_rules_come_back",
        async || {
            let server = PodNet::new("server", 2);
            server.serve(PROBED);
            let host = Host::new(ProbeOptions::default());
            {
                let cgroup = Cgroup::new("again");
                let mut kubelet = Kubelet::start(&cgroup);
                run(&host);
                capture(&host, &server).await;
                assert_eq!(kubelet.probe(at(server.v4, PROBED)), "10.9.0.1");
            }
            // the last rules stay: without a kubelet there is nobody to be let through
            tokio::time::sleep(Duration::from_millis(2500)).await;
            assert_eq!(mode(&host), "cgroup");
            Call::to(at(server.v4, PROBED)).unwrap_err();
            let cgroup = Cgroup::new("again");
            let mut kubelet = Kubelet::start(&cgroup);
            until("the new kubelet's probes pass", || {
                kubelet.probe(at(server.v4, PROBED)) == "10.9.0.1"
            })
            .await;
            Call::to(at(server.v4, PROBED)).unwrap_err();
            sh("nft flush ruleset");
            until("the rules are put back", || {
                kubelet.probe(at(server.v4, PROBED)) == "10.9.0.1"
            })
            .await;
            Call::to(at(server.v4, PROBED)).unwrap_err();
        },
    );
}

#[test]
fn a_new_agent_keeps_the_hosts_rules_until_it_knows_all_pods_and_the_last_pod_takes_them_away() {
    alone(
        "probes::a_new_agent_keeps_the_hosts_rules_until_it_knows_all_pods_and_the_last_pod_takes_them_away",
        async || {
            let (server, other) = (PodNet::new("server", 2), PodNet::new("other", 3));
            server.serve(PROBED);
            other.serve(PROBED);
            let cgroup = Cgroup::new("new");
            let mut kubelet = Kubelet::start(&cgroup);
            let host = Host::new(ProbeOptions::default());
            let agent = run(&host);
            capture(&host, &server).await;
            capture(&host, &other).await;
            agent.abort();
            let _ = agent.await;
            let host = Host::new(ProbeOptions::default());
            run(&host);
            capture(&host, &other).await;
            assert_eq!(kubelet.probe(at(server.v4, PROBED)), "10.9.0.1", "not told of yet");
            assert_eq!(kubelet.probe(at(other.v4, PROBED)), "10.9.0.1");
            host.settle();
            let listed = || sh("nft list table inet weft_host");
            until("it goes", || !listed().contains("10.9.0.2")).await;
            assert!(listed().contains("10.9.0.3"));
            host.dismiss("other");
            until("nothing of ours is left", || {
                !sh("nft list ruleset").contains("weft_host")
            })
            .await;
        },
    );
}

#[test]
fn what_others_send_to_a_probed_port_passes_the_ztunnel_and_probes_are_no_old_connections() {
    alone(
        "probes::what_others_send_to_a_probed_port_passes_the_ztunnel_and_probes_are_no_old_connections",
        async || {
            let (server, client) = (PodNet::new("server", 2), PodNet::new("client", 3));
            server.serve(PROBED);
            let cgroup = Cgroup::new("others");
            let mut kubelet = Kubelet::start(&cgroup);
            let probed = Workload {
                probed: vec![PROBED],
                ..permissive(&server)
            };
            let node = Node::start(Path::new(ZDS), &[probed]);
            let ztunnel = Passing::start(Path::new(ZDS));
            node.state("server", Some("Captured")).await;
            for (pod, address) in families(&server) {
                assert_eq!(kubelet.probe(at(pod, PROBED)), address.to_string());
                assert!(ztunnel.take_log().is_empty(), "the kubelet's probe passes it by");
                Call::to(at(pod, PROBED)).unwrap().echo().unwrap();
                client.call(at(pod, PROBED)).unwrap().echo().unwrap();
                assert_eq!(ztunnel.take_log().len(), 2);
            }
            node.counted("server", "old_inbound", 0).await;
            let addresses: BTreeSet<String> = sh("nft list table inet weft_host")
                .split([' ', ','])
                .filter(|word| word.starts_with("10.9.0."))
                .map(str::to_owned)
                .collect();
            assert_eq!(addresses, BTreeSet::from(["10.9.0.2".to_owned()]));
        },
    );
}
