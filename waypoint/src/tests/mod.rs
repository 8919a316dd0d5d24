//! A whole waypoint in this process: real sockets on loopback, real certificates, real servers behind.

mod limits;
mod opaque_bytes;
mod outside;
mod requests;
mod routing;
mod servers;
mod world;

use act::telemetry::Bound;
use metrics_exporter_prometheus::PrometheusRecorder;

/// How often a recorder was told that a bound was reached.
pub(crate) fn hits(recorder: &PrometheusRecorder, bound: Bound) -> u64 {
    let series = format!("{}{{bound=\"{}\"}} ", bound.metric(), bound.name);
    let text = recorder.handle().render();
    let value = text.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().expect("a number"))
}
