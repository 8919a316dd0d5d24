//! What is measured, and in which units.

/// One kind of traffic, or rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Case {
    /// Memory at rest, and of connections that say nothing.
    Idle,
    /// One stream as fast as it goes.
    #[value(name = "throughput-1")]
    Throughput1,
    /// Four of them.
    #[value(name = "throughput-4")]
    Throughput4,
    /// Sixteen of them.
    #[value(name = "throughput-16")]
    Throughput16,
    /// Requests, one after the other.
    #[value(name = "http-1")]
    Http1,
    /// Requests on 64 kept connections.
    #[value(name = "http-64")]
    Http64,
    /// A new connection for every request, 16 at a time.
    NewConnections,
    /// As that, and a whole mutual TLS handshake for each.
    Handshakes,
    /// One stream between two pods of one node.
    SameNode,
    /// What one pod's requests feel of another pod's stream.
    Neighbour,
    /// Requests at a steady rate, timed from when they were due.
    FixedRate,
    /// As that, while ten thousand changes of configuration arrive. Ours alone.
    Burst,
}

/// What a figure says, and its unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// Gigabits of payload a second, all streams together.
    GbitPerS,
    /// Answered requests a second.
    RequestsPerS,
    /// Connections a second, one answered request in each.
    ConnectionsPerS,
    /// Milliseconds within which half of the requests were answered.
    P50,
    /// As that, nine of ten.
    P90,
    /// As that, 99 of 100.
    P99,
    /// CPU seconds of all proxies on the way for 10^9 bytes of payload.
    CpuPerGb,
    /// As that, for 10,000 requests.
    CpuPer10k,
    /// Resident memory of the larger proxy of the pair, 10^6 bytes.
    RssMb,
    /// Memory that one idle connection costs on each side, 10^3 bytes, the two sides' mean.
    KbPerIdle,
    /// The slowest stream's share of an even share.
    SlowestStream,
    /// Connections that were held idle and answered a request afterwards.
    Held,
    /// As [`Metric::RssMb`], after everything else was measured.
    RssAfter,
    /// The worst second's p99 over that of the calm before.
    Worst,
    /// As [`Metric::P99`], while the neighbour was silent.
    P99Alone,
}

impl Case {
    /// All of them, in the order they are run: rest first, what restarts a proxy and what disturbs it last.
    pub const ALL: [Self; 12] = [
        Self::Idle,
        Self::Throughput1,
        Self::Throughput4,
        Self::Throughput16,
        Self::Http1,
        Self::Http64,
        Self::NewConnections,
        Self::SameNode,
        Self::Neighbour,
        Self::FixedRate,
        Self::Burst,
        Self::Handshakes,
    ];

    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Throughput1 => "throughput-1",
            Self::Throughput4 => "throughput-4",
            Self::Throughput16 => "throughput-16",
            Self::Http1 => "http-1",
            Self::Http64 => "http-64",
            Self::NewConnections => "new-connections",
            Self::Handshakes => "handshakes",
            Self::SameNode => "same-node",
            Self::Neighbour => "neighbour",
            Self::FixedRate => "fixed-rate",
            Self::Burst => "burst",
        }
    }
}

impl Metric {
    /// Its name in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::GbitPerS => "gbit_per_s",
            Self::RequestsPerS => "requests_per_s",
            Self::ConnectionsPerS => "connections_per_s",
            Self::P50 => "p50_ms",
            Self::P90 => "p90_ms",
            Self::P99 => "p99_ms",
            Self::CpuPerGb => "cpu_s_per_gb",
            Self::CpuPer10k => "cpu_s_per_10k",
            Self::RssMb => "rss_mb",
            Self::KbPerIdle => "kb_per_idle_connection",
            Self::SlowestStream => "slowest_stream_of_even_share",
            Self::Held => "idle_connections_held",
            Self::RssAfter => "rss_after_load_mb",
            Self::Worst => "worst_second_p99_over_before",
            Self::P99Alone => "p99_alone_ms",
        }
    }

    /// Whether more of it is better.
    pub fn more_is_better(self) -> bool {
        matches!(
            self,
            Self::GbitPerS | Self::RequestsPerS | Self::ConnectionsPerS | Self::SlowestStream | Self::Held
        )
    }
}
