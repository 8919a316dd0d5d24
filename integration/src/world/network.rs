//! Nodes, the link between them, and the wiring of pods, by `ip` and `bridge`.
//!
//! ```text
//!  node-1 (namespace)                                     node-2 (namespace)
//!  pods 10.77.1.1 ── bridge ── veth ── pod 10.77.1.x      pods 10.77.2.1 ── …
//!  wire 10.76.0.1 ─────────────── veth ───────────────── wire 10.76.0.2
//! ```
//!
//! A pod has a /32 address and reaches everything, its neighbours too, by way of its node's address: ports of the
//! bridge are isolated, so that the node's own packet rules see every packet in both directions.

use std::path::Path;

use act::process::Failure;

use super::{command::run, objects::Pod};

/// A node of the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Its name, and that of its network namespace.
    pub name: &'static str,
    index: u8,
}

/// The nodes there are.
pub const NODES: [Node; 2] = [
    Node {
        name: "node-1",
        index: 1,
    },
    Node {
        name: "node-2",
        index: 2,
    },
];

/// Every address of the world lies in one of these.
const RANGES: [&str; 6] = [
    "10.76.0.0/16",
    "10.77.0.0/16",
    SERVICES,
    "fd76::/32",
    "fd77::/32",
    SERVICES_V6,
];
/// Cluster addresses of Services.
pub(super) const SERVICES: &str = "10.78.0.0/16";
/// As [`SERVICES`].
pub(super) const SERVICES_V6: &str = "fd78::/112";

impl Node {
    /// The node of this name.
    pub fn named(name: &str) -> Option<Self> {
        NODES.into_iter().find(|node| node.name == name)
    }

    /// Its address on the link.
    pub fn address(self) -> String {
        format!("10.76.0.{}", self.index)
    }

    /// The words that lead a program into it.
    pub fn enter(self) -> Vec<String> {
        vec!["nsenter".into(), format!("--net=/run/netns/{}", self.name), "--".into()]
    }
}

/// Makes the nodes and their link. Outside them, every address of the world is unreachable, so that a stray client
/// never sends to it anywhere else.
///
/// # Errors
/// What `ip` said.
pub(super) async fn lay() -> Result<(), Failure> {
    ip("link set lo up").await?;
    for range in RANGES {
        ip(&format!("route add unreachable {range}")).await?;
    }
    for node in NODES {
        lay_node(node).await?;
    }
    let [first, second] = NODES;
    ip(&format!(
        "-n {} link add wire type veth peer name wire netns {}",
        first.name, second.name
    ))
    .await?;
    for (node, other) in [(first, second), (second, first)] {
        let Node { name, index: me } = node;
        let peer = other.index;
        ip(&format!("-n {name} addr add 10.76.0.{me}/24 dev wire")).await?;
        ip(&format!("-n {name} addr add fd76::{me}/64 dev wire nodad")).await?;
        ip(&format!("-n {name} link set wire up")).await?;
        ip(&format!("-n {name} route add 10.77.{peer}.0/24 via 10.76.0.{peer}")).await?;
        ip(&format!("-n {name} route add fd77:0:0:{peer}::/64 via fd76::{peer}")).await?;
    }
    Ok(())
}

async fn lay_node(Node { name, index }: Node) -> Result<(), Failure> {
    ip(&format!("netns add {name}")).await?;
    for setting in [
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
    ] {
        run(&["nsenter", &format!("--net=/run/netns/{name}"), "sysctl", "-qw", setting]).await?;
    }
    bridge_packets_stay_bridged(name).await?;
    ip(&format!("-n {name} link set lo up")).await?;
    ip(&format!("-n {name} link add pods type bridge")).await?;
    ip(&format!("-n {name} addr add 10.77.{index}.1/32 dev pods")).await?;
    ip(&format!("-n {name} addr add fd77:0:0:{index}::1/128 dev pods nodad")).await?;
    ip(&format!("-n {name} link set pods up")).await?;
    ip(&format!(
        "-n {name} route add 10.77.{index}.0/24 dev pods src 10.77.{index}.1"
    ))
    .await?;
    ip(&format!("-n {name} route add fd77:0:0:{index}::/64 dev pods")).await?;
    // What the node itself sends to a Service needs a route before it is translated, as a default route would be.
    ip(&format!("-n {name} route add {SERVICES} dev pods src 10.77.{index}.1")).await?;
    ip(&format!("-n {name} route add {SERVICES_V6} dev pods")).await?;
    // There is no way out, and whoever looks for one hears so at once.
    ip(&format!("-n {name} route add unreachable default")).await?;
    ip(&format!("-n {name} -6 route add unreachable default")).await?;
    Ok(())
}

/// Where br_netfilter is loaded it would translate packets while they are bridged, and the isolated ports would
/// then drop them.
async fn bridge_packets_stay_bridged(name: &str) -> Result<(), Failure> {
    for family in ["iptables", "ip6tables"] {
        let key = format!("net.bridge.bridge-nf-call-{family}");
        if Path::new("/proc/sys").join(key.replace('.', "/")).exists() {
            let setting = format!("{key}=0");
            run(&[
                "nsenter",
                &format!("--net=/run/netns/{name}"),
                "sysctl",
                "-qw",
                &setting,
            ])
            .await?;
        }
    }
    Ok(())
}

/// The network namespace of a pod: its node's, or its own.
pub(super) fn namespace(pod: &Pod) -> String {
    if pod.host_network {
        pod.node.clone()
    } else {
        format!("pod-{}.{}", pod.namespace, pod.name)
    }
}

/// Makes a pod's namespace and plugs it into its node. `port` is unique among the node's pods over time.
///
/// # Errors
/// What `ip` said.
pub(super) async fn attach(pod: &Pod, node: Node, port: u32) -> Result<(), Failure> {
    let (inside, outside, at) = (namespace(pod), format!("pod{port}"), node.name);
    ip(&format!("netns add {inside}")).await?;
    ip(&format!("-n {inside} link set lo up")).await?;
    ip(&format!(
        "-n {at} link add {outside} type veth peer name eth0 netns {inside}"
    ))
    .await?;
    ip(&format!("-n {at} link set {outside} master pods up")).await?;
    let enter = format!("--net=/run/netns/{at}");
    run(&[
        "nsenter", &enter, "bridge", "link", "set", "dev", &outside, "isolated", "on",
    ])
    .await?;
    for address in &pod.addresses {
        let (length, nodad) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
        ip(&format!("-n {inside} addr add {address}/{length} dev eth0{nodad}")).await?;
    }
    ip(&format!("-n {inside} link set eth0 up")).await?;
    let Node { index, .. } = node;
    for address in &pod.addresses {
        let gateway = if address.is_ipv4() {
            format!("10.77.{index}.1")
        } else {
            format!("fd77:0:0:{index}::1")
        };
        ip(&format!("-n {inside} route add default via {gateway} dev eth0 onlink")).await?;
    }
    Ok(())
}

/// Unplugs a pod and removes its namespace.
///
/// # Errors
/// What `ip` said.
pub(super) async fn detach(pod: &Pod, port: u32) -> Result<(), Failure> {
    ip(&format!("-n {} link del pod{port}", pod.node)).await?;
    ip(&format!("netns del {}", namespace(pod))).await
}

async fn ip(words: &str) -> Result<(), Failure> {
    let words: Vec<_> = std::iter::once("ip").chain(words.split(' ')).collect();
    run(&words).await.map(drop)
}
