//! What this waypoint has only so many of (design 32).

use act::telemetry::Bound;

/// Requests in flight.
pub(crate) const REQUESTS: Bound = Bound {
    name: "max-requests",
    flag: "--max-requests",
    what: "requests are in flight",
};

/// The head of one request.
pub(crate) const HEAD: Bound = Bound {
    name: "max-head",
    flag: "--max-head",
    what: "bytes are read of one request's head",
};

/// Headers of one request.
pub(crate) const HEADERS: Bound = Bound {
    name: "max-headers",
    flag: "--max-headers",
    what: "headers are read of one request",
};

/// Connections that wait for a worker.
pub(crate) const QUEUE: Bound = Bound {
    name: "worker-queue",
    flag: "--worker-queue",
    what: "connections wait for one worker",
};
