//! What one pod, or one worker, has only so many of.

use act::{hbone::TUNNELS, telemetry::Bound};

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

/// Every bound that refuses connections.
pub const ALL: [Bound; 5] = [CONNECTIONS, HELD, HANDSHAKES, QUEUE, TUNNELS];
