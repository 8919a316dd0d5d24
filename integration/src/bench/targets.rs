//! What the figures should be, as ratios inside one run or as bounds of ours.

use super::{Case, Figures, Metric, Subject};

/// A promise about one figure.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Of which case.
    pub case: Case,
    /// Which figure.
    pub metric: Metric,
    /// Over whose; ours as it is without one.
    pub against: Option<Subject>,
    /// What is promised.
    pub bound: Bound,
}

/// Which way a figure is bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Not less.
    AtLeast(f64),
    /// Not more.
    AtMost(f64),
}

use Bound::{AtLeast, AtMost};
use Case::{
    Burst, Handshakes, Http64, Idle, Neighbour, NewConnections, SameNode, Throughput1, Throughput4, Throughput16,
};
use Subject::{Direct, Envoy, Haproxy};

const fn target(case: Case, metric: Metric, against: Option<Subject>, bound: Bound) -> Target {
    Target {
        case,
        metric,
        against,
        bound,
    }
}

/// All of them.
pub const TARGETS: [Target; 17] = [
    target(Throughput1, Metric::GbitPerS, Some(Haproxy), AtLeast(0.8)),
    target(Throughput4, Metric::GbitPerS, Some(Haproxy), AtLeast(1.05)),
    target(Throughput16, Metric::GbitPerS, Some(Haproxy), AtLeast(1.05)),
    target(Throughput4, Metric::CpuPerGb, Some(Haproxy), AtMost(0.85)),
    target(Http64, Metric::RequestsPerS, Some(Haproxy), AtLeast(1.2)),
    target(Http64, Metric::CpuPer10k, Some(Haproxy), AtMost(0.6)),
    target(Handshakes, Metric::ConnectionsPerS, Some(Haproxy), AtLeast(1.0)),
    target(Http64, Metric::P99, Some(Direct), AtMost(6.0)),
    target(NewConnections, Metric::ConnectionsPerS, Some(Direct), AtLeast(0.33)),
    target(SameNode, Metric::GbitPerS, Some(Direct), AtLeast(0.7)),
    // Requests per CPU second at least 1.5 times, told the other way round.
    target(Http64, Metric::CpuPer10k, Some(Envoy), AtMost(1.0 / 1.5)),
    target(Idle, Metric::RssMb, None, AtMost(8.0)),
    target(Idle, Metric::KbPerIdle, None, AtMost(3.0)),
    target(Idle, Metric::Held, None, AtLeast(10_000.0)),
    target(Throughput16, Metric::SlowestStream, None, AtLeast(0.1)),
    target(Neighbour, Metric::P99, Some(Direct), AtMost(1.5)),
    target(Burst, Metric::Worst, None, AtMost(1.5)),
];

impl Target {
    /// What was seen: the ratio, or the figure; `None` when it was not measured.
    pub fn seen(&self, figures: &Figures) -> Option<f64> {
        match self.against {
            Some(other) => figures.ratio(self.case, self.metric, other),
            None => figures.median(self.case, self.metric, Subject::Weft),
        }
    }

    /// Whether that keeps the promise.
    pub fn met(&self, seen: f64) -> bool {
        match self.bound {
            AtLeast(least) => seen >= least,
            AtMost(most) => seen <= most,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_holds_on_its_own_side_only() {
        let faster = target(Http64, Metric::RequestsPerS, Some(Haproxy), AtLeast(1.2));
        let cheaper = target(Http64, Metric::CpuPer10k, Some(Haproxy), AtMost(0.6));
        let mut figures = Figures::default();
        assert_eq!(faster.seen(&figures), None);
        for (metric, ours, theirs) in [(Metric::RequestsPerS, 130.0, 100.0), (Metric::CpuPer10k, 0.7, 1.0)] {
            figures.add(Http64, Subject::Weft, metric, ours);
            figures.add(Http64, Haproxy, metric, theirs);
        }
        assert!(faster.seen(&figures).is_some_and(|seen| faster.met(seen)));
        assert!(cheaper.seen(&figures).is_some_and(|seen| !cheaper.met(seen)));
    }
}
