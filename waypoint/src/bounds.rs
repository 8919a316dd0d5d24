//! What this waypoint has only so many of (design 32).

use act::telemetry::Bound;

/// Tunnels of clients.
pub(crate) const ACCEPTED: Bound = Bound::slowing("max-tunnels", "tunnels of clients are open");

/// Requests in flight on one HTTP/2 connection.
pub(crate) const FLYING: Bound = Bound::slowing("max-streams", "requests are in flight on one HTTP/2 connection");

/// Requests in flight.
pub(crate) const REQUESTS: Bound = Bound::refusing("max-requests", "requests are in flight");

/// The head of one request.
pub(crate) const HEAD: Bound = Bound::refusing("max-head", "bytes are read of one request's head");

/// Headers of one request.
pub(crate) const HEADERS: Bound = Bound::refusing("max-headers", "headers are read of one request");

/// Connections that wait for a worker.
pub(crate) const QUEUE: Bound = Bound::refusing("worker-queue", "connections wait for one worker");

/// Every bound on what peers fill: what the tests walk.
#[cfg(test)]
pub(crate) const ALL: [Bound; 13] = [
    ACCEPTED,
    FLYING,
    REQUESTS,
    HEAD,
    HEADERS,
    QUEUE,
    act::hbone::TUNNELS,
    act::hbone::STREAMS,
    act::hbone::HEAD,
    act::hbone::AHEAD,
    act::hbone::UNREAD,
    act::hbone::BUFFERED,
    act::resolve::NAMES,
];
