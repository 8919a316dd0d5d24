//! One connection as telemetry tells it: opened, counted while flowing, ended in exactly one outcome.

use std::{fmt, sync::Arc, time::Duration};

use decide::model::{Decider, Refusal};
use metrics::{Counter, Gauge, Label};
use tokio::time::Instant;

use super::{
    access::Moment,
    dry_run,
    labels::{FlowLabels, Reporter, SeriesKey, overflow},
    metrics::Series,
    options::Told,
};

/// How often a live connection is to be counted at the least: a series that nobody touches for much longer leaves.
pub const FLOW_TICK: Duration = Duration::from_secs(15);

static METERS: Series<SeriesKey, Meters> = Series::new("connections");
static FAILED: Series<(SeriesKey, &'static str), Counter> = Series::new("connections_failed");
/// More than there are reporters, outcomes and refusals.
const ALL_ENDS: usize = 1000;
static ENDED: Series<(Reporter, &'static str, &'static str), Counter> = Series::new("connections_ended");

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
    /// Apart, so that whoever hands it on before keeps room for a pointer alone.
    labels: Box<FlowLabels>,
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
    sockets: Gauge,
}

impl Connection {
    /// A connection opens.
    pub fn open(labels: impl Into<Box<FlowLabels>>) -> Self {
        let labels = labels.into();
        let told = Told::in_force();
        let meters = METERS.handles(
            labels.key(told),
            told.series,
            || METERS.sweep(),
            |key| {
                Meters::resolve(
                    labels.reporter,
                    key.map_or_else(overflow, |key| key.labels(told.dropped)),
                )
            },
        );
        meters.opened.increment(1);
        meters.sockets.increment(1);
        if let Some(by) = &labels.would_deny {
            dry_run::denied(by);
        }
        if told.says(Moment::Opened) {
            log(&labels, None, (0, 0), None);
        }
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
        let told = Told::in_force();
        let flags = refusal.label();
        let failed = |key: Option<&(SeriesKey, &'static str)>| {
            let labels = key.map_or_else(overflow, |(key, _)| key.labels(told.dropped));
            metrics::counter!("istio_tcp_connections_failed_total", of_tcp(labels, flags))
        };
        FAILED
            .handles((labels.key(told), flags), told.series, || FAILED.sweep(), failed)
            .increment(1);
        if told.says(Moment::Refused) {
            log(&labels, Some(&Outcome::Refused(refusal.clone())), (0, 0), None);
        }
    }

    /// What was said when it opened.
    pub fn labels(&self) -> &FlowLabels {
        &self.labels
    }

    /// Adds bytes that flowed since the last call: from client to server, and back. Cheap; call it every
    /// [`FLOW_TICK`] and once at the end, also with zeroes (that keeps the series alive).
    pub fn count(&mut self, sent: u64, received: u64) {
        self.sent += sent;
        self.received += received;
        self.meters.sent.increment(sent);
        self.meters.received.increment(received);
        self.meters.opened.increment(0);
        self.meters.closed.increment(0);
    }

    /// It ended: closes the counters and writes the access log line.
    pub fn finish(mut self, outcome: &Outcome) {
        self.end(outcome);
    }

    fn end(&mut self, outcome: &Outcome) {
        self.ended = true;
        self.meters.closed.increment(1);
        self.meters.sockets.decrement(1);
        let told = Told::in_force();
        let key = (self.labels.reporter, outcome.label(), outcome.reason());
        ENDED
            .handles(key, ALL_ENDS, || ENDED.sweep(), |_| ended(key))
            .increment(1);
        let moment = match outcome {
            Outcome::Refused(_) | Outcome::Cut(_) => Moment::Refused,
            Outcome::Closed | Outcome::Reset(_) | Outcome::Drained | Outcome::TimedOut(_) => Moment::Ended,
        };
        if told.says(moment) {
            log(
                &self.labels,
                Some(outcome),
                (self.sent, self.received),
                Some(self.opened),
            );
        }
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
    /// One word for the log, and for the label `outcome` of `weft_connections_ended_total`.
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

    fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refusal) | Self::Cut(refusal) => refusal.label(),
            Self::Closed | Self::Reset(_) | Self::Drained | Self::TimedOut(_) => "-",
        }
    }
}

impl Meters {
    fn resolve(reporter: Reporter, labels: Vec<Label>) -> Self {
        let labels = of_tcp(labels, "-");
        Self {
            opened: metrics::counter!("istio_tcp_connections_opened_total", labels.clone()),
            closed: metrics::counter!("istio_tcp_connections_closed_total", labels.clone()),
            sent: metrics::counter!("istio_tcp_sent_bytes_total", labels.clone()),
            received: metrics::counter!("istio_tcp_received_bytes_total", labels),
            sockets: metrics::gauge!("istio_tcp_sockets_open", "reporter" => reporter.label()),
        }
    }
}

/// What every family about TCP carries besides the parties.
fn of_tcp(mut labels: Vec<Label>, flags: &'static str) -> Vec<Label> {
    labels.push(Label::from_static_parts("request_protocol", "tcp"));
    labels.push(Label::from_static_parts("response_flags", flags));
    labels
}

/// How many connections that had opened ended so: what was cut is told apart from what was refused.
fn ended((reporter, outcome, reason): (Reporter, &'static str, &'static str)) -> Counter {
    metrics::counter!(
        "weft_connections_ended_total",
        "reporter" => reporter.label(),
        "outcome" => outcome,
        "reason" => reason
    )
}

/// The access log line: Istio's field names, then what Weft adds (`outcome`, `refusal`, `policy` …). Without an
/// outcome: it opened.
fn log(labels: &FlowLabels, outcome: Option<&Outcome>, (sent, received): (u64, u64), opened: Option<Instant>) {
    let (refusal, policy) = match outcome {
        Some(Outcome::Refused(refusal) | Outcome::Cut(refusal)) => (Some(refusal), refusal.decider()),
        _ => (None, labels.allowed_by.as_deref()),
    };
    let detail = outcome.and_then(|outcome| match outcome {
        Outcome::Reset(why) | Outcome::TimedOut(why) => Some(why.to_string()),
        Outcome::Refused(refusal) | Outcome::Cut(refusal) => Some(refusal.to_string()),
        Outcome::Closed | Outcome::Drained => None,
    });
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
        bytes_sent = outcome.map(|_| sent),
        bytes_recv = outcome.map(|_| received),
        duration_ms = opened.map(|it| it.elapsed().as_secs_f64() * 1000.0),
        outcome = outcome.map_or("opened", Outcome::label),
        refusal = refusal.map(Refusal::label),
        policy = policy.map(tracing::field::display),
        dry_run = labels.would_deny.as_deref().map(told_of_dry_run),
        trace = labels.trace.map(|trace| format!("{trace:032x}")),
        reason = detail,
        "connection"
    );
}

/// What a line says of a policy that is not enforced.
pub(super) fn told_of_dry_run(by: &Decider) -> String {
    format!("would be denied by {by}")
}
