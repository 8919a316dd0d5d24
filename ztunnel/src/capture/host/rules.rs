//! What stands in the host's nftables: the table `inet weft_host`, as the script that `nft -f` applies in one
//! transaction. Pure.
//!
//! ```text
//! a new connection to a captured pod   of the kubelet's cgroup    -> source port of the kept range
//!                                      of any other local socket  -> source port below it
//!                                      to be masqueraded          -> as such, source port below it
//! ```
//!
//! Source addresses stay what they are: whatever lets a node reach its pods lets these pass.

use std::{collections::BTreeSet, net::IpAddr};

use super::MasqueradeMark;
use crate::capture::{SourcePorts, rules::FIRST, script::Script};

/// The name of our table on the host, of the family `inet`.
pub(super) const TABLE: &str = "weft_host";
/// The chain that changes source ports.
pub(super) const SOURCES: &str = "sources";
/// Connection mark bit of the kubelet's connections. Other bits are other people's, and stay.
const PROBE: u32 = 0x1000;

/// Whose connections get a source port of the kept range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prober {
    /// Sockets made in the kubelet's cgroup, as nftables names it: below its mount at `/sys/fs/cgroup`.
    Cgroup {
        /// Its path, such as `system.slice/kubelet.service`, or `unified/kubelet`.
        path: String,
        /// Its depth in the hierarchy.
        level: usize,
    },
    /// Every socket of the host: where its kubelet cannot be told from its other processes.
    Anybody,
}

/// What the host's rules depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostRules {
    pub(super) prober: Prober,
    /// Addresses of captured pods of this node.
    pub(super) pods: BTreeSet<IpAddr>,
    pub(super) sources: SourcePorts,
    pub(super) masquerade: MasqueradeMark,
}

/// The sets of pods' addresses.
pub(super) const SETS: [&str; 2] = ["pods4", "pods6"];
const FAMILIES: [(&str, &str, &str); 2] = [("ip", "ipv4_addr", SETS[0]), ("ip6", "ipv6_addr", SETS[1])];

/// The script that brings the host's rules up to date.
pub(super) fn host(rules: &HostRules) -> String {
    let mut script = Script::default();
    script.line(format_args!("add table inet {TABLE}"));
    script.line(format_args!("flush table inet {TABLE}"));
    script.open(format_args!("table inet {TABLE}"));
    for (_, kind, set) in FAMILIES {
        script.line(format_args!("set {set} {{ type {kind}; }}"));
    }
    probers(&mut script, rules);
    sources(&mut script, rules);
    forgeries(&mut script, rules);
    script.close();
    for (family, _, set) in FAMILIES {
        let of_family = rules.pods.iter().filter(|pod| pod.is_ipv4() == (family == "ip"));
        let pods: Vec<String> = of_family.map(IpAddr::to_string).collect();
        script.line(format_args!("flush set inet {TABLE} {set}"));
        if !pods.is_empty() {
            script.line(format_args!("add element inet {TABLE} {set} {{ {} }}", pods.join(", ")));
        }
    }
    script.text
}

/// The script that removes the host's rules. Applies whether they are there or not.
pub(super) fn removed() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// Marks connections of the kubelet's sockets. A connection that connection tracking still remembers as one is
/// taken up again by nobody else's socket.
fn probers(script: &mut Script, rules: &HostRules) {
    script.chain("probers", "type filter hook output priority mangle");
    for (family, _, set) in FAMILIES {
        let to_pod = format!("{family} daddr @{set} {FIRST}");
        match &rules.prober {
            Prober::Cgroup { path, level } => {
                script.line(format_args!(
                    "{to_pod} ct mark & {PROBE:#x} == {PROBE:#x} socket cgroupv2 level {level} != \"{path}\" drop"
                ));
                script.line(format_args!(
                    "{to_pod} ct state new socket cgroupv2 level {level} \"{path}\" ct mark set ct mark | {PROBE:#x}"
                ));
            }
            Prober::Anybody => script.line(format_args!("{to_pod} ct state new ct mark set ct mark | {PROBE:#x}")),
        }
    }
    script.close();
}

/// Before everybody else's source NAT, because a connection is translated once. What the Service proxy would
/// masquerade still is; what comes from loopback must be.
fn sources(script: &mut Script, rules: &HostRules) {
    let (kept, others, mark) = (rules.sources, rules.sources.others(), rules.masquerade.0);
    script.chain(SOURCES, "type nat hook postrouting priority srcnat - 1");
    for (family, _, set) in FAMILIES {
        let to_pod = format!("{family} daddr @{set} meta l4proto tcp");
        script.line(format_args!(
            "{to_pod} ct mark & {PROBE:#x} == {PROBE:#x} snat to :{kept}"
        ));
        script.line(format_args!(
            "{to_pod} meta mark & {mark:#x} == {mark:#x} masquerade to :{others}"
        ));
        if family == "ip" {
            script.line(format_args!("{to_pod} ip saddr 127.0.0.0/8 masquerade to :{others}"));
        }
        script.line(format_args!("{to_pod} fib saddr type local snat to :{others}"));
    }
    script.close();
}

/// After everybody's source NAT: what came to look like a probe all the same (somebody else's masquerading, a
/// pod that claims its node's address across a bridge).
fn forgeries(script: &mut Script, rules: &HostRules) {
    script.line(format_args!("counter forged {{ }}"));
    script.chain("forgeries", "type filter hook postrouting priority srcnat + 10");
    for (family, _, set) in FAMILIES {
        script.line(format_args!(
            "{family} daddr @{set} tcp sport {} {FIRST} ct mark & {PROBE:#x} == 0 fib saddr type local \
             counter name forged drop",
            rules.sources
        ));
    }
    script.close();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::script::golden;

    #[test]
    fn the_hosts_scripts_are_these() {
        let rules = HostRules {
            prober: Prober::Cgroup {
                path: "system.slice/kubelet.service".to_owned(),
                level: 2,
            },
            pods: BTreeSet::from(["10.9.0.2".parse().unwrap(), "fd09::2".parse().unwrap()]),
            sources: SourcePorts::default(),
            masquerade: MasqueradeMark::default(),
        };
        golden("host_cgroup", &host(&rules));
        let anybody = HostRules {
            prober: Prober::Anybody,
            pods: BTreeSet::from(["10.9.0.2".parse().unwrap()]),
            ..rules
        };
        golden("host_address", &host(&anybody));
        golden("host_removed", &removed());
    }
}
