//! One connection as telemetry tells it: opened, counted while flowing, ended in exactly one outcome.

use std::{fmt, sync::Arc};

use decide::model::Refusal;
use metrics::{Counter, Label};
use tokio::time::Instant;

use super::{
    labels::{FlowLabels, SeriesKey, overflow},
    metrics::Series,
};

static METERS: Series<SeriesKey, Meters> = Series::new();

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
pub struct Connection {
    labels: FlowLabels,
    meters: Arc<Meters>,
    opened: Instant,
    sent: u64,
    received: u64,
    ended: bool,
}

struct Meters {
    opened: Counter,
    closed: Counter,
    sent: Counter,
    received: Counter,
}

impl Connection {
    /// A connection opens.
    pub fn open(labels: FlowLabels) -> Self {
        let meters = METERS
            .handles(labels.key(), || METERS.sweep(), |key| Meters::resolve(key.labels()))
            .unwrap_or_else(|| Arc::new(Meters::resolve(overflow())));
        meters.opened.increment(1);
        Self {
            labels,
            meters,
            opened: Instant::now(),
            sent: 0,
            received: 0,
            ended: false,
        }
    }

    /// A connection was refused before it opened: one log line, `istio_tcp_connections_failed_total`.
    pub fn refused(labels: FlowLabels, refusal: &Refusal) {
        count_failed(&labels, refusal);
        log(&labels, &Outcome::Refused(refusal.clone()), 0, 0, None);
    }

    /// What was said when it opened.
    pub fn labels(&self) -> &FlowLabels {
        &self.labels
    }

    /// Adds bytes that flowed since the last call: from client to server, and back. Cheap; call it on a tick
    /// of at most 15 s and once at the end, also with zeroes (that keeps the series alive).
    pub fn count(&mut self, sent: u64, received: u64) {
        self.sent += sent;
        self.received += received;
        self.meters.sent.increment(sent);
        self.meters.received.increment(received);
        self.meters.opened.increment(0);
        self.meters.closed.increment(0);
    }

    /// It ended: closes the counters and writes the one access log line.
    pub fn finish(mut self, outcome: &Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: &Outcome) {
        self.ended = true;
        self.meters.closed.increment(1);
        if let Outcome::Refused(refusal) | Outcome::Cut(refusal) = outcome {
            count_failed(&self.labels, refusal);
        }
        log(&self.labels, outcome, self.sent, self.received, Some(self.opened));
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.ended {
            self.end(&Outcome::Drained);
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Connection")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

impl Outcome {
    /// One word for the log.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset(_) => "reset",
            Self::Refused(_) => "refused",
            Self::Cut(_) => "cut",
            Self::Drained => "drained",
            Self::TimedOut(_) => "timed-out",
        }
    }
}

impl Meters {
    fn resolve(labels: Vec<Label>) -> Self {
        Self {
            opened: metrics::counter!("istio_tcp_connections_opened_total", labels.clone()),
            closed: metrics::counter!("istio_tcp_connections_closed_total", labels.clone()),
            sent: metrics::counter!("istio_tcp_sent_bytes_total", labels.clone()),
            received: metrics::counter!("istio_tcp_received_bytes_total", labels),
        }
    }
}

fn count_failed(labels: &FlowLabels, refusal: &Refusal) {
    static FAILED: Series<(SeriesKey, &'static str), Counter> = Series::new();
    let resolve = |mut labels: Vec<Label>, flags: &'static str| {
        labels.push(Label::from_static_parts("response_flags", flags));
        metrics::counter!("istio_tcp_connections_failed_total", labels)
    };
    FAILED
        .handles(
            (labels.key(), refusal.label()),
            || FAILED.sweep(),
            |(key, flags)| resolve(key.labels(), flags),
        )
        .unwrap_or_else(|| Arc::new(resolve(overflow(), refusal.label())))
        .increment(1);
}

/// The access log line: Istio's field names, then what Weft adds (`outcome`, `refusal`, `policy`).
fn log(labels: &FlowLabels, outcome: &Outcome, sent: u64, received: u64, opened: Option<Instant>) {
    let (refusal, policy) = match outcome {
        Outcome::Refused(refusal) | Outcome::Cut(refusal) => (Some(refusal), refusal.decider()),
        _ => (None, labels.allowed_by.as_ref()),
    };
    let detail = match outcome {
        Outcome::Reset(why) | Outcome::TimedOut(why) => Some(why.to_string()),
        Outcome::Refused(refusal) | Outcome::Cut(refusal) => Some(refusal.to_string()),
        Outcome::Closed | Outcome::Drained => None,
    };
    let source = labels.source.workload.as_deref();
    let destination = labels.destination.workload.as_deref();
    tracing::info!(
        target: "access",
        reporter = labels.reporter.label(),
        src.addr = labels.source.address.map(tracing::field::display),
        src.workload = source.map(|it| &*it.name),
        src.namespace = source.map(|it| &*it.namespace),
        src.identity = labels.source.identity.as_ref().map(tracing::field::display),
        dst.addr = labels.destination.address.map(tracing::field::display),
        dst.service = labels.service.as_ref().map(tracing::field::display),
        dst.workload = destination.map(|it| &*it.name),
        dst.namespace = destination.map(|it| &*it.namespace),
        dst.identity = labels.destination.identity.as_ref().map(tracing::field::display),
        security = labels.security.label(),
        way = labels.security.way(),
        bytes_sent = sent,
        bytes_recv = received,
        duration_ms = opened.map(|it| it.elapsed().as_secs_f64() * 1000.0),
        outcome = outcome.label(),
        refusal = refusal.map(Refusal::label),
        policy = policy.map(tracing::field::display),
        reason = detail,
        "connection"
    );
}
