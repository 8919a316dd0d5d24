//! Bounds and timers of a pod's connections.

use std::{sync::Arc, time::Duration};

use act::{
    hbone::{Patience, PoolOptions},
    resolve::{Resolver, over_network},
};

/// Bounds and timers of the connections of one pod on one worker.
#[derive(Debug, Clone)]
pub struct TrafficOptions {
    /// How long a connection waits for what is not known yet: configuration, a certificate, a peer that is starting.
    pub hold: Duration,
    /// Connections that may wait so at one time.
    pub held: usize,
    /// Connections open at one time, both directions together.
    pub connections: usize,
    /// Bytes that may wait in memory, pipes and tunnels; of the pod on all workers.
    pub buffered: usize,
    /// Accepted HBONE connections that have not finished their handshakes; of the pod on all workers.
    pub unauthenticated: usize,
    /// How long connecting to an application, or to a destination outside the mesh, may take.
    pub connect: Duration,
    /// Congestion control of connections between nodes, such as `cubic`; `None`: the host's.
    pub congestion: Option<Arc<str>>,
    /// Endpoints tried for one connection.
    pub attempts: usize,
    /// Endpoints remembered that failed a moment ago.
    pub failures: usize,
    /// DNS queries that were passed on to name servers and wait for their answers; of the pod.
    pub queries: usize,
    /// How long a refused client's first bytes are waited for, to answer in its own protocol.
    pub courtesy: Duration,
    /// How long an open connection may stay silent.
    pub patience: Patience,
    /// Names of ExternalServices. Without a name server in the default.
    pub names: Resolver,
    /// Tunnels this pod makes; also how those it accepts are tuned.
    pub pool: PoolOptions,
}

impl Default for TrafficOptions {
    fn default() -> Self {
        Self {
            hold: Duration::from_secs(5),
            held: 1024,
            connections: 32 * 1024,
            buffered: 32 << 20,
            unauthenticated: 256,
            connect: Duration::from_secs(10),
            congestion: None,
            attempts: 8,
            failures: 64,
            queries: 1024,
            courtesy: Duration::from_millis(250),
            patience: Patience::default(),
            names: Resolver::new(over_network(Vec::new()), Resolver::MOST),
            pool: PoolOptions::default(),
        }
    }
}
