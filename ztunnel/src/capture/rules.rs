//! What stands in a captured pod's nftables: the table `inet weft`, as the script that `nft -f` applies in one
//! transaction (design 7 and 19, `wire.md` §2.5). Pure.
//!
//! ```text
//! from the wire   SYN of the node's kubelet  passes, to the ports it probes
//!                 SYN, any port but 15008    -> 15006, the ztunnel's plaintext listener
//!                 15008                      -> 15008, its HBONE listener
//! from the pod    SYN, excluded              passes, counted; never towards the mesh's own ranges
//!                 SYN, not to itself         -> 15001, its outbound listener
//! from the ztunnel (mark 0x539)              passes; over lo, in the client's name: the answers stay on lo
//! DNS from the pod, over UDP                 -> 15053, where the mesh has names to answer, and only while the ztunnel
//!                                            says that it lives; else where it was sent to
//! ```
//!
//! A connection is redirected by its first packet alone. One whose first packet the rules did not see is *old*:
//! it passes and is counted, or is reset where [`Guard`] says so.

use std::{collections::BTreeSet, ops::RangeInclusive};

use decide::model::{
    Exclusions, SO_MARK,
    ports::{DNS, HBONE, INBOUND_PLAINTEXT, OUTBOUND},
};

use ipnet::IpNet;

use super::{
    ports::{Guard, Ports},
    probes::Probes,
    script::Script,
};

/// The name of our table, of the family `inet`.
pub const TABLE: &str = "weft";
/// Connection mark of what the ztunnel sends over lo in a client's name; packet mark of the answers, by which
/// policy routing keeps them on lo.
pub const SOURCE_KEPT: u32 = 0x111;
/// Connection mark of what the ztunnel dials over the wire.
const DIALLED: u32 = 0x112;
/// Connection mark of an old connection that has been counted.
const COUNTED: u32 = 0x113;
/// Connection mark of an old connection that has been counted as reset.
const CUT: u32 = 0x114;

/// Connection mark of what the node's kubelet asks of the pod.
const PROBE: u32 = 0x115;

/// How long a ztunnel that says nothing counts as living, in seconds: it says so every second.
const LIVES: u32 = 3;
/// Connection mark of what the pod's annotations exclude.
const EXCLUDED: u32 = 0x116;

/// Connection tracking zone of what the ztunnel sends over lo in a client's name.
const OWN_ZONE: u16 = 1;

/// Names of the counters in our table, and what each counts.
pub const COUNTERS: [(&str, &str); 7] = [
    ("old_inbound", "inbound TCP connections older than the rules"),
    ("old_outbound", "outbound TCP connections older than the rules"),
    ("old_reset", "TCP connections older than the rules that were reset"),
    (
        "excluded_outbound",
        "outbound TCP connections that annotations exclude from the mesh",
    ),
    (
        "datagrams_inbound",
        "inbound UDP and SCTP flows that passed outside the mesh",
    ),
    (
        "datagrams_outbound",
        "outbound UDP and SCTP flows that passed outside the mesh",
    ),
    (
        "datagrams_dropped",
        "inbound UDP and SCTP packets that STRICT or a policy dropped",
    ),
];

/// What the rules of one pod depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Where nothing unproven may come in.
    pub guard: Guard,
    /// The ports the pod's clients take by themselves (`net.ipv4.ip_local_port_range`).
    pub ephemeral: RangeInclusive<u16>,
    /// Ports inside that range on which the pod listens: old connections to them are inbound.
    pub listening: BTreeSet<u16>,
    /// What its node's kubelet may reach past the ztunnel.
    pub probes: Probes,
    /// Whether the mesh answers names of this pod: then its DNS queries are looked at.
    pub names: bool,
    /// What the pod's connections bypass the ztunnel for.
    pub exclusions: Exclusions,
}

/// How far a pod is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Everything is redirected.
    Captured,
    /// Nothing new is; what is redirected already goes on.
    Released,
}

/// The script that captures a pod, or brings its rules up to date. Counters keep their values, connections
/// their translation.
pub fn captured(rules: &Rules) -> String {
    script(rules, Stage::Captured)
}

/// The script that redirects nothing more. The nat chains stay, and rules that use `ct`: with both, connections
/// keep their translation, without either the kernel forgets them.
pub fn released() -> String {
    script(&Rules::default(), Stage::Released)
}

/// The script that removes everything. Applies only where the table is.
pub fn removed() -> String {
    format!("delete table inet {TABLE}\n")
}

impl Default for Rules {
    /// Nothing guarded, and the kernel's own port range.
    fn default() -> Self {
        Self {
            guard: Guard::default(),
            ephemeral: 32768..=60999,
            listening: BTreeSet::new(),
            probes: Probes::default(),
            names: false,
            exclusions: Exclusions::default(),
        }
    }
}

fn script(rules: &Rules, stage: Stage) -> String {
    let mut script = Script::default();
    script.line(format_args!("add table inet {TABLE}"));
    script.line(format_args!("flush table inet {TABLE}"));
    script.open(format_args!("table inet {TABLE}"));
    for (counter, _) in COUNTERS {
        script.line(format_args!("counter {counter} {{ }}"));
    }
    script.line(format_args!(
        "set living {{ type inet_proto; size 4; flags dynamic,timeout; timeout {LIVES}s; }}"
    ));
    let names = rules.names && stage == Stage::Captured;
    marks(&mut script, names);
    redirects(&mut script, rules, stage);
    let kept = Rules::default();
    let filtered = match stage {
        Stage::Captured => rules,
        Stage::Released => &kept,
    };
    inbound(&mut script, filtered, stage);
    outbound(&mut script, filtered, stage);
    script.close();
    names_taken(&mut script, names);
    if names {
        // who acknowledged the pod lives
        script.line(format_args!("add element inet {TABLE} living {{ udp }}"));
    }
    script.text
}

/// Marks: ours are trusted only where they were set in this pod, and follow a connection both ways.
///
/// Zone: what the ztunnel sends over lo in a client's name may have the very addresses and ports of a connection
/// of that client to this pod. Tracked in a zone of its own (the answers are not: the app's packets tell nothing
/// of it), the two are never taken for each other.
///
/// Most packets are of connections that are marked already: they are let by first, and every chain of a hook costs
/// them more than a rule in one. Whether a packet goes over lo is told by that interface's number, which is always 1: its
/// name would be copied and compared for each.
fn marks(script: &mut Script, names: bool) {
    script.chain("foreign_marks", "type filter hook prerouting priority raw");
    script.line(format_args!(
        "iif != lo meta mark != 0 meta mark {{ {SOURCE_KEPT:#x}, {SO_MARK:#x} }} meta mark set 0"
    ));
    script.close();
    script.chain("own_zone", "type filter hook output priority raw");
    script.line(format_args!(
        "oif lo meta mark {SO_MARK:#x} tcp sport != {{ {OUTBOUND}, {INBOUND_PLAINTEXT}, {HBONE} }} \
         ct original zone set {OWN_ZONE}"
    ));
    script.close();
    script.chain("own_marks", "type route hook output priority mangle");
    script.line(format_args!(
        "ct mark {SOURCE_KEPT:#x} ct direction reply meta mark set {SOURCE_KEPT:#x}"
    ));
    if names {
        names_marked(script);
    }
    script.line(format_args!("ct state != new accept"));
    script.line(format_args!(
        "meta mark {SO_MARK:#x} oif lo ct mark set {SOURCE_KEPT:#x} accept"
    ));
    script.line(format_args!("meta mark {SO_MARK:#x} ct mark set {DIALLED:#x}"));
    script.close();
}

/// DNS queries are marked, go over lo by the route of that mark, and are given to the ztunnel there, which sees
/// whom they were sent to. A ztunnel that is away is forgotten within seconds, and queries pass as if no rule were
/// there: a marked packet of its own over lo, now and then, has it remembered.
fn names_marked(script: &mut Script) {
    script.line(format_args!(
        "oif lo meta mark {SO_MARK:#x} udp dport {DNS} update @living {{ meta l4proto timeout {LIVES}s }}"
    ));
    script.line(format_args!(
        "oif != lo meta mark != {SO_MARK:#x} udp dport 53 meta l4proto @living meta mark set {SOURCE_KEPT:#x}"
    ));
}

/// The chain that gives them to the ztunnel, which stands only where there are names.
fn names_taken(script: &mut Script, any: bool) {
    let hook = "type filter hook prerouting priority mangle";
    script.line(format_args!("add chain inet {TABLE} names_taken {{ {hook}; }}"));
    if !any {
        script.line(format_args!("delete chain inet {TABLE} names_taken"));
        return;
    }
    for family in ["ipv4", "ipv6"] {
        let ip = family.replace('v', "").replace("ip4", "ip");
        script.line(format_args!(
            "add rule inet {TABLE} names_taken iif lo meta mark {SOURCE_KEPT:#x} meta nfproto {family} \
             udp dport 53 tproxy {ip} to :{DNS} accept"
        ));
    }
}

/// A connection's first packet.
pub(super) const FIRST: &str = "tcp flags & (fin | syn | rst | ack) == syn";

/// Only a connection's first packet is redirected: later ones of an old connection must find their socket. What
/// the kubelet asks is let through, so that it is answered with ztunnel and agent dead.
fn redirects(script: &mut Script, rules: &Rules, stage: Stage) {
    script.chain("redirect_inbound", "type nat hook prerouting priority -100");
    if stage == Stage::Captured {
        script.line(format_args!("iif lo return"));
        script.line(format_args!(
            "tcp dport {{ {OUTBOUND}, {INBOUND_PLAINTEXT}, {HBONE} }} return"
        ));
        for probe in rules.probes.matches() {
            script.line(format_args!("{probe} {FIRST} ct mark set {PROBE:#x} return"));
        }
        script.line(format_args!(
            "fib daddr type local {FIRST} redirect to :{INBOUND_PLAINTEXT}"
        ));
    }
    script.close();
    script.chain("redirect_outbound", "type nat hook output priority -100");
    if stage == Stage::Captured {
        script.line(format_args!("oif lo return"));
        script.line(format_args!("meta mark {SO_MARK:#x} return"));
        excluded(script, &rules.exclusions);
        script.line(format_args!("{FIRST} redirect to :{OUTBOUND}"));
    }
    script.close();
}

/// What is excluded passes, as if nothing of the mesh were there. What is addressed inside the mesh never is: its pods
/// would be talked to in plaintext.
fn excluded(script: &mut Script, exclusions: &Exclusions) {
    if exclusions.is_empty() {
        return;
    }
    for (field, kept) in by_family(&exclusions.kept) {
        script.line(format_args!("{field} {kept} {FIRST} redirect to :{OUTBOUND}"));
    }
    let passes = format!("{FIRST} ct mark set {EXCLUDED:#x} counter name excluded_outbound return");
    for (field, networks) in by_family(&exclusions.networks) {
        script.line(format_args!("{field} {networks} {passes}"));
    }
    if !exclusions.ports.is_empty() {
        let ports = Ports::only(exclusions.ports.iter().copied());
        script.line(format_args!("tcp dport {ports} {passes}"));
    }
}

/// The networks of each family there are any of, as a set, and the field it is matched with.
fn by_family(networks: &[IpNet]) -> impl Iterator<Item = (&'static str, String)> {
    let set = |v6: bool| {
        let of_family = networks.iter().filter(|network| matches!(network, IpNet::V6(_)) == v6);
        let shown: Vec<String> = of_family.map(ToString::to_string).collect();
        (!shown.is_empty()).then(|| format!("{{ {} }}", shown.join(", ")))
    };
    let both = [("ip daddr", set(false)), ("ip6 daddr", set(true))];
    both.into_iter().filter_map(|(field, set)| Some((field, set?)))
}

/// What reaches the pod's sockets. 15001 and 15006 are reached by redirection alone: who came directly could
/// name a destination of its own choice.
fn inbound(script: &mut Script, rules: &Rules, stage: Stage) {
    let ours = format!("tcp dport {{ {OUTBOUND}, {INBOUND_PLAINTEXT} }}");
    script.chain("inbound", "type filter hook input priority filter");
    script.line(format_args!("iif lo ct state established accept"));
    script.line(format_args!("tcp dport {HBONE} accept"));
    script.line(format_args!("{ours} ct status & dnat == dnat accept"));
    script.line(format_args!("{ours} reject with tcp reset"));
    if stage == Stage::Captured {
        script.line(format_args!("iif lo accept"));
        script.line(format_args!("meta l4proto tcp goto inbound_tcp"));
        script.line(format_args!("meta l4proto {DATAGRAMS} goto inbound_datagrams"));
    }
    script.close();
    script.chain("inbound_tcp", "");
    if stage == Stage::Captured {
        script.line(format_args!(
            "ct mark {{ {DIALLED:#x}, {PROBE:#x}, {EXCLUDED:#x} }} accept"
        ));
        script.line(format_args!("tcp flags & rst == rst accept"));
        script.line(format_args!(
            "tcp dport != {} goto old_inbound",
            range(&rules.ephemeral)
        ));
        if let Some(listening) = listening(rules) {
            script.line(format_args!("tcp dport {listening} goto old_inbound"));
        }
        count_old(script, "old_outbound");
    }
    script.close();
    script.chain("old_inbound", "");
    if stage == Stage::Captured {
        count_old(script, "old_inbound");
        reset_old(script, guarded("tcp dport", &rules.guard.tcp));
    }
    script.close();
    script.chain("inbound_datagrams", "");
    if stage == Stage::Captured {
        if let Some(guarded) = guarded("th dport", &rules.guard.datagrams) {
            script.line(format_args!("ct state established,related accept"));
            script.line(format_args!("{guarded}counter name datagrams_dropped drop"));
        }
        count_flow(script, "datagrams_inbound");
    }
    script.close();
}

/// What leaves the pod. A client's old connection is reset where nothing of it may leave: by its next packet, also the
/// mere acknowledgement of what it reads. What a server sends on an old connection passes and is counted: the client's next
/// acknowledgement is answered with a reset in [`inbound`], and the reset the client then sends ends the server.
/// To reset the server first would leave a client that only reads waiting for ever.
fn outbound(script: &mut Script, rules: &Rules, stage: Stage) {
    script.chain("outbound", "type filter hook output priority filter");
    if stage == Stage::Captured {
        script.line(format_args!("oif lo accept"));
        script.line(format_args!("meta mark {{ {SOURCE_KEPT:#x}, {SO_MARK:#x} }} accept"));
        script.line(format_args!("ct status & dnat == dnat accept"));
        script.line(format_args!("ct mark {{ {PROBE:#x}, {EXCLUDED:#x} }} accept"));
        script.line(format_args!("meta l4proto {DATAGRAMS} goto outbound_datagrams"));
        script.line(format_args!("tcp sport {HBONE} accept"));
        script.line(format_args!("tcp flags & rst == rst accept"));
        script.line(format_args!(
            "tcp sport != {} goto old_answers",
            range(&rules.ephemeral)
        ));
        if let Some(listening) = listening(rules) {
            script.line(format_args!("tcp sport {listening} goto old_answers"));
        }
        if rules.guard.outbound {
            script.line(format_args!(
                "meta l4proto tcp ct mark != {CUT:#x} ct mark set {CUT:#x} counter name old_reset"
            ));
            script.line(format_args!("meta l4proto tcp reject with tcp reset"));
        }
    }
    script.close();
    script.chain("old_answers", "");
    if stage == Stage::Captured {
        count_old(script, "old_inbound");
    }
    script.close();
    script.chain("outbound_datagrams", "");
    if stage == Stage::Captured {
        count_flow(script, "datagrams_outbound");
    }
    script.close();
}

const DATAGRAMS: &str = "{ udp, udplite, sctp, dccp }";

fn count_old(script: &mut Script, counter: &str) {
    script.line(format_args!(
        "ct mark != {{ {COUNTED:#x}, {CUT:#x} }} ct mark set {COUNTED:#x} counter name {counter}"
    ));
}

fn reset_old(script: &mut Script, guarded: Option<String>) {
    if let Some(guarded) = guarded {
        script.line(format_args!(
            "{guarded}ct mark != {CUT:#x} ct mark set {CUT:#x} counter name old_reset"
        ));
        script.line(format_args!("{guarded}reject with tcp reset"));
    }
}

/// A flow's first packet may be followed by more before an answer comes: the mark has it counted once.
fn count_flow(script: &mut Script, counter: &str) {
    script.line(format_args!(
        "ct state new ct mark != {COUNTED:#x} ct mark set {COUNTED:#x} counter name {counter}"
    ));
}

fn range(ports: &RangeInclusive<u16>) -> String {
    format!("{}-{}", ports.start(), ports.end())
}

/// Ports within the ephemeral range that are served all the same, if any.
fn listening(rules: &Rules) -> Option<Ports> {
    let served = rules.listening.iter().filter(|port| rules.ephemeral.contains(port));
    let served = Ports::only(served.copied());
    (!served.is_none()).then_some(served)
}

/// The condition that a packet's port is guarded, with a space after it; empty for every port, `None` for none.
fn guarded(field: &str, guard: &Ports) -> Option<String> {
    if guard.is_none() {
        return None;
    }
    Some(match guard {
        Ports::AllBut(none) if none.is_empty() => String::new(),
        some => format!("{field} {some} "),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{probes::SourcePorts, script::golden};

    #[test]
    fn the_scripts_are_these() {
        golden("permissive", &captured(&Rules::default()));
        let rules = Rules {
            guard: Guard {
                tcp: Ports::all_but([9000]),
                datagrams: Ports::only([53, 443]),
                outbound: false,
            },
            ephemeral: 40000..=50000,
            listening: BTreeSet::from([80, 41000, 42000]),
            probes: Probes::default(),
            names: false,
            exclusions: Exclusions::default(),
        };
        golden("guarded", &captured(&rules));
        let guard = Guard {
            tcp: Ports::all(),
            outbound: true,
            ..Guard::default()
        };
        golden(
            "gap",
            &captured(&Rules {
                guard,
                ..Rules::default()
            }),
        );
        golden("released", &released());
        let probes = Probes {
            from: BTreeSet::from(["10.9.0.1".parse().unwrap(), "fd09::1".parse().unwrap()]),
            sources: SourcePorts::default(),
            ports: BTreeSet::from([8080, 9000]),
        };
        golden(
            "probed",
            &captured(&Rules {
                probes,
                ..Rules::default()
            }),
        );
        golden("removed", &removed());
        golden(
            "names",
            &captured(&Rules {
                names: true,
                ..Rules::default()
            }),
        );
        let networks = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
        let exclusions = Exclusions {
            networks: networks(&["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]),
            ports: vec![22, 5432],
            kept: networks(&["10.1.0.0/16", "10.2.0.0/16", "fd02::/64"]),
        };
        golden(
            "excluded",
            &captured(&Rules {
                exclusions,
                ..Rules::default()
            }),
        );
    }

    #[test]
    fn every_stage_declares_the_same_chains_and_counters() {
        let declared = |script: &str| -> Vec<String> {
            let declares = |line: &&str| line.contains("chain ") || line.contains(" hook ") || line.contains("{ }");
            script.lines().filter(declares).map(str::to_owned).collect()
        };
        assert_eq!(declared(&captured(&Rules::default())), declared(&released()));
    }

    #[test]
    fn a_released_pod_redirects_nothing_and_stays_tracked() {
        let script = released();
        assert!(!script.contains("redirect to"));
        assert!(script.contains("type nat hook prerouting") && script.contains("type nat hook output"));
        assert!(script.contains("ct mark"));
    }

    #[test]
    fn what_is_not_guarded_is_not_reset() {
        let script = captured(&Rules::default());
        assert!(!script.contains("name old_reset") && !script.contains(" drop\n"));
    }
}
