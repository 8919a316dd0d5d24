//! What Prometheus is told of our metrics: those of this library; each binary describes its own.

pub(super) const COUNTERS: &[(&str, &str)] = &[
    ("istio_tcp_connections_opened_total", "Connections that opened"),
    (
        "istio_tcp_connections_closed_total",
        "Connections that had opened and ended, however that was",
    ),
    (
        "istio_tcp_connections_failed_total",
        "Connections refused before they opened, by reason (response_flags)",
    ),
    (
        "istio_tcp_sent_bytes_total",
        "Bytes from clients to servers, counted while they flow",
    ),
    (
        "istio_tcp_received_bytes_total",
        "Bytes from servers to clients, counted while they flow",
    ),
    (
        "weft_connections_ended_total",
        "Connections that had opened and ended, by outcome and, where a change cut them, reason",
    ),
    ("istio_requests_total", "Requests answered"),
    ("istio_request_bytes_total", "Bytes of requests' bodies"),
    ("istio_response_bytes_total", "Bytes of responses' bodies"),
    (
        "weft_dry_run_denials_total",
        "Connections and requests that a dry-run policy would have refused, by policy",
    ),
    (
        "weft_connections_refused_total",
        "Connections, streams, requests and queries refused because a bound was reached, by bound",
    ),
    (
        "weft_flows_slowed_total",
        "Times a flow was given less than it would have taken because a bound was reached, by bound",
    ),
    (
        "weft_forgotten_early_total",
        "Times something was forgotten early because a bound was reached, by bound",
    ),
    (
        "weft_access_log_lines_dropped_total",
        "Access log lines beyond --access-log-rate, of flows that ended and of those refused or cut",
    ),
    (
        "weft_log_lines_dropped_total",
        "Log lines that found the queue (--log-queue) full, or no room where our output is written to",
    ),
    (
        "weft_metric_series_overflowed_total",
        "Flows without a place among the series (--metric-series), by family",
    ),
    (
        "weft_accept_pauses_total",
        "Pauses in accepting connections for want of descriptors or memory, by port",
    ),
    (
        "weft_cert_fetch_failures_total",
        "Certificates that could not be had, by reason",
    ),
    (
        "weft_config_watch_failures_total",
        "Watches of the API server that failed, by kind and reason",
    ),
];

const GAUGES: &[(&str, &str)] = &[
    ("istio_tcp_sockets_open", "Connections open now, by reporter"),
    ("weft_metric_series", "Label sets held, by family"),
    ("weft_certs_held", "Identities whose certificates this process holds"),
    ("weft_config_objects", "Objects known, by kind"),
    ("weft_config_connected", "1 while a kind is watched"),
    (
        "weft_config_last_heard_timestamp_seconds",
        "When the API server last told of a kind, in seconds since 1970",
    ),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    (
        "istio_request_duration_milliseconds",
        "From a request's head to the end of its response",
    ),
    (
        "weft_config_lag_milliseconds",
        "From the arrival of a change to its being in force",
    ),
];

/// Describes them to the recorder that is installed.
pub(super) fn describe() {
    for (name, what) in COUNTERS {
        metrics::describe_counter!(*name, *what);
    }
    for (name, what) in GAUGES {
        metrics::describe_gauge!(*name, *what);
    }
    for (name, what) in HISTOGRAMS {
        metrics::describe_histogram!(*name, *what);
    }
}
