//! What lets a node's kubelet reach a captured pod past the ztunnel (design 18): the node's own addresses, the
//! source ports that the host keeps for its kubelet ([`host`](super::host)), the pod's probed ports. Pure.
//!
//! Every address of the node counts, not only the one that routing picks towards the pod now: only sockets of
//! the host itself can finish a handshake from any of them, the source ports tell them apart already, and which
//! one the kernel picks changes behind our back (duplicate address detection, a tunnel's address added later).

use std::{collections::BTreeSet, fmt, net::IpAddr, str::FromStr};

/// Which connections to a captured pod are its kubelet's. Empty sets: none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Probes {
    /// The node's own addresses.
    pub from: BTreeSet<IpAddr>,
    /// Source ports that the host gives to its kubelet alone.
    pub sources: SourcePorts,
    /// The pod's ports that its kubelet probes.
    pub ports: BTreeSet<u16>,
}

/// Source ports that a host keeps for its kubelet's connections to captured pods; every other connection is
/// moved below them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts {
    first: u16,
    last: u16,
}

/// Fewest source ports: a probe's may be remembered for minutes by connection tracking.
const FEWEST: u16 = 100;
/// The ports below must be enough for everybody else.
const LOWEST: u16 = 16384;

impl SourcePorts {
    /// The first port.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The ports for everybody else. Privileged ones stay: a client may need one, and none is changed without need.
    pub fn others(self) -> Self {
        Self {
            first: 1,
            last: self.first - 1,
        }
    }
}

impl Default for SourcePorts {
    /// Above the ports that Linux gives out by itself.
    fn default() -> Self {
        Self {
            first: 61000,
            last: 61999,
        }
    }
}

impl fmt::Display for SourcePorts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.first, self.last)
    }
}

impl FromStr for SourcePorts {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let ports = written
            .split_once('-')
            .and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        match ports {
            Some((first, last)) if first >= LOWEST && last >= first && last - first >= FEWEST - 1 => {
                Ok(Self { first, last })
            }
            _ => Err(format!(
                "write FIRST-LAST, such as 61000-61999: at least {FEWEST} ports from {LOWEST} on"
            )),
        }
    }
}

impl Probes {
    /// nftables conditions, one for each family; none when nothing is let through.
    pub(super) fn matches(&self) -> impl Iterator<Item = String> {
        let of = |family: &str, wanted: fn(&IpAddr) -> bool| {
            let from: Vec<String> = self
                .from
                .iter()
                .filter(|it| wanted(it))
                .map(IpAddr::to_string)
                .collect();
            let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
            (!from.is_empty() && !ports.is_empty()).then(|| {
                format!(
                    "{family} saddr {{ {} }} tcp sport {} tcp dport {{ {} }}",
                    from.join(", "),
                    self.sources,
                    ports.join(", ")
                )
            })
        };
        [of("ip", IpAddr::is_ipv4), of("ip6", IpAddr::is_ipv6)]
            .into_iter()
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_probed_or_no_address_lets_nothing_through() {
        let from = BTreeSet::from(["10.0.0.1".parse().unwrap()]);
        let ports = BTreeSet::from([80]);
        let none = Probes::default();
        for probes in [
            none.clone(),
            Probes {
                from: from.clone(),
                ..none.clone()
            },
            Probes {
                ports: ports.clone(),
                ..none.clone()
            },
        ] {
            assert_eq!(probes.matches().count(), 0);
        }
        let both = Probes { from, ports, ..none };
        let matches: Vec<String> = both.matches().collect();
        assert_eq!(
            matches,
            ["ip saddr { 10.0.0.1 } tcp sport 61000-61999 tcp dport { 80 }"]
        );
    }

    #[test]
    fn source_ports_are_enough_for_the_kubelet_and_for_the_others() {
        let ports: SourcePorts = "50000-50999".parse().unwrap();
        assert_eq!(
            (ports.to_string(), ports.others().to_string()),
            ("50000-50999".into(), "1-49999".into())
        );
        for wrong in [
            "",
            "61000",
            "61999-61000",
            "61000-61050",
            "1024-2048",
            "61000-70000",
            "a-b",
        ] {
            wrong.parse::<SourcePorts>().unwrap_err();
        }
    }
}
