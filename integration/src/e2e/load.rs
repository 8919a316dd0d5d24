//! Load from a pod of the cluster: `weft-load client` runs in it, and its log is the report.

use std::{collections::BTreeMap, time::Duration};

use act::process::Failure;
use serde_json::json;
use tokio::time::Instant;

use super::{
    cluster::{Cluster, text, until},
    manifests::IMAGE,
    mesh::{self, Mark, ZTUNNELS},
};
use crate::{
    check::Point,
    load::{Report, unix_milliseconds},
};

/// New connections a second, as the promises say.
pub(super) const RATE: u32 = 50;
/// How long a request may take before it counts as failed.
const PATIENCE: &str = "10s";
/// How long a pod may take to start, and a client to end once it is asked.
const POD: Duration = Duration::from_secs(60);
/// How long the log of a client that ended may take to be whole.
const LOG: Duration = Duration::from_secs(20);

/// A client in a pod of its own, under way.
#[derive(Debug)]
pub(super) struct PodLoad {
    cluster: Cluster,
    namespace: String,
    pod: String,
    begun: Mark,
    running: Instant,
    running_at: u64,
}

/// Where load comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct From<'a> {
    pub(super) namespace: &'a str,
    pub(super) account: &'a str,
    pub(super) node: &'a str,
}

/// What came of load, and for how long it was made.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) report: Report,
    pub(super) lasted: Duration,
    /// When the first answer was seen, milliseconds since 1970: what is told must begin before.
    pub(super) running_at: u64,
    /// Where requests failed: what the ztunnels say of this client's connections, each reason with its number.
    reasons: Vec<String>,
}

impl PodLoad {
    /// Starts a client of new connections at [`RATE`] and waits for its first answer.
    pub(super) async fn start(cluster: &Cluster, from: From<'_>, name: &str, url: &str) -> Result<Self, Failure> {
        let rate = RATE.to_string();
        Self::start_with(cluster, from, name, &[url, "--rate", &rate]).await
    }

    /// Starts a client with these words of `weft-load client` and waits for its first answer.
    pub(super) async fn start_with(
        cluster: &Cluster,
        from: From<'_>,
        name: &str,
        words: &[&str],
    ) -> Result<Self, Failure> {
        let command = [&["weft-load", "client"], words, &["--patience", PATIENCE]].concat();
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": from.namespace, "labels": {"app": name}},
            "spec": {
                "serviceAccountName": from.account,
                "nodeSelector": {"kubernetes.io/hostname": from.node},
                "restartPolicy": "Never",
                "terminationGracePeriodSeconds": 15,
                "containers": [{"name": "load", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": command}],
            },
        });
        cluster.apply(&pod.to_string()).await?;
        let mut load = Self {
            cluster: cluster.clone(),
            namespace: from.namespace.to_owned(),
            pod: name.to_owned(),
            begun: Mark::now(),
            running: Instant::now(),
            running_at: unix_milliseconds(),
        };
        if until(POD, || async {
            load.report()
                .await
                .is_ok_and(|report| report.answered() + report.downloaded() > 0)
        })
        .await
        {
            (load.running, load.running_at) = (Instant::now(), unix_milliseconds());
            return Ok(load);
        }
        let seen = load
            .report()
            .await
            .map(|report| report.summary())
            .unwrap_or_else(|failure| failure.0);
        Err(Failure(format!("load {name} gets no answer: {seen}")))
    }

    /// What became of its requests until now.
    pub(super) async fn report(&self) -> Result<Report, Failure> {
        Ok(Report::read(&self.cluster.logs(&self.namespace, &self.pod).await?))
    }

    /// Ends it, once all under way are told, and answers what became of its requests.
    pub(super) async fn stop(self) -> Result<Outcome, Failure> {
        let lasted = self.running.elapsed();
        let kill = ["kill", "-TERM", "1"];
        self.cluster.exec(&self.namespace, &self.pod, &kill).await?;
        let ended = || async {
            let pod = self.cluster.get(&["pod", "-n", &self.namespace, &self.pod]).await;
            pod.is_ok_and(|pod| matches!(&*text(&pod, "/status/phase"), "Succeeded" | "Failed"))
        };
        if !until(POD, ended).await {
            return Err(Failure(format!("load {} does not end when it is asked to", self.pod)));
        }
        // A kubelet may tell of the end before its log is there to the last line: what is not whole then stays so.
        let whole = || async { self.report().await.is_ok_and(|report| report.is_whole()) };
        until(LOG, whole).await;
        let report = self.report().await?;
        let reasons = match report.failed() {
            0 => Vec::new(),
            _ => self.reasons().await,
        };
        let words = ["delete", "pod", "-n", &*self.namespace, &*self.pod, "--wait=false"];
        self.cluster.kubectl(&words).await?;
        Ok(Outcome {
            report,
            lasted,
            running_at: self.running_at,
            reasons,
        })
    }

    /// What ztunnels that still run say of this client's connections that came to nothing.
    async fn reasons(&self) -> Vec<String> {
        let events = mesh::events(&self.cluster, ZTUNNELS, "access", &self.begun).await;
        let mut reasons = BTreeMap::<String, usize>::new();
        for event in events.unwrap_or_default() {
            let reason = event.field("reason");
            if event.is("src.workload", &self.pod) && !reason.is_empty() {
                *reasons.entry(reason).or_default() += 1;
            }
        }
        reasons
            .into_iter()
            .map(|(reason, number)| format!("{number}× {reason}"))
            .collect()
    }
}

impl Outcome {
    /// Whether the client told everything, kept its rate and failed no request.
    pub(super) fn is_flawless(&self) -> bool {
        self.report.is_whole() && self.report.failed() == 0 && self.kept_its_rate()
    }

    /// Nine tenths of what it should have asked: a pod takes a moment to start, and this is no benchmark.
    fn kept_its_rate(&self) -> bool {
        let asked = self.report.answered() + self.report.failed();
        let first = self.report.ticks.first().map_or(u64::MAX, |tick| tick.at);
        let last = self.report.ticks.last().map_or(first, |tick| tick.at);
        // A log whose beginning is lost would hide what failed there.
        first <= self.running_at && asked * 10_000 >= last.saturating_sub(first) * u64::from(RATE) * 9
    }

    /// One phrase of everything.
    pub(super) fn phrase(&self) -> String {
        let mut text = format!(
            "{} in {} s, slowest {} ms",
            self.report.summary(),
            self.lasted.as_secs(),
            self.report.slowest()
        );
        if !self.report.is_whole() {
            text += ", not told to its end";
        }
        if !self.kept_its_rate() {
            text += ", fewer than its rate";
        }
        let failed = self.report.failed_at();
        if !failed.is_empty() {
            let at: Vec<_> = failed
                .iter()
                .map(|at| format!("{:.1} s", seconds(at.saturating_sub(self.running_at))))
                .collect();
            text += &format!(", first at {}", at.join(", "));
        }
        if !self.reasons.is_empty() {
            text += &format!("; the ztunnels say: {}", self.reasons.join("; "));
        }
        text
    }
}

/// Asserts that load was flawless.
pub(super) fn flawless(point: &mut Point, law: &str, outcome: Result<Outcome, Failure>) {
    if let Some(outcome) = point.step(law, outcome) {
        point.assert(law, "0 failed", outcome.phrase(), outcome.is_flawless());
    }
}

#[allow(clippy::cast_precision_loss, reason = "a time for people, of a few minutes")]
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Tick;

    fn outcome(seconds: u64, answered: u64, failed: u64, last: bool) -> Outcome {
        let tick = |at, last| Tick {
            at,
            last,
            ..Tick::default()
        };
        let mut first = tick(1_000, false);
        first.answers.insert("web".into(), answered);
        if failed > 0 {
            first.failures.insert("reset".into(), failed);
        }
        Outcome {
            report: Report {
                ticks: vec![first, tick(1_000 + seconds * 1_000, last)],
            },
            lasted: Duration::from_secs(seconds),
            running_at: 1_500,
            reasons: Vec::new(),
        }
    }

    #[test]
    fn load_is_flawless_only_when_whole_at_its_rate_and_without_failure() {
        assert!(outcome(10, 500, 0, true).is_flawless());
        assert!(!outcome(10, 500, 1, true).is_flawless());
        assert!(!outcome(10, 500, 0, false).is_flawless());
        assert!(!outcome(10, 400, 0, true).is_flawless());
        assert!(outcome(10, 400, 0, true).phrase().contains("fewer than its rate"));
        let late = Outcome {
            running_at: 900,
            ..outcome(10, 500, 0, true)
        };
        assert!(!late.is_flawless());
        assert!(outcome(10, 499, 1, true).phrase().contains("first at 0.0 s"));
    }
}
