//! What one pod, or one worker, has only so many of.

use act::{
    hbone::{BUFFERED, HEAD, STREAMS, TUNNELS, UNREAD},
    resolve::NAMES,
    telemetry::Bound,
};

/// Connections of a pod, both directions together.
pub const CONNECTIONS: Bound = Bound {
    name: "pod-connections",
    flag: "--pod-connections",
    what: "connections of one pod are open",
};

/// Connections that wait for what is not known yet.
pub const HELD: Bound = Bound {
    name: "pod-held",
    flag: "--pod-held",
    what: "connections of one pod are held",
};

/// Accepted HBONE connections of nobody known yet.
pub const HANDSHAKES: Bound = Bound {
    name: "pod-handshakes",
    flag: "--pod-handshakes",
    what: "connections to one pod have not finished their handshakes",
};

/// Accepted sockets that wait for a worker.
pub const QUEUE: Bound = Bound {
    name: "worker-queue",
    flag: "--worker-queue",
    what: "connections wait for one worker",
};

/// DNS queries that were passed on and wait for their answers.
pub const QUERIES: Bound = Bound {
    name: "pod-dns-queries",
    flag: "--pod-dns-queries",
    what: "DNS queries of one pod wait for their answers",
};

/// Endpoints that failed a moment ago.
pub const FAILURES: Bound = Bound {
    name: "pod-failures",
    flag: "--pod-failures",
    what: "endpoints that failed are remembered",
};

/// Every bound on what peers and pods fill. Beyond the first eight, somebody is refused and told so; beyond the others,
/// things go on more slowly, or the oldest is forgotten.
pub const ALL: [Bound; 12] = [
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
    UNREAD,
    FAILURES,
];
