//! The command line of `ztunnel`.

use std::{path::PathBuf, time::Duration};

use act::{
    admin::AdminOptions,
    authority::CaOptions,
    config::SourceOptions,
    telemetry::{FlowOptions, LogOptions},
};
use clap::Parser;

use super::BoundOptions;

/// The L4 proxy of one node: carries the connections of its captured pods by mutual TLS (HBONE), and judges
/// those that arrive.
///
/// It is given pods by weft-cni over a Unix socket (--zds), learns what should be from a directory of Kubernetes
/// YAML (--config), and has the identities of its pods signed by the CA (--ca). It needs CAP_SYS_ADMIN to enter
/// network namespaces and CAP_NET_ADMIN to mark sockets and to keep source addresses.
#[derive(Debug, Clone, Parser)]
#[command(name = "ztunnel", version)]
pub struct Options {
    /// Name of this node, as Pods write it in spec.nodeName
    #[arg(long, env = "WEFT_NODE", value_name = "NAME")]
    pub node: String,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// Unix socket on which weft-cni gives us pods
    #[arg(
        long,
        env = "WEFT_ZDS",
        value_name = "PATH",
        default_value = "/var/run/weft/zds.sock"
    )]
    pub zds: PathBuf,
    /// Threads that carry traffic: 1 to 64; by default a quarter of the cores, at least 2, at most 8
    #[arg(long, env = "WEFT_WORKERS", value_name = "COUNT", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub workers: Option<u8>,
    /// How long the listeners of a released pod serve on, for peers that have not noticed
    #[arg(long, env = "WEFT_DRAIN", value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// Directory in which the ztunnels of this node meet, to hand over the listeners of their pods; by default beside
    /// the socket of weft-cni, with the ending .ztunnels
    #[arg(long, env = "WEFT_HANDOVER", value_name = "PATH")]
    pub handover: Option<PathBuf>,
    /// How long it may go on after SIGTERM with connections that are open, once another ztunnel has taken over; the last
    /// two seconds are for telling what is cut
    #[arg(long, env = "WEFT_GRACE", value_name = "DURATION", default_value = "15m", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// How long it serves on after SIGTERM, new connections too, while no other ztunnel comes to take over; a DaemonSet
    /// replaces a pod that was deleted only when it is gone
    #[arg(long, env = "WEFT_LINGER", value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    pub linger: Duration,
    /// Bounds and timers of connections.
    #[command(flatten)]
    pub bounds: BoundOptions,
    /// For measuring only: a tunnel, and so a whole handshake, for every connection
    #[arg(long, hide = true)]
    pub tunnel_per_connection: bool,
    /// TCP congestion control of connections between nodes, such as cubic; by default the host's. Hops inside a node
    /// always use cubic
    #[arg(long, env = "WEFT_CONGESTION", value_name = "NAME")]
    pub congestion: Option<String>,
    /// The CA.
    #[command(flatten)]
    pub ca: CaOptions,
    /// Logs.
    #[command(flatten)]
    pub log: LogOptions,
    /// What is told of connections.
    #[command(flatten)]
    pub flows: FlowOptions,
    /// Admin endpoints.
    #[command(flatten)]
    pub admin: AdminOptions,
}

impl Options {
    /// Where the ztunnels of this node meet.
    pub fn meeting(&self) -> PathBuf {
        self.handover
            .clone()
            .unwrap_or_else(|| self.zds.with_extension("ztunnels"))
    }

    /// How many workers: as asked, else a quarter of the cores, at least 2 and at most 8 (design 11).
    pub fn worker_count(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        self.workers.map_or_else(|| (cores / 4).clamp(2, 8), usize::from)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_its_defaults_are_the_designs() {
        Options::command().debug_assert();
        let options = Options::parse_from(["ztunnel", "--node", "n1"]);
        assert_eq!((options.bounds.hold.as_secs(), options.drain.as_secs()), (5, 60));
        assert_eq!(options.grace.as_secs(), 15 * 60);
        assert_eq!(options.meeting(), PathBuf::from("/var/run/weft/zds.ztunnels"));
        assert!((2..=8).contains(&options.worker_count()));
        assert_eq!(
            Options::parse_from(["ztunnel", "--node", "n", "--workers", "3"]).worker_count(),
            3
        );
        for wrong in [["--workers", "0"], ["--hold", "soon"], ["--pod-connections", "0"]] {
            let line = ["ztunnel", "--node", "n"].into_iter().chain(wrong);
            Options::try_parse_from(line).unwrap_err();
        }
    }
}
