//! One page of the demo.

use serde_json::Value;

use super::{Table, refusals::Refused, talks::Talk};
use crate::observe::pcap::Seen;

/// Everything a page shows.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) talks: Vec<Talk>,
    pub(super) refusals: Vec<Refused>,
    pub(super) seen: Seen,
    /// As the page before saw it.
    pub(super) seen_before: Seen,
    /// By process, as its `/certs` tells.
    pub(super) certificates: Vec<(String, Value)>,
    /// As `/problems` tells.
    pub(super) problems: Vec<Value>,
    /// Processes that do not answer.
    pub(super) silent: Vec<String>,
    /// Processes that ended by themselves.
    pub(super) ended: Vec<String>,
    /// The run directory.
    pub(super) run: String,
    /// The directory that says what runs.
    pub(super) config: String,
    /// The command line's program.
    pub(super) weft: String,
}

impl Page {
    /// The page as text: the parts that matter most first, cut at the height of the screen.
    pub(super) fn render(&self, width: usize, height: Option<usize>) -> String {
        let parts = [
            self.who_talks(width),
            self.what_was_refused(width),
            self.what_crossed(width),
            self.what_is_wrong(width),
            self.who_is_who(width),
        ];
        let all = parts.concat();
        let Self { config, run, weft, .. } = self;
        let hint = format!(
            "Edit {config}/*.yaml and watch. Ask {weft} --run {run} why shop/guest web.shop:80 GET /admin. Ctrl-C ends it all."
        );
        let hint: String = hint.chars().take(width).collect();
        let most = height.map_or(usize::MAX, |height| height.saturating_sub(2));
        let mut lines: Vec<_> = all.lines().take(most).collect();
        lines.push(&hint);
        lines.join("\n") + "\n"
    }

    fn who_talks(&self, width: usize) -> String {
        let mut table = Table::new(&["FROM", "AS", "TO", "OVER", "CONNECTIONS", "REQUESTS", "REFUSED", ""]);
        for talk in &self.talks {
            let count = |count: u64| if count == 0 { String::new() } else { count.to_string() };
            table.row([
                &*talk.from,
                &talk.identity,
                &talk.to,
                &talk.over,
                &count(talk.connections),
                &count(talk.requests),
                &count(talk.refused),
                &talk.flags.join(" "),
            ]);
        }
        section("Who talks to whom", &table, width)
    }

    fn what_was_refused(&self, width: usize) -> String {
        let mut table = Table::new(&["FROM", "TO", "BY", "TIMES", "WHY"]);
        for kind in self.refusals.iter().take(12) {
            table.row([&*kind.from, &kind.to, &kind.by, &kind.count.to_string(), &kind.why]);
        }
        section("What was refused, and why", &table, width)
    }

    fn what_crossed(&self, width: usize) -> String {
        let mut table = Table::new(&["PORT", "WHAT", "CONNECTIONS", "BYTES", "MARKERS SEEN IN THE CLEAR"]);
        for (number, port) in self.seen.ports.iter().filter(|(_, port)| port.payload > 0) {
            let what = match (port.not_tls, port.unjudged) {
                (0, 0) => "TLS records only",
                (0, _) => "TLS records, as far as it can be told",
                _ => "plaintext",
            };
            let markers = self.seen.markers.iter().filter_map(|(marker, ports)| {
                let now = ports.get(number)?;
                let before = self
                    .seen_before
                    .markers
                    .get(marker)
                    .and_then(|it| it.get(number))
                    .unwrap_or(&0);
                Some(format!("{marker} {}", if now > before { "(now)" } else { "(earlier)" }))
            });
            let markers: Vec<_> = markers.collect();
            table.row([
                &*number.to_string(),
                what,
                &port.connections.to_string(),
                &port.payload.to_string(),
                &markers.join(", "),
            ]);
        }
        section("What a capture of the link between the nodes saw", &table, width)
    }

    fn what_is_wrong(&self, width: usize) -> String {
        let mut table = Table::new(&["WHERE", "WHAT"]);
        for problem in &self.problems {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let place = &problem["place"];
            let file = text(&place["file"]);
            let file = file.rsplit('/').next().unwrap_or_default();
            table.row([
                &*format!("{file}:{}", place["line"]),
                &format!(
                    "{} {}: {} {}",
                    text(&problem["object"]["name"]),
                    text(&problem["field"]),
                    text(&problem["what"]),
                    text(&problem["remedy"])
                ),
            ]);
        }
        for process in &self.silent {
            table.row([&**process, "does not answer"]);
        }
        for obituary in &self.ended {
            table.row(["ended", &**obituary]);
        }
        if table.is_empty() {
            return String::new();
        }
        section("What is wrong", &table, width)
    }

    fn who_is_who(&self, width: usize) -> String {
        let mut table = Table::new(&["HELD BY", "CERTIFICATE", "LIVES ANOTHER"]);
        for (process, certificate) in &self.certificates {
            let identity = certificate["identity"].as_str().unwrap_or_default();
            let left = match certificate["remainingSeconds"].as_u64() {
                Some(seconds) => format!("{} min {:02} s", seconds / 60, seconds % 60),
                None => certificate["missing"].as_str().unwrap_or("none").to_owned(),
            };
            table.row([&**process, identity.trim_start_matches("spiffe://"), &left]);
        }
        section("Certificates", &table, width)
    }
}

fn section(title: &str, table: &Table, width: usize) -> String {
    let body = if table.is_empty() {
        "  nothing yet\n".to_owned()
    } else {
        table.render(width)
    };
    format!("{title}\n{body}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_the_screen_and_keeps_its_hint() {
        let talk = Talk {
            from: "shop/client".into(),
            connections: 1,
            ..Talk::default()
        };
        let page = Page {
            talks: vec![talk; 50],
            config: "demo".into(),
            ..Page::default()
        };
        let text = page.render(60, Some(20));
        assert_eq!(text.lines().count(), 19);
        assert!(text.lines().last().unwrap().starts_with("Edit demo/*.yaml"));
        assert!(text.lines().all(|line| line.chars().count() <= 60));
    }

    #[test]
    fn a_marker_is_told_as_seen_now_only_while_it_is() {
        let seen = |count| {
            let mut seen = Seen::default();
            seen.ports.entry(80).or_default().payload = 9;
            seen.markers.entry("m".into()).or_default().insert(80, count);
            seen
        };
        let page = |before, now| Page {
            seen_before: seen(before),
            seen: seen(now),
            ..Page::default()
        };
        assert!(page(1, 2).what_crossed(80).contains("m (now)"));
        assert!(page(2, 2).what_crossed(80).contains("m (earlier)"));
    }
}
