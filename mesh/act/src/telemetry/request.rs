//! One HTTP request as a waypoint tells it.

use std::{sync::Arc, time::Duration};

use decide::model::{Decider, Refusal};
use metrics::{Counter, Histogram, Label};

use super::{
    access::Moment,
    connection::told_of_dry_run,
    dry_run,
    labels::{FlowLabels, SeriesKey, overflow},
    metrics::Series,
    options::Told,
};

static METERS: Series<RequestKey, Meters> = Series::new("requests");

/// A finished request: `istio_requests_total`, `istio_request_duration_milliseconds`, byte counters and one
/// access log line.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Who and what.
    pub labels: FlowLabels,
    /// Method.
    pub method: Arc<str>,
    /// Path, without query; the log cuts it at 512 bytes.
    pub path: Arc<str>,
    /// `http` or `grpc`.
    pub protocol: &'static str,
    /// HTTP status sent to the client; 0 when the client went away first.
    pub status: u16,
    /// Why it was refused or failed, if it was us.
    pub refusal: Option<Refusal>,
    /// The route rule it took, if one.
    pub route: Option<Decider>,
    /// Bytes of the request's and the response's body.
    pub bytes: (u64, u64),
    /// From the head's arrival to the response's end.
    pub duration: Duration,
}

type RequestKey = (SeriesKey, &'static str, u16, &'static str);

struct Meters {
    requests: Counter,
    duration: Histogram,
    request_bytes: Counter,
    response_bytes: Counter,
}

impl RequestRecord {
    /// Counts and logs it.
    pub fn record(self) {
        let told = Told::in_force();
        let flags = self.refusal.as_ref().map_or("-", Refusal::label);
        let key = (self.labels.key(told), self.protocol, self.status, flags);
        let meters = METERS.handles(
            key,
            told.series,
            || METERS.sweep(),
            |key| match key {
                Some((key, protocol, status, flags)) => {
                    Meters::resolve(key.labels(told.dropped), protocol, *status, flags)
                }
                None => Meters::resolve(overflow(), self.protocol, 0, "-"),
            },
        );
        meters.requests.increment(1);
        meters.duration.record(self.duration.as_secs_f64() * 1000.0);
        meters.request_bytes.increment(self.bytes.0);
        meters.response_bytes.increment(self.bytes.1);
        if let Some(by) = &self.labels.would_deny {
            dry_run::denied(by);
        }
        let moment = match self.refusal {
            Some(_) => Moment::Refused,
            None => Moment::Ended,
        };
        if told.says(moment) {
            self.log();
        }
    }

    fn log(&self) {
        let (source, destination) = (&self.labels.source, &self.labels.destination);
        let policy = self
            .refusal
            .as_ref()
            .map_or(self.labels.allowed_by.as_deref(), Refusal::decider);
        tracing::info!(
            target: "access",
            reporter = self.labels.reporter.label(),
            method = &*self.method,
            path = shortened(&self.path),
            status = self.status,
            src.addr = source.address.map(tracing::field::display),
            src.workload = source.workload.as_deref().map(|it| &*it.name),
            src.identity = source.identity.as_ref().map(tracing::field::display),
            dst.addr = destination.address.map(tracing::field::display),
            dst.service = self.labels.service.as_ref().map(tracing::field::display),
            dst.workload = destination.workload.as_deref().map(|it| &*it.name),
            dst.identity = destination.identity.as_ref().map(tracing::field::display),
            security = self.labels.security.label(),
            route = self.route.as_ref().map(tracing::field::display),
            bytes_recv = self.bytes.0,
            bytes_sent = self.bytes.1,
            duration_ms = self.duration.as_secs_f64() * 1000.0,
            refusal = self.refusal.as_ref().map(Refusal::label),
            policy = policy.map(tracing::field::display),
            dry_run = self.labels.would_deny.as_deref().map(told_of_dry_run),
            trace = self.labels.trace.map(|trace| format!("{trace:032x}")),
            reason = self.refusal.as_ref().map(ToString::to_string),
            "request"
        );
    }
}

impl Meters {
    fn resolve(mut labels: Vec<Label>, protocol: &'static str, status: u16, flags: &'static str) -> Self {
        labels.push(Label::from_static_parts("request_protocol", protocol));
        labels.push(Label::new("response_code", status.to_string()));
        labels.push(Label::from_static_parts("response_flags", flags));
        Self {
            requests: metrics::counter!("istio_requests_total", labels.clone()),
            duration: metrics::histogram!("istio_request_duration_milliseconds", labels.clone()),
            request_bytes: metrics::counter!("istio_request_bytes_total", labels.clone()),
            response_bytes: metrics::counter!("istio_response_bytes_total", labels),
        }
    }
}

/// At most 512 bytes of a path, cut between characters.
fn shortened(path: &str) -> &str {
    let end = (0..=512.min(path.len()))
        .rev()
        .find(|at| path.is_char_boundary(*at))
        .unwrap_or(0);
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::shortened;

    #[test]
    fn a_long_path_is_cut_between_characters() {
        assert_eq!(shortened("/a"), "/a");
        let long = "é".repeat(400);
        assert_eq!(shortened(&long).len(), 512);
        assert_eq!(shortened(&format!("a{long}")).len(), 511);
    }
}
