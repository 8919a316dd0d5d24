//! What one pod, or one worker, has only so many of.

use act::{
    hbone::{AHEAD, BUFFERED, HEAD, STREAMS, TUNNELS, UNREAD},
    resolve::NAMES,
    telemetry::Bound,
};

/// Connections of a pod, both directions together.
pub const CONNECTIONS: Bound = Bound::refusing("pod-connections", "connections of one pod are open");

/// Connections that wait for what is not known yet.
pub const HELD: Bound = Bound::refusing("pod-held", "connections of one pod are held");

/// Accepted HBONE connections of nobody known yet.
pub const HANDSHAKES: Bound = Bound::refusing(
    "pod-handshakes",
    "connections to one pod have not finished their handshakes",
);

/// Accepted sockets that wait for a worker.
pub const QUEUE: Bound = Bound::refusing("worker-queue", "connections wait for one worker");

/// DNS queries that were passed on and wait for their answers.
pub const QUERIES: Bound = Bound::refusing("pod-dns-queries", "DNS queries of one pod wait for their answers");

/// Endpoints that failed a moment ago.
pub const FAILURES: Bound = Bound::forgetting("pod-failures", "endpoints that failed are remembered");

/// Every bound on what peers and pods fill.
pub const ALL: [Bound; 13] = [
    CONNECTIONS,
    HELD,
    HANDSHAKES,
    QUEUE,
    TUNNELS,
    HEAD,
    QUERIES,
    NAMES,
    STREAMS,
    BUFFERED,
    AHEAD,
    UNREAD,
    FAILURES,
];
