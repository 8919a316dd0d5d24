//! What became of the requests: told by the client in ticks, summed up by the world.

use std::{collections::BTreeMap, time::Duration};

use act::process::Failure;
use serde::{Deserialize, Serialize};

use crate::{
    observe::Log,
    world::{Process, World},
};

/// A tenth of a second of load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// When it ended, milliseconds since 1970.
    pub at: u64,
    /// Answered requests by the first two words of the answer.
    pub answers: BTreeMap<String, u64>,
    /// Of the answered requests, those on a connection used before.
    pub kept: u64,
    /// Failed requests by reason.
    pub failures: BTreeMap<String, u64>,
    /// Kept connections found closed, between two requests.
    pub closed: u64,
    /// Bytes of downloads.
    pub downloaded: u64,
    /// Milliseconds that the slowest answer took.
    #[serde(default)]
    pub slowest: u64,
    /// Whether the client ended after it, of its own accord and with no request under way.
    #[serde(default)]
    pub last: bool,
}

/// Ticks in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Each tenth of a second.
    pub ticks: Vec<Tick>,
}

/// A client process in a pod.
#[derive(Debug)]
pub struct Load {
    process: Process,
    log: Log,
    report: Report,
}

/// Different reasons kept apart in one tick; those beyond count as one.
const MOST_REASONS: usize = 20;

impl Tick {
    pub(super) fn answered(&mut self, word: &str, kept: bool, took: Duration) {
        count(&mut self.answers, word);
        self.kept += u64::from(kept);
        self.slowest = self.slowest.max(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
    }

    pub(super) fn failed(&mut self, why: &str) {
        count(&mut self.failures, why);
    }
}

impl Report {
    /// What a client's output tells; lines that are no ticks are passed over.
    pub fn read(output: &str) -> Self {
        Self {
            ticks: output
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect(),
        }
    }

    /// Whether the client told it to its end.
    pub fn is_whole(&self) -> bool {
        self.ticks.last().is_some_and(|tick| tick.last)
    }

    /// Milliseconds that the slowest answer took.
    pub fn slowest(&self) -> u64 {
        self.ticks.iter().map(|tick| tick.slowest).max().unwrap_or(0)
    }

    /// When requests failed: milliseconds since 1970 of the first ticks with a failure.
    pub fn failed_at(&self) -> Vec<u64> {
        let failed = self.ticks.iter().filter(|tick| !tick.failures.is_empty());
        failed.map(|tick| tick.at).take(5).collect()
    }

    /// When the last request failed: milliseconds since 1970, about.
    pub fn last_failed_at(&self) -> Option<u64> {
        let mut failed = self.ticks.iter().rev().filter(|tick| !tick.failures.is_empty());
        failed.next().map(|tick| tick.at)
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.ticks.iter().flat_map(|tick| tick.answers.values()).sum()
    }

    /// Requests that failed.
    pub fn failed(&self) -> u64 {
        self.ticks.iter().flat_map(|tick| tick.failures.values()).sum()
    }

    /// Kept connections found closed.
    pub fn closed(&self) -> u64 {
        self.ticks.iter().map(|tick| tick.closed).sum()
    }

    /// Bytes of downloads.
    pub fn downloaded(&self) -> u64 {
        self.ticks.iter().map(|tick| tick.downloaded).sum()
    }

    /// How often an answer began with this.
    pub fn answers(&self, words: &str) -> u64 {
        let all = self.ticks.iter().flat_map(|tick| &tick.answers);
        all.filter(|(answer, _)| answer.starts_with(words))
            .map(|(_, count)| count)
            .sum()
    }

    /// Why requests failed, most frequent first; empty when none did.
    pub fn reasons(&self) -> String {
        let mut reasons = BTreeMap::new();
        for (why, count) in self.ticks.iter().flat_map(|tick| &tick.failures) {
            *reasons.entry(why).or_insert(0) += count;
        }
        let mut reasons: Vec<_> = reasons.into_iter().collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let told: Vec<_> = reasons
            .iter()
            .take(3)
            .map(|(why, count)| format!("{count}× {why}"))
            .collect();
        told.join("; ")
    }

    /// One phrase of everything.
    pub fn summary(&self) -> String {
        let mut text = format!("{} answered, {} failed", self.answered(), self.failed());
        if self.closed() > 0 {
            text += &format!(", {} connections closed in between", self.closed());
        }
        if self.failed() > 0 {
            text += &format!(" ({})", self.reasons());
        }
        text
    }

    /// What ended after this time (milliseconds since 1970).
    pub fn since(&self, at: u64) -> Self {
        Self {
            ticks: self.ticks.iter().filter(|tick| tick.at > at).cloned().collect(),
        }
    }

    /// What ended until this time.
    pub fn until(&self, at: u64) -> Self {
        Self {
            ticks: self.ticks.iter().filter(|tick| tick.at <= at).cloned().collect(),
        }
    }
}

impl Load {
    /// Starts a client in a pod; `words` are the arguments of `weft-demo load`. `name` is that of its log.
    ///
    /// # Errors
    /// When there is no such pod or the client cannot be started.
    pub async fn start(world: &World, pod: &str, name: &str, words: &[&str]) -> Result<Self, Failure> {
        let exe = std::env::current_exe().map_err(|error| Failure(format!("this program cannot be found: {error}")))?;
        let exe = exe.display().to_string();
        let words = [&[&*exe, "load"], words].concat();
        let log = Log::from_end(world.run_directory().log(name));
        Ok(Self {
            process: world.spawn_in(pod, name, &words).await?,
            log,
            report: Report::default(),
        })
    }

    /// What became of its requests until now.
    pub fn report(&mut self) -> &Report {
        let ticks = self.log.lines();
        let ticks = ticks.iter().filter_map(|line| serde_json::from_str(line).ok());
        self.report.ticks.extend(ticks);
        &self.report
    }

    /// Waits until it ended by itself, or kills it at the deadline; answers what became of its requests.
    pub async fn finish(mut self, deadline: Duration) -> Report {
        let end = tokio::time::Instant::now() + deadline;
        while self.process.ended().is_none() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.stop().await
    }

    /// Kills it, once its last tick is told, and answers what became of its requests.
    pub async fn stop(mut self) -> Report {
        tokio::time::sleep(Duration::from_millis(150)).await;
        self.process.kill().await;
        self.report().clone()
    }
}

fn count(counts: &mut BTreeMap<String, u64>, key: &str) {
    let key = if counts.len() < MOST_REASONS || counts.contains_key(key) {
        key
    } else {
        "others"
    };
    *counts.entry(key.to_owned()).or_insert(0) += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_sums_its_ticks_and_tells_the_most_frequent_reason_first() {
        let mut first = Tick {
            at: 100,
            closed: 1,
            ..Tick::default()
        };
        first.answered("web v1", false, Duration::from_millis(3));
        first.answered("web v2", true, Duration::from_millis(7));
        first.failed("rare");
        let mut second = Tick {
            at: 200,
            ..Tick::default()
        };
        second.failed("often");
        second.failed("often");
        let report = Report {
            ticks: vec![first, second],
        };
        assert_eq!((report.answered(), report.failed(), report.answers("web")), (2, 3, 2));
        assert_eq!(report.reasons(), "2× often; 1× rare");
        assert_eq!((report.slowest(), report.failed_at()), (7, vec![100, 200]));
        assert_eq!((report.since(100).failed(), report.until(100).failed()), (2, 1));
    }

    #[test]
    fn a_report_is_whole_only_with_the_clients_last_word() {
        let tick = serde_json::to_string(&Tick::default()).unwrap();
        let last = serde_json::to_string(&Tick {
            last: true,
            ..Tick::default()
        });
        let last = last.unwrap();
        assert!(!Report::read(&format!("{tick}\nnoise\n")).is_whole());
        let whole = Report::read(&format!("noise\n{tick}\n{last}\n"));
        assert!(whole.is_whole() && whole.ticks.len() == 2);
    }

    #[test]
    fn reasons_of_one_tick_are_bounded() {
        let mut tick = Tick::default();
        (0..100).for_each(|index| tick.failed(&format!("reason {index}")));
        assert_eq!(tick.failures.len(), MOST_REASONS + 1);
        assert_eq!(tick.failures.values().sum::<u64>(), 100);
    }
}
