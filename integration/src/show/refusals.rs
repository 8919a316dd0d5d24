//! What was refused and why, read off the access logs.

use std::collections::BTreeMap;

use crate::observe::Event;

/// Different refusals that are kept; the one not heard of for longest goes.
const MOST: usize = 200;

/// Refusals of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Refused {
    /// Who asked.
    pub(super) from: String,
    /// For what.
    pub(super) to: String,
    /// Who refused: a process.
    pub(super) by: String,
    /// Why, one sentence.
    pub(super) why: String,
    /// How often.
    pub(super) count: u64,
    /// When it was heard of last, as the order of hearing.
    heard: u64,
}

/// Everything that was refused.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    kinds: BTreeMap<(String, String, String, String), Refused>,
    heard: u64,
}

impl Refusals {
    /// Takes an event of a process' access log.
    pub(super) fn hear(&mut self, process: &str, event: &Event) {
        if event.field("refusal").is_empty() {
            return;
        }
        self.heard += 1;
        let from = name(event, "src");
        let to = [event.field("dst.service"), name(event, "dst")]
            .into_iter()
            .find(|it| !it.is_empty())
            .unwrap_or_default();
        let request = format!("{} {}", event.field("method"), event.field("path"));
        let to = format!("{to} {}", request.trim()).trim().to_owned();
        let why = event.field("reason");
        let key = (from.clone(), to.clone(), process.to_owned(), why.clone());
        let kind = self.kinds.entry(key).or_insert_with(|| Refused {
            from,
            to,
            by: process.to_owned(),
            why,
            ..Refused::default()
        });
        kind.count += 1;
        kind.heard = self.heard;
        if self.kinds.len() > MOST {
            let oldest = self
                .kinds
                .iter()
                .min_by_key(|(_, kind)| kind.heard)
                .map(|(key, _)| key.clone());
            oldest.map(|key| self.kinds.remove(&key));
        }
    }

    /// All of them, by who asked for what.
    pub(super) fn latest(&self) -> Vec<Refused> {
        let mut kinds: Vec<_> = self.kinds.values().cloned().collect();
        kinds.sort_by(|a, b| (&a.from, &a.to, &a.by).cmp(&(&b.from, &b.to, &b.by)));
        kinds
    }
}

/// A party by its workload, else by its address without port.
fn name(event: &Event, side: &str) -> String {
    let workload = event.field(&format!("{side}.workload"));
    if workload.is_empty() {
        let address = event.field(&format!("{side}.addr"));
        address
            .rsplit_once(':')
            .map_or_else(|| address.clone(), |(host, _)| host.to_owned())
    } else {
        workload
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(source: &str, reason: &str) -> Event {
        let line = format!(
            r#"{{"target":"access","src.workload":"{source}","dst.service":"shop/orders","refusal":"DENY","reason":"{reason}"}}"#
        );
        Event::parse(&line).unwrap()
    }

    #[test]
    fn equal_refusals_are_one_line_with_a_count() {
        let mut refusals = Refusals::default();
        refusals.hear("ztunnel-node-2", &event("guest", "denied by A"));
        refusals.hear("ztunnel-node-2", &event("guest", "denied by A"));
        refusals.hear("ztunnel-node-2", &event("guest", "denied by B"));
        let told = refusals.latest();
        assert_eq!(told.len(), 2);
        assert_eq!(
            (told[0].count, &*told[0].from, &*told[0].to),
            (2, "guest", "shop/orders")
        );
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut refusals = Refusals::default();
        (0..300).for_each(|index| refusals.hear("z", &event(&format!("c{index}"), "no")));
        assert_eq!(refusals.latest().len(), MOST);
    }
}
