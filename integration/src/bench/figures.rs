//! What was measured, round by round, and what is told of it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Case, Metric, Subject};

/// Every figure of a run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures(BTreeMap<(Case, Metric, Subject), Vec<f64>>);

/// One figure, as `results.json` tells it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    case: &'static str,
    subject: &'static str,
    metric: &'static str,
    value: f64,
}

impl Figures {
    /// Keeps one round's figure; what is no number is none.
    pub fn add(&mut self, case: Case, subject: Subject, metric: Metric, value: f64) {
        if value.is_finite() {
            self.0.entry((case, metric, subject)).or_default().push(value);
        }
    }

    /// The median of the rounds.
    pub fn median(&self, case: Case, metric: Metric, subject: Subject) -> Option<f64> {
        let mut values = self.0.get(&(case, metric, subject))?.clone();
        values.sort_by(f64::total_cmp);
        let (low, high) = (values.get((values.len() - 1) / 2)?, values.get(values.len() / 2)?);
        Some(low.midpoint(*high))
    }

    /// Ours over another's.
    pub fn ratio(&self, case: Case, metric: Metric, other: Subject) -> Option<f64> {
        let other = self.median(case, metric, other).filter(|value| *value > 0.0)?;
        Some(self.median(case, metric, Subject::Weft)? / other)
    }

    /// Which figures of a case there are.
    pub fn metrics(&self, case: Case) -> Vec<Metric> {
        let mut metrics: Vec<_> = self.0.keys().filter(|key| key.0 == case).map(|key| key.1).collect();
        metrics.dedup();
        metrics
    }

    /// These figures without some cases and some metrics.
    pub fn without(&self, cases: &[Case], metrics: &[Metric]) -> Self {
        let kept = |key: &(Case, Metric, Subject)| !cases.contains(&key.0) && !metrics.contains(&key.1);
        let all = self.0.iter().filter(|(key, _)| kept(key));
        Self(all.map(|(key, values)| (*key, values.clone())).collect())
    }

    /// Medians, in the order of cases, metrics and subjects.
    pub fn told(&self) -> Vec<Told> {
        let all = self.0.keys().filter_map(|(case, metric, subject)| {
            Some(Told {
                case: case.name(),
                subject: subject.name(),
                metric: metric.name(),
                value: self.median(*case, *metric, *subject)?,
            })
        });
        all.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_the_rounds_is_told_and_a_ratio_is_ours_over_theirs() {
        let mut figures = Figures::default();
        for value in [1.0, 9.0, 2.0, f64::NAN] {
            figures.add(Case::Http1, Subject::Weft, Metric::P50, value);
        }
        figures.add(Case::Http1, Subject::Direct, Metric::P50, 4.0);
        assert_eq!(figures.ratio(Case::Http1, Metric::P50, Subject::Direct), Some(0.5));
        assert_eq!(figures.ratio(Case::Http1, Metric::P50, Subject::Envoy), None);
        let told = serde_json::to_value(figures.told()).unwrap();
        let first = serde_json::json!({"case": "http-1", "subject": "direct", "metric": "p50_ms", "value": 4.0});
        assert_eq!(told[0], first);
        assert_eq!(told.as_array().map(Vec::len), Some(2));
    }
}
