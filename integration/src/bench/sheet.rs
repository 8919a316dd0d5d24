//! The table that is printed: figures with their ratios, then the targets.

use super::{Bound, Case, Figures, Metric, Subject, TARGETS, Target};
use crate::show::Table;

/// Every figure of every case, and ours over each of the others.
pub(super) fn figures(figures: &Figures) -> Table {
    let mut table = Table::new(&[
        "case",
        "figure",
        "direct",
        "haproxy",
        "envoy",
        "weft",
        "weft/haproxy",
        "weft/direct",
        "weft/envoy",
    ]);
    for case in Case::ALL {
        for metric in figures.metrics(case) {
            let value = |subject| figures.median(case, metric, subject).map_or_else(dash, short);
            let ratio = |other| {
                figures
                    .ratio(case, metric, other)
                    .map_or_else(dash, |it| format!("{it:.2}"))
            };
            let mut cells = vec![case.name().to_owned(), metric.name().to_owned()];
            cells.extend(Subject::ALL.map(value));
            cells.extend([Subject::Haproxy, Subject::Direct, Subject::Envoy].map(ratio));
            table.row(cells.iter().map(String::as_str));
        }
    }
    table
}

/// Every target that was measured, and how it was met.
pub(super) fn targets(figures: &Figures) -> Table {
    let mut table = Table::new(&["target", "bound", "seen", ""]);
    for target in TARGETS {
        if let Some(seen) = target.seen(figures) {
            let verdict = if target.met(seen) { "met" } else { "missed" };
            table.row([&*name(&target), &*bound(&target), &*short(seen), verdict]);
        }
    }
    table
}

/// What a target is about, in one phrase.
pub(super) fn name(target: &Target) -> String {
    let of = target.against.map(|other| format!(", weft/{}", other.name()));
    format!(
        "{} {}{}",
        target.case.name(),
        plain(target.metric),
        of.unwrap_or_default()
    )
}

fn bound(target: &Target) -> String {
    match target.bound {
        Bound::AtLeast(least) => format!(">= {}", short(least)),
        Bound::AtMost(most) => format!("<= {}", short(most)),
    }
}

fn plain(metric: Metric) -> &'static str {
    match metric {
        Metric::GbitPerS => "throughput",
        Metric::RequestsPerS => "requests a second",
        Metric::ConnectionsPerS => "connections a second",
        Metric::P50 => "p50",
        Metric::P90 => "p90",
        Metric::P99 => "p99",
        Metric::CpuPerGb => "CPU a GB",
        Metric::CpuPer10k => "CPU per 10,000 requests",
        Metric::RssMb => "RSS in MB",
        Metric::KbPerIdle => "kB per connection and side",
        Metric::SlowestStream => "slowest stream of an even share",
        Metric::Held => "connections held",
        Metric::RssAfter => "RSS after load in MB",
        Metric::Worst => "worst second's p99 over before",
        Metric::P99Alone => "p99 before",
    }
}

fn dash() -> String {
    "-".into()
}

/// Three figures that mean something, as people write them.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
