//! Point 10, too: Prometheus' own judge reads what each process tells it.

use std::time::Duration;

use super::{Bench, Point};
use crate::{observe::admin, world::finish};

const JUDGE: Duration = Duration::from_secs(20);
/// What the judge may find: Istio's name of it, which dashboards know.
const KNOWN: &str = "istio_request_duration_milliseconds use base unit \"seconds\" instead of \"milliseconds\"";
/// The same of our own that follow it.
const OURS: &str = "weft_config_lag_milliseconds use base unit \"seconds\" instead of \"milliseconds\"";

/// `promtool check metrics` of every kind of process, while there was traffic.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    if !bench.promtool.exists() {
        let seen = format!("{} is not there; `make demo` installs it", bench.promtool.display());
        point.assert("Prometheus reads our metrics", "promtool", seen, false);
        return;
    }
    let program = bench.promtool.display().to_string();
    for process in [
        "ztunnel-node-1",
        "ztunnel-node-2",
        "weft-cni-node-1",
        "shop.waypoint",
        "ca",
    ] {
        let law = format!("Prometheus reads the metrics of {process}");
        let socket = bench.world.run_directory().socket(process);
        let Some(page) = point.step(&law, admin(&socket, "/metrics").await) else {
            continue;
        };
        let judged = finish(&[&program, "check", "metrics"], &page, JUDGE).await;
        let Some(judged) = point.step(&law, judged) else {
            continue;
        };
        let said = format!("{}{}", judged.stdout, judged.stderr);
        let found: Vec<_> = said
            .lines()
            .filter(|line| !line.is_empty() && *line != KNOWN && *line != OURS)
            .collect();
        point.equal(&law, "", &*found.join("; "));
        let told = page.lines().any(|line| !line.starts_with('#'));
        point.assert(&law, "at least one series", told, told);
    }
}
