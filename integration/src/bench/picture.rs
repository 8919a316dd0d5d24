//! The picture: every case's leading figure as bars, the longest the best of its case.

use std::fmt::Write as _;

use super::{Case, Figures, Metric, Subject};

/// What is drawn, and what it is called. Where less is better the bar says how much less.
const DRAWN: [(Case, Metric, &str); 9] = [
    (Case::Throughput1, Metric::GbitPerS, "throughput, 1 stream"),
    (Case::Throughput4, Metric::GbitPerS, "throughput, 4 streams"),
    (Case::Throughput16, Metric::GbitPerS, "throughput, 16 streams"),
    (Case::Throughput4, Metric::CpuPerGb, "bytes per CPU second, 4 streams"),
    (Case::Http64, Metric::RequestsPerS, "requests, 64 connections"),
    (Case::Http64, Metric::CpuPer10k, "requests per CPU second"),
    (Case::NewConnections, Metric::ConnectionsPerS, "new connections"),
    (Case::Handshakes, Metric::ConnectionsPerS, "full mutual TLS handshakes"),
    (Case::SameNode, Metric::GbitPerS, "same node, 1 stream (direct = 1)"),
];
const DRAWN_SUBJECTS: [(Subject, &str); 3] = [
    (Subject::Haproxy, "#9aa5b1"),
    (Subject::Envoy, "#c9b3d9"),
    (Subject::Weft, "#1f7a6d"),
];
const LABELS: f64 = 250.0;
const BARS: f64 = 420.0;
const BAR: f64 = 12.0;

/// An SVG: for each case the peers' and our rates over HAProxy's, which is 1.
pub(super) fn draw(figures: &Figures, head: &str) -> String {
    let drawn: Vec<_> = DRAWN
        .iter()
        .map(|(case, metric, name)| (*name, rates(figures, *case, *metric)))
        .filter(|(_, rates)| !rates.is_empty())
        .collect();
    let most = drawn
        .iter()
        .flat_map(|(_, rates)| rates.iter().map(|(_, _, rate)| *rate))
        .fold(1.0, f64::max);
    // One that is far ahead must not press the others flat.
    let most = f64::min(most, 6.0);
    let mut body = String::new();
    let mut y = 64.0;
    for (name, rates) in &drawn {
        let middle = y + BAR * rates.len() as f64 / 2.0 + 4.0;
        let _ = writeln!(
            body,
            r#"<text x="{}" y="{middle:.0}" text-anchor="end">{name}</text>"#,
            LABELS - 10.0
        );
        for (_, colour, rate) in rates {
            let width = BARS * f64::min(*rate, most) / most;
            let _ = writeln!(
                body,
                r#"<rect x="{LABELS}" y="{y:.0}" width="{width:.1}" height="{}" fill="{colour}"/><text x="{:.1}" y="{:.0}" class="n">{rate:.2}</text>"#,
                BAR - 1.0,
                LABELS + width + 5.0,
                y + BAR - 2.5
            );
            y += BAR;
        }
        y += 10.0;
    }
    let one = LABELS + BARS / most;
    let mut legend = String::new();
    for (at, (subject, colour)) in DRAWN_SUBJECTS.iter().enumerate() {
        let x = LABELS + 110.0 * at as f64;
        let _ = writeln!(
            legend,
            r#"<rect x="{x}" y="38" width="11" height="11" fill="{colour}"/><text x="{}" y="48">{}</text>"#,
            x + 16.0,
            subject.name()
        );
    }
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="740" height="{height:.0}" viewBox="0 0 740 {height:.0}" font-family="sans-serif" font-size="12" fill="#333">
<style>.n{{font-size:10px;fill:#555}}</style>
<rect width="740" height="{height:.0}" fill="#fff"/>
<text x="14" y="22" font-size="13">{head}</text>
{legend}<line x1="{one:.1}" x2="{one:.1}" y1="56" y2="{y:.0}" stroke="#999" stroke-dasharray="3 3"/>
{body}</svg>
"##,
        height = y + 6.0
    )
}

/// Rates over HAProxy's, more is better.
fn rates(figures: &Figures, case: Case, metric: Metric) -> Vec<(Subject, &'static str, f64)> {
    // On one node nobody stands between but the packets themselves.
    let one = if case == Case::SameNode {
        Subject::Direct
    } else {
        Subject::Haproxy
    };
    let Some(one) = figures.median(case, metric, one).filter(|one| *one > 0.0) else {
        return Vec::new();
    };
    let rate = |(subject, colour): &(Subject, &'static str)| {
        let value = figures.median(case, metric, *subject).filter(|value| *value > 0.0)?;
        let rate = if metric.more_is_better() {
            value / one
        } else {
            one / value
        };
        Some((*subject, *colour, rate))
    };
    DRAWN_SUBJECTS.iter().filter_map(rate).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_costs_less_has_the_longer_bar_and_what_was_not_measured_has_none() {
        let mut figures = Figures::default();
        figures.add(Case::Http64, Subject::Haproxy, Metric::CpuPer10k, 0.4);
        figures.add(Case::Http64, Subject::Weft, Metric::CpuPer10k, 0.2);
        let svg = draw(&figures, "a run");
        assert!(svg.contains(">2.00<") && svg.contains(">1.00<"));
        assert!(svg.contains("requests per CPU second") && !svg.contains("new connections"));
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }
}
