//! The command line.

use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

use act::{
    admin::AdminOptions,
    authority::CaOptions,
    config::SourceOptions,
    hbone::{Budget, TunnelOptions},
    resolve::Resolver,
    telemetry::{FlowOptions, LogOptions},
};
use clap::Parser;
use decide::model::{Identity, WaypointKey};
use humantime::parse_duration;

use crate::{upstream::UpstreamOptions, waypoint::Settings};

/// Bytes of one head, by default.
const BYTES_OF_A_HEAD: usize = 64 * 1024;

/// The L7 proxy of a namespace, service or service account.
#[derive(Debug, Clone, Parser)]
#[command(name = "waypoint", version)]
pub(crate) struct Options {
    /// The Gateway this waypoint serves
    #[arg(long, env = "WEFT_GATEWAY", value_name = "NAMESPACE/NAME")]
    pub(crate) gateway: Named,
    /// The pod this process runs in
    #[arg(long, env = "WEFT_POD", value_name = "NAMESPACE/NAME")]
    pub(crate) pod: Named,
    /// Where the configuration comes from.
    #[command(flatten)]
    pub(crate) source: SourceOptions,
    /// Where HBONE is accepted
    #[arg(long, env = "WEFT_LISTEN", value_name = "ADDR", default_value = "0.0.0.0:15008")]
    pub(crate) listen: SocketAddr,
    /// Threads that carry traffic; 0: a quarter of the cores, 2 to 8
    #[arg(long, env = "WEFT_WORKERS", value_name = "N", default_value_t = 0)]
    pub(crate) workers: usize,
    /// TCP congestion control of its connections, such as cubic; by default the host's
    #[arg(long, env = "WEFT_CONGESTION", value_name = "NAME")]
    pub(crate) congestion: Option<String>,
    /// Tunnels accepted at the same time; more wait to be accepted
    #[arg(long, env = "WEFT_MAX_TUNNELS", value_name = "N", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    pub(crate) max_tunnels: u32,
    /// Streams a client may have open in one tunnel
    #[arg(long, env = "WEFT_TUNNEL_STREAMS", value_name = "N", default_value_t = 1_000)]
    pub(crate) tunnel_streams: u32,
    /// Tunnels each worker may make; requests that need one more are refused with 503
    #[arg(long, env = "WEFT_POD_TUNNELS", value_name = "N", default_value_t = 1024)]
    pub(crate) pod_tunnels: usize,
    /// Bytes of the headers of one CONNECT; longer ones are refused with 400
    #[arg(long, env = "WEFT_TUNNEL_HEAD", value_name = "BYTES", default_value_t = 65_536,
          value_parser = clap::value_parser!(u32).range(4096..=1_048_576))]
    pub(crate) tunnel_head: u32,
    /// Bytes a peer may send ahead on one stream of a tunnel or of an HTTP/2 connection, until they are read; never more
    /// than --tunnel-window leaves
    #[arg(long, env = "WEFT_STREAM_WINDOW", value_name = "BYTES", default_value_t = 1 << 20,
          value_parser = clap::value_parser!(u32).range(65_536..=16 << 20))]
    pub(crate) stream_window: u32,
    /// Bytes a peer may have under way in one tunnel, or on one HTTP/2 connection; from half of a
    /// tunnel's unread on, it may send less ahead on each stream
    #[arg(long, env = "WEFT_TUNNEL_WINDOW", value_name = "BYTES", default_value_t = 8 << 20,
          value_parser = clap::value_parser!(u32).range(65_536..=1 << 30))]
    pub(crate) tunnel_window: u32,
    /// Bytes that may wait in all tunnels; from a quarter of it on peers may send less and less ahead, and beyond it
    /// each stream goes on with 4 KiB at a time
    #[arg(long, env = "WEFT_POD_BUFFERED", value_name = "BYTES", default_value_t = 256 << 20,
          value_parser = clap::value_parser!(u32).range(65_536..))]
    pub(crate) pod_buffered: u32,
    /// Connections that may wait for one worker to begin with them; further ones are closed
    #[arg(long, env = "WEFT_WORKER_QUEUE", value_name = "N", default_value_t = 1024,
          value_parser = worker_queue)]
    pub(crate) worker_queue: usize,
    /// Requests in flight at the same time; more are refused with 503
    #[arg(long, env = "WEFT_MAX_REQUESTS", value_name = "N", default_value_t = 10_000)]
    pub(crate) max_requests: usize,
    /// Requests in flight on one HTTP/2 connection of a client, which keeps further ones back
    #[arg(long, env = "WEFT_MAX_STREAMS", value_name = "N", default_value_t = 200,
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) max_streams: u32,
    /// Headers of one request; more are refused with 400
    #[arg(long, env = "WEFT_MAX_HEADERS", value_name = "N", default_value_t = 100)]
    pub(crate) max_headers: usize,
    /// Bytes of one request's head; more are refused with 431
    #[arg(long, env = "WEFT_MAX_HEAD", value_name = "BYTES", default_value_t = BYTES_OF_A_HEAD, value_parser = head_bytes)]
    pub(crate) max_head: usize,
    /// Hosts of ExternalServices whose addresses are remembered; requests to further ones are refused
    #[arg(long, env = "WEFT_RESOLVED_NAMES", value_name = "N", default_value_t = Resolver::MOST)]
    pub(crate) resolved_names: usize,
    /// How long a request's head may take from its first byte to its last
    #[arg(long, env = "WEFT_HEAD_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub(crate) head_timeout: Duration,
    /// How long a client may say nothing on a port of unknown protocol before it is taken not to speak HTTP
    #[arg(long, env = "WEFT_DETECT_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) detect_timeout: Duration,
    /// How long a client's connection may be idle
    #[arg(long, env = "WEFT_IDLE", value_name = "DURATION", default_value = "1h", value_parser = duration)]
    pub(crate) idle: Duration,
    /// How long a stream waits for the first configuration or certificate
    #[arg(long, env = "WEFT_HOLD", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) hold: Duration,
    /// How long connecting a server may take, and how long resolving the name of one outside the mesh
    #[arg(long, env = "WEFT_CONNECT_TIMEOUT", value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// How long a connection to a server is kept without a request
    #[arg(long, env = "WEFT_UPSTREAM_IDLE", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) upstream_idle: Duration,
    /// How old a connection to a server may be when it is given another request
    #[arg(long, env = "WEFT_UPSTREAM_AGE", value_name = "DURATION", default_value = "10m", value_parser = duration)]
    pub(crate) upstream_age: Duration,
    /// Idle HTTP/1 connections kept to one endpoint, by each worker
    #[arg(long, env = "WEFT_UPSTREAM_KEPT", value_name = "N", default_value_t = 128)]
    pub(crate) upstream_kept: usize,
    /// How long requests in flight may take to finish once asked to stop
    #[arg(long, env = "WEFT_DRAIN", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub(crate) drain: Duration,
    #[command(flatten)]
    pub(crate) ca: CaOptions,
    #[command(flatten)]
    pub(crate) admin: AdminOptions,
    #[command(flatten)]
    pub(crate) log: LogOptions,
    #[command(flatten)]
    pub(crate) flows: FlowOptions,
}

/// An object by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Namespace.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Arc<str>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => Ok(Self {
                namespace: namespace.into(),
                name: name.into(),
            }),
            _ => Err("write it as NAMESPACE/NAME".into()),
        }
    }
}

impl Options {
    /// Which waypoint this is.
    pub(crate) fn key(&self) -> WaypointKey {
        WaypointKey {
            namespace: self.gateway.namespace.clone(),
            name: self.gateway.name.clone(),
        }
    }

    /// Who its pods are: the service account of the Gateway's name.
    ///
    /// # Errors
    /// One plain sentence when the names make no identity.
    pub(crate) fn identity(&self) -> Result<Identity, String> {
        Identity::new(&self.source.trust_domain, &self.gateway.namespace, &self.gateway.name)
            .map_err(|error| format!("{error}; look at --gateway and --trust-domain"))
    }

    /// Threads that carry traffic.
    pub(crate) fn workers(&self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self.workers {
            0 => (cores / 4).clamp(2, 8),
            workers => workers.min(64),
        }
    }

    /// Bounds and timers.
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            max_tunnels: self.max_tunnels as usize,
            max_requests: self.max_requests,
            max_streams: self.max_streams,
            max_headers: self.max_headers,
            max_head: self.max_head,
            head_timeout: self.head_timeout,
            detect_timeout: self.detect_timeout,
            idle: self.idle,
            hold: self.hold,
            resolve: self.connect_timeout,
            tunnel: TunnelOptions {
                streams_served: self.tunnel_streams,
                head: self.tunnel_head,
                stream_window: self.stream_window,
                tunnel_window: self.tunnel_window,
                budget: Budget::new(self.pod_buffered as usize),
                ..TunnelOptions::default()
            },
            upstream: UpstreamOptions {
                idle_each: self.upstream_kept,
                idle_all: self.upstream_kept.saturating_mul(32),
                idle: self.upstream_idle,
                age: self.upstream_age,
                headers: self.max_headers.saturating_mul(2),
                head: self.max_head,
                stream_window: self.stream_window,
                connection_window: self.tunnel_window,
            },
        }
    }
}

/// A duration of at least a millisecond: timers of zero would end everything at once.
fn duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(duration) if duration >= Duration::from_millis(1) => Ok(duration),
        Ok(_) => Err("it must be at least 1ms".into()),
        Err(error) => Err(format!("{error}; write it like 10s or 5m")),
    }
}

/// How many may wait for a worker.
fn worker_queue(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count @ 1..=65_536) => Ok(count),
        _ => Err("it must be 1 to 65536".into()),
    }
}

/// Bytes of a head: HTTP/1 needs 8 KiB to start with.
fn head_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes @ 8192..=1_048_576) => Ok(bytes),
        _ => Err("it must be 8192 to 1048576 bytes".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        let required = ["waypoint", "--gateway", "shop/waypoint", "--pod", "shop/waypoint-0"];
        Options::try_parse_from(required.iter().chain(arguments)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_identity_is_the_gateways_own_service_account() {
        let options = parse(&[]).unwrap();
        assert_eq!(
            options.identity().unwrap().to_string(),
            "spiffe://cluster.local/ns/shop/sa/waypoint"
        );
        assert!((1..=64).contains(&options.workers()));
        assert!(parse(&["--trust-domain", "No Domain"]).is_err());
    }

    #[test]
    fn every_bound_has_a_flag_of_its_own_which_its_refusal_and_its_metric_name() {
        let command = <Options as clap::CommandFactory>::command();
        for bound in crate::bounds::ALL {
            assert_eq!(bound.missing_in(&command), None, "{}", bound.flag());
            assert!(bound.reached(1).to_string().contains(&bound.flag()));
        }
        let names: std::collections::HashSet<_> = crate::bounds::ALL.iter().map(|bound| bound.name).collect();
        assert_eq!(names.len(), crate::bounds::ALL.len());
    }

    #[test]
    fn a_wrong_flag_says_what_would_be_right() {
        for (flag, value, says) in [
            ("--gateway", "waypoint", "NAMESPACE/NAME"),
            ("--pod", "a/b/c", "NAMESPACE/NAME"),
            ("--idle", "0s", "at least 1ms"),
            ("--idle", "soon", "10s or 5m"),
            ("--max-head", "100", "8192 to 1048576"),
            ("--stream-window", "1000", "65536..=16777216"),
            ("--tunnel-window", "1000", "65536..=1073741824"),
            ("--max-tunnels", "0", "1..=1048576"),
            ("--max-streams", "0", "1..=100000"),
        ] {
            let error = Options::try_parse_from(["waypoint", flag, value])
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{flag} {value}: {error}");
        }
    }
}
