//! The mesh on the cluster: installed and removed by `weft`, its namespaces enabled, its logs read.

use std::time::{Duration, SystemTime};

use act::process::Failure;
use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, Pod, text, until},
    manifests::{SHOP, shop},
    stage::{MESH, Stage},
};
use crate::{
    observe::Event,
    world::{Finished, first_line},
};

/// How long leaves live in these tests, so that some are renewed while one looks.
pub(super) const LEAF_LIFE: Duration = Duration::from_secs(60);
/// The longest that installing, upgrading and removing may take.
const INSTALLATION: Duration = Duration::from_secs(200);
/// The longest that running pods may take to be captured, or released.
const CAPTURE: Duration = Duration::from_secs(60);
/// Enrols a namespace.
const MODE: &str = "weft.dev/dataplane-mode";

/// Whether a mesh is installed.
pub(super) async fn is_installed(cluster: &Cluster) -> bool {
    cluster.get(&["daemonset", "-n", MESH, "ztunnel"]).await.is_ok()
}

/// Whether a ztunnel is ready on every node that is to have one.
pub(super) async fn is_ready(cluster: &Cluster) -> bool {
    let found = cluster
        .get(&["daemonset", "-n", MESH, "ztunnel"])
        .await
        .unwrap_or_default();
    let number = |pointer| found.pointer(pointer).and_then(serde_json::Value::as_u64).unwrap_or(0);
    number("/status/numberReady") == number("/status/desiredNumberScheduled") && number("/status/numberReady") > 0
}

/// Installs the mesh by `weft install`, its leaves short-lived; answers how long that took.
pub(super) async fn install(cluster: &Cluster) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let life = format!("ca.leafLife={}s", LEAF_LIFE.as_secs());
    let finished = cluster.weft(&["install", "--set", &life], INSTALLATION).await?;
    succeeded("weft install", finished)?;
    Ok(begun.elapsed())
}

/// Removes the mesh by `weft uninstall`; answers what it said.
pub(super) async fn uninstall(cluster: &Cluster) -> Result<String, Failure> {
    let finished = cluster.weft(&["uninstall", "--yes"], INSTALLATION).await?;
    succeeded("weft uninstall", finished)
}

/// What a point needs: a mesh, and the shop in it.
pub(super) async fn ensure_shop(stage: &Stage) -> Result<(), Failure> {
    let cluster = &stage.cluster;
    if !is_installed(cluster).await {
        stage.tell("weft install");
        install(cluster).await?;
    }
    if cluster.get(&["deployment", "-n", SHOP, "client"]).await.is_err() {
        stage.tell("the shop's workloads");
        lay_shop(stage).await?;
    }
    enable(cluster, SHOP).await?;
    captured(cluster, SHOP).await.map(|_| ())
}

/// The shop, outside the mesh, every pod of it ready.
pub(super) async fn lay_shop(stage: &Stage) -> Result<(), Failure> {
    let cluster = &stage.cluster;
    cluster.fresh_namespace(SHOP).await?;
    cluster.apply(&shop(SHOP, &stage.nodes)).await?;
    for what in ["deployment/web", "deployment/client", "deployment/far"] {
        cluster.rolled_out(SHOP, what, Duration::from_secs(90)).await?;
    }
    Ok(())
}

/// Enrols a namespace as a person would.
pub(super) async fn enable(cluster: &Cluster, namespace: &str) -> Result<(), Failure> {
    let label = format!("{MODE}=ambient");
    let words = ["label", "--overwrite", "namespace", namespace, &label];
    cluster.kubectl(&words).await.map(|_| ())
}

/// Takes a namespace out of the mesh.
pub(super) async fn disable(cluster: &Cluster, namespace: &str) -> Result<(), Failure> {
    let label = format!("{MODE}-");
    cluster
        .kubectl(&["label", "namespace", namespace, &label])
        .await
        .map(|_| ())
}

/// Waits until every running pod of a namespace is captured; answers them.
pub(super) async fn captured(cluster: &Cluster, namespace: &str) -> Result<Vec<Pod>, Failure> {
    all_pods(cluster, namespace, true).await
}

/// Waits until no running pod of a namespace is captured; answers them.
pub(super) async fn released(cluster: &Cluster, namespace: &str) -> Result<Vec<Pod>, Failure> {
    all_pods(cluster, namespace, false).await
}

async fn all_pods(cluster: &Cluster, namespace: &str, wanted: bool) -> Result<Vec<Pod>, Failure> {
    let end = Instant::now() + CAPTURE;
    loop {
        let pods = cluster.pods(namespace, "app").await?;
        let living: Vec<_> = pods.into_iter().filter(|pod| pod.running && !pod.ending).collect();
        let left: Vec<_> = living.iter().filter(|pod| pod.captured != wanted).collect();
        if left.is_empty() && !living.is_empty() {
            return Ok(living);
        }
        if Instant::now() > end {
            let names: Vec<_> = left.iter().map(|pod| &*pod.name).collect();
            let what = if wanted { "not captured" } else { "still captured" };
            let told = format!("{what} within {} s: {}", CAPTURE.as_secs(), names.join(", "));
            return Err(Failure(told));
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// A moment: what was logged before it is not looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(SystemTime);

impl Mark {
    /// This moment.
    pub(super) fn now() -> Self {
        Self(SystemTime::now())
    }

    /// Whether an event is of before. One without a time that can be read is not.
    fn is_after(&self, event: &Event) -> bool {
        humantime::parse_rfc3339(&event.field("timestamp")).is_ok_and(|at| at < self.0)
    }
}

/// Which log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) namespace: &'a str,
    pub(super) selector: &'a str,
}

/// Every ztunnel's log.
pub(super) const ZTUNNELS: Source<'static> = Source {
    namespace: MESH,
    selector: "app.kubernetes.io/name=ztunnel",
};
/// Every CA's log.
pub(super) const CAS: Source<'static> = Source {
    namespace: MESH,
    selector: "app.kubernetes.io/name=ca",
};

/// What some pods logged since a moment: the events of one target.
pub(super) async fn events(
    cluster: &Cluster,
    source: Source<'_>,
    target: &str,
    since: &Mark,
) -> Result<Vec<Event>, Failure> {
    let log = log(cluster, source, since).await?;
    let events = log.lines().filter_map(Event::parse);
    // A kubelet knows whole seconds alone, and gives the lines of what happened just before.
    let events = events.filter(|event| event.target == target && !since.is_after(event));
    Ok(events.collect())
}

/// What some pods logged since the second of a moment.
pub(super) async fn log(cluster: &Cluster, source: Source<'_>, since: &Mark) -> Result<String, Failure> {
    let since = format!("--since-time={}", humantime::format_rfc3339_millis(since.0));
    let words = [
        "logs",
        "-n",
        source.namespace,
        "-l",
        source.selector,
        "--tail=-1",
        "--max-log-requests=50",
        &since,
    ];
    cluster.kubectl(&words).await
}

/// Waits up to ten seconds for an event that fits, and answers it.
pub(super) async fn awaited_event(
    cluster: &Cluster,
    source: Source<'_>,
    target: &str,
    since: &Mark,
    fits: impl Fn(&Event) -> bool,
) -> Option<Event> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let found = events(cluster, source, target, since).await.unwrap_or_default();
        if let Some(event) = found.into_iter().find(&fits) {
            return Some(event);
        }
        if Instant::now() > end {
            return None;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// An answer to `curl` in a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Status; 0 when nothing answered.
    pub(super) status: u16,
    /// What came, or why nothing did.
    pub(super) text: String,
}

impl Answer {
    /// One phrase.
    pub(super) fn phrase(&self) -> String {
        match self.status {
            0 => format!("no answer: {}", first_line(&self.text)),
            status => format!("{status} {}", first_line(&self.text)),
        }
    }
}

/// Asks from a pod, with a deadline of five seconds and curl's own words behind.
pub(super) async fn curl(cluster: &Cluster, namespace: &str, pod: &str, words: &[&str]) -> Result<Answer, Failure> {
    let all = [&["curl", "-sS", "-m", "5", "-w", "\n%{http_code}"], words].concat();
    let finished = cluster.exec(namespace, pod, &all).await?;
    let (text, status) = finished.stdout.rsplit_once('\n').unwrap_or(("", "000"));
    let Ok(status) = status.trim().parse() else {
        return Err(Failure(format!(
            "curl in {pod} cannot be run: {}",
            first_line(&finished.stderr)
        )));
    };
    let text = if status == 0 { &finished.stderr } else { text };
    Ok(Answer {
        status,
        text: text.to_owned(),
    })
}

/// Waits up to fifteen seconds until a question from a pod is answered with a status (0: not at all).
pub(super) async fn answers(cluster: &Cluster, namespace: &str, pod: &str, words: &[&str], status: u16) -> Answer {
    let mut last = Answer {
        status: 0,
        text: "nobody was asked".into(),
    };
    let end = Instant::now() + Duration::from_secs(15);
    while Instant::now() < end {
        last = curl(cluster, namespace, pod, words)
            .await
            .unwrap_or_else(|failure| Answer {
                status: u16::MAX,
                text: failure.0,
            });
        if last.status == status {
            break;
        }
        sleep(Duration::from_millis(100)).await;
    }
    last
}

/// Waits until the API server serves again.
pub(super) async fn api_is_back(cluster: &Cluster) -> Result<(), Failure> {
    let back = until(Duration::from_secs(60), || async {
        cluster.kubectl(&["get", "--raw=/readyz"]).await.is_ok()
    });
    match back.await {
        true => Ok(()),
        false => Err(Failure("the API server is not back within 60 s".into())),
    }
}

/// The name of a Pod, Deployment or other object that a list of `kubectl get` holds.
pub(super) fn name(object: &serde_json::Value) -> String {
    text(object, "/metadata/name")
}

fn succeeded(what: &str, finished: Finished) -> Result<String, Failure> {
    if finished.success() {
        return Ok(finished.stdout + &finished.stderr);
    }
    let said = if finished.late {
        "it took too long".to_owned()
    } else {
        let text = finished.stderr.trim();
        text.lines().last().unwrap_or("it failed without a word").to_owned()
    };
    Err(Failure(format!("{what}: {said}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_logged_before_a_moment_is_of_before_though_in_its_second() {
        let mark = Mark(humantime::parse_rfc3339("2026-01-01T00:00:00.500Z").unwrap());
        let event = |at: &str| Event::parse(&format!("{{\"timestamp\":\"{at}\",\"target\":\"audit\"}}")).unwrap();
        assert!(mark.is_after(&event("2026-01-01T00:00:00.400123Z")));
        assert!(!mark.is_after(&event("2026-01-01T00:00:00.600123Z")));
        assert!(!mark.is_after(&Event::parse("{\"target\":\"audit\"}").unwrap()));
    }
}
