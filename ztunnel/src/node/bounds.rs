//! Flags of what one pod, one tunnel and one worker may have at most, and of how long anything may take.

use std::time::Duration;

use act::hbone::{Patience, PoolOptions, TunnelOptions};
use clap::{Args, value_parser};
use humantime::parse_duration;

use crate::traffic::TrafficOptions;

/// Bounds and timers of connections.
#[derive(Debug, Clone, Args)]
pub struct BoundOptions {
    /// How long a connection waits for what is not known yet, before it is refused
    #[arg(long, env = "WEFT_HOLD", value_name = "DURATION", default_value = "5s", value_parser = parse_duration)]
    pub hold: Duration,
    /// Connections of one pod that may wait so at one time, on each worker; further ones are refused
    #[arg(long, env = "WEFT_POD_HELD", value_name = "COUNT", default_value_t = 1024,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub pod_held: u32,
    /// Connections one pod may have open; further ones are refused
    #[arg(long, env = "WEFT_POD_CONNECTIONS", value_name = "COUNT", default_value_t = 32768,
          value_parser = value_parser!(u32).range(1..=1_048_576))]
    pub pod_connections: u32,
    /// HBONE connections to one pod whose peer has not proven who it is; one more is let in for the oldest, which is
    /// refused
    #[arg(long, env = "WEFT_POD_HANDSHAKES", value_name = "COUNT", default_value_t = 256,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub pod_handshakes: u32,
    /// Tunnels one pod may make, on each worker; connections that need one more are refused
    #[arg(long, env = "WEFT_POD_TUNNELS", value_name = "COUNT", default_value_t = 1024,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub pod_tunnels: u32,
    /// Bytes of one pod's connections that may wait in memory, pipes and tunnels; from a quarter of it on its peers may
    /// send less and less ahead, and beyond it each connection goes on with 4 KiB at a time
    #[arg(long, env = "WEFT_POD_BUFFERED", value_name = "BYTES", default_value_t = 32 << 20,
          value_parser = value_parser!(u32).range(65_536..))]
    pub pod_buffered: u32,
    /// Streams a peer may have open in one tunnel; further ones are refused, and come in another tunnel
    #[arg(long, env = "WEFT_TUNNEL_STREAMS", value_name = "COUNT", default_value_t = 200,
          value_parser = value_parser!(u32).range(1..=100_000))]
    pub tunnel_streams: u32,
    /// Bytes a peer may send ahead on one stream of a tunnel, until they are read; never more than --tunnel-window leaves
    #[arg(long, env = "WEFT_STREAM_WINDOW", value_name = "BYTES", default_value_t = 1 << 20,
          value_parser = value_parser!(u32).range(65_536..=16 << 20))]
    pub stream_window: u32,
    /// Bytes a peer may have under way in one tunnel; from half of it unread on, it may send less ahead on each stream
    #[arg(long, env = "WEFT_TUNNEL_WINDOW", value_name = "BYTES", default_value_t = 8 << 20,
          value_parser = value_parser!(u32).range(65_536..=1 << 30))]
    pub tunnel_window: u32,
    /// Bytes of the headers of one CONNECT; longer ones are refused with 400
    #[arg(long, env = "WEFT_TUNNEL_HEAD", value_name = "BYTES", default_value_t = 65_536,
          value_parser = value_parser!(u32).range(4096..=1_048_576))]
    pub tunnel_head: u32,
    /// DNS queries of one pod that wait for name servers to answer, while the mesh has names of its own; further ones
    /// are dropped
    #[arg(long, env = "WEFT_POD_DNS_QUERIES", value_name = "COUNT", default_value_t = 1024,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub pod_dns_queries: u32,
    /// Endpoints that failed a moment ago and are tried last, for one pod on each worker; of more, the oldest are
    /// forgotten
    #[arg(long, env = "WEFT_POD_FAILURES", value_name = "COUNT", default_value_t = 64,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub pod_failures: u32,
    /// Hosts of ExternalServices whose addresses are remembered; connections to further ones are refused
    #[arg(long, env = "WEFT_RESOLVED_NAMES", value_name = "COUNT", default_value_t = 512,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub resolved_names: u32,
    /// Sockets that may wait for one worker to take them; further ones are refused
    #[arg(long, env = "WEFT_WORKER_QUEUE", value_name = "COUNT", default_value_t = 1024,
          value_parser = value_parser!(u32).range(1..=65_536))]
    pub worker_queue: u32,
    /// Pipes of 1 MiB that each worker may use at one time for bulk between two sockets; beyond, bulk is copied
    #[arg(long, env = "WEFT_WORKER_PIPES", value_name = "COUNT", default_value_t = 64,
          value_parser = value_parser!(u32).range(0..=4096))]
    pub worker_pipes: u32,
    /// How long dial, handshake and CONNECT may take together
    #[arg(long, env = "WEFT_DEADLINE", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub deadline: Duration,
    /// How long a peer may take to prove who it is
    #[arg(long, env = "WEFT_HANDSHAKE", value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    pub handshake: Duration,
    /// How long an open connection may stay silent
    #[arg(long, env = "WEFT_IDLE", value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    pub idle: Duration,
    /// How long a connection may stay silent once one of its directions has ended
    #[arg(long, env = "WEFT_HALF_CLOSED", value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    pub half_closed: Duration,
}

impl BoundOptions {
    /// As the connections of a pod take them.
    pub fn traffic(&self) -> TrafficOptions {
        TrafficOptions {
            hold: self.hold,
            held: self.pod_held as usize,
            connections: self.pod_connections as usize,
            buffered: self.pod_buffered as usize,
            unauthenticated: self.pod_handshakes as usize,
            failures: self.pod_failures as usize,
            queries: self.pod_dns_queries as usize,
            connect: self.deadline,
            patience: Patience {
                idle: self.idle,
                half_closed: self.half_closed,
                pipes: self.worker_pipes as usize,
                ..Patience::default()
            },
            pool: PoolOptions {
                deadline: self.deadline,
                tunnels: self.pod_tunnels as usize,
                shared: true,
                tunnel: TunnelOptions {
                    streams_served: self.tunnel_streams,
                    stream_window: self.stream_window,
                    tunnel_window: self.tunnel_window,
                    head: self.tunnel_head,
                    handshake: self.handshake,
                    ..TunnelOptions::default()
                },
            },
            ..TrafficOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::{node::Options, traffic::bounds};

    #[test]
    fn every_bound_has_a_flag_of_its_own_which_its_refusal_and_its_metric_name() {
        let command = Options::command();
        for bound in bounds::ALL {
            assert_eq!(bound.missing_in(&command), None, "{}", bound.flag());
            assert!(bound.reached(1).to_string().contains(&bound.flag()));
        }
        let names: std::collections::HashSet<_> = bounds::ALL.iter().map(|bound| bound.name).collect();
        assert_eq!(names.len(), bounds::ALL.len());
    }

    #[test]
    fn the_flags_defaults_are_those_of_the_code_and_each_sets_its_bound() {
        let traffic = |flags: &[&str]| {
            let line = ["ztunnel", "--node", "n"].iter().chain(flags);
            Options::try_parse_from(line).expect("parses").bounds.traffic()
        };
        let defaults = format!("{:?}", TrafficOptions::default());
        assert_eq!(format!("{:?}", traffic(&[])), defaults);
        for (flag, value) in [
            ("--pod-held", "77"),
            ("--pod-connections", "77"),
            ("--pod-handshakes", "77"),
            ("--pod-tunnels", "77"),
            ("--pod-buffered", "70000"),
            ("--tunnel-streams", "77"),
            ("--worker-pipes", "77"),
            ("--stream-window", "70000"),
            ("--tunnel-window", "70000"),
            ("--tunnel-head", "7000"),
            ("--pod-dns-queries", "77"),
            ("--pod-failures", "77"),
        ] {
            assert_ne!(format!("{:?}", traffic(&[flag, value])), defaults, "{flag}");
        }
        for flag in ["--hold", "--deadline", "--handshake", "--idle", "--half-closed"] {
            assert_ne!(format!("{:?}", traffic(&[flag, "77s"])), defaults, "{flag}");
        }
    }
}
