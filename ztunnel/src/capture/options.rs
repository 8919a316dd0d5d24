//! The command line of `weft-cni`.

use std::{collections::BTreeSet, path::PathBuf};

use act::{admin::AdminOptions, config::SourceOptions, telemetry::LogOptions};
use clap::{Parser, Subcommand};

use super::{
    Guard, Ports, ProbeOptions,
    rules::{self, Rules},
};
use crate::cni::{CniOptions, RemoveOptions};

/// Captures the pods of one node: leads their connections to the node's ztunnel.
#[derive(Debug, Clone, Parser)]
#[command(name = "weft-cni", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What `weft-cni` can do.
#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Captures and releases the pods of this node, for as long as it runs
    ///
    /// Every pod that should be in the mesh is given to the ztunnel (--zds); once the ztunnel serves it, nftables
    /// rules in the pod's network namespace lead its connections there. A pod that leaves the mesh gets its rules
    /// removed when the last connection that needs them has ended. Rules stay when this program ends, and are taken
    /// up again when it starts. It needs CAP_SYS_ADMIN to enter network namespaces, CAP_NET_ADMIN to change them,
    /// and the programs nft and ip.
    Agent(Box<AgentOptions>),
    /// Takes everything of ours off this node: the CNI plugin and its entry, annotations, the rules of every pod
    ///
    /// No agent may run here any more. New pods start without waiting for us at once; connections of captured pods go
    /// on for --grace, then the rules that carry them are removed. It may be run again.
    Remove(Box<RemoveOptions>),
    /// Prints the nftables script for a pod, to read, or to apply by hand: ip netns exec POD nft -f -
    Rules(RulesOptions),
}

/// Flags of `weft-cni agent`.
#[derive(Debug, Clone, clap::Args)]
pub struct AgentOptions {
    /// Name of this node, as Pods write it in spec.nodeName
    #[arg(long, env = "WEFT_NODE", value_name = "NAME")]
    pub node: String,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// Unix socket to listen on, to which the ztunnel of this node connects
    #[arg(
        long,
        env = "WEFT_ZDS",
        value_name = "PATH",
        default_value = "/var/run/weft/zds.sock"
    )]
    pub zds: PathBuf,
    /// Directory with the network namespaces of this node's pods, each a file named by the pod's UID; with it the
    /// CNI plugin is not installed. Without it they are found by the pods' processes, and come from the CNI plugin
    #[arg(long, env = "WEFT_NETNS_DIR", value_name = "DIR")]
    pub netns_dir: Option<PathBuf>,
    /// The host's /proc, in which the processes of every pod are seen (hostPID)
    #[arg(long, env = "WEFT_PROC", value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
    /// The CNI plugin.
    #[command(flatten)]
    pub cni: CniOptions,
    /// Probes.
    #[command(flatten)]
    pub probes: ProbeOptions,
    /// Logs.
    #[command(flatten)]
    pub log: LogOptions,
    /// Admin endpoints.
    #[command(flatten)]
    pub admin: AdminOptions,
}

/// Flags of `weft-cni rules`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct RulesOptions {
    /// The rules of a released pod, whose redirected connections go on
    #[arg(long, conflicts_with_all = ["strict", "guard", "guard_datagrams", "listening"])]
    pub released: bool,
    /// As under STRICT: reset every older inbound connection, drop new inbound UDP and SCTP
    #[arg(long, conflicts_with_all = ["guard", "guard_datagrams"])]
    pub strict: bool,
    /// Ports towards which older inbound connections are reset
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub guard: Vec<u16>,
    /// Ports towards which new inbound UDP and SCTP are dropped
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub guard_datagrams: Vec<u16>,
    /// Ports of the ephemeral range on which the pod listens
    #[arg(long, value_name = "PORT", value_delimiter = ',')]
    pub listening: Vec<u16>,
}

impl RulesOptions {
    /// The script.
    pub fn script(&self) -> String {
        if self.released {
            return rules::released();
        }
        let guard = if self.strict {
            Guard {
                tcp: Ports::all(),
                datagrams: Ports::all(),
                outbound: false,
            }
        } else {
            Guard {
                tcp: Ports::only(self.guard.iter().copied()),
                datagrams: Ports::only(self.guard_datagrams.iter().copied()),
                outbound: false,
            }
        };
        rules::captured(&Rules {
            guard,
            listening: self.listening.iter().copied().collect::<BTreeSet<_>>(),
            ..Rules::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn rules(flags: &[&str]) -> String {
        let line = ["weft-cni", "rules"].iter().chain(flags);
        match Options::try_parse_from(line).unwrap().command {
            Command::Rules(options) => options.script(),
            Command::Agent(_) | Command::Remove(_) => panic!("another command"),
        }
    }

    #[test]
    fn the_command_line_is_sound() {
        Options::command().debug_assert();
        Options::try_parse_from(["weft-cni"]).unwrap_err();
        Options::try_parse_from(["weft-cni", "agent", "--node", "n1"]).unwrap();
        Options::try_parse_from(["weft-cni", "remove", "--node", "n1", "--stay", "--grace", "1s"]).unwrap();
    }

    #[test]
    fn rules_are_printed_as_the_agent_applies_them() {
        assert_eq!(rules(&[]), rules::captured(&Rules::default()));
        assert_eq!(rules(&["--released"]), rules::released());
        assert!(rules(&["--strict"]).contains("counter name old_reset"));
        assert!(rules(&["--guard", "80,443"]).contains("tcp dport { 80, 443 }"));
        Options::try_parse_from(["weft-cni", "rules", "--strict", "--released"]).unwrap_err();
    }
}
