//! The cluster under test, as `kubectl` sees it: objects go in, objects, logs and answers come out.

use std::time::Duration;

use act::process::Failure;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::reach::{Reach, run};
use crate::world::{Finished, first_line};

/// The cluster under test.
#[derive(Debug, Clone)]
pub(super) struct Cluster {
    reach: Reach,
    weft: String,
}

/// The longest that one call may take.
const CALL: Duration = Duration::from_secs(60);

impl Cluster {
    /// A cluster by the way to it; `weft` is the program under test.
    pub(super) fn new(reach: Reach, weft: String) -> Self {
        Self { reach, weft }
    }

    /// The way to it.
    pub(super) fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Runs `kubectl` and answers how it ended.
    pub(super) async fn try_kubectl(&self, words: &[&str], input: &str) -> Result<Finished, Failure> {
        let words = self.reach.words(&[&["kubectl"], words].concat());
        run(&words, input, CALL).await
    }

    /// Runs `kubectl`, which must succeed, and answers what it printed.
    pub(super) async fn kubectl(&self, words: &[&str]) -> Result<String, Failure> {
        succeeded("kubectl", words, self.try_kubectl(words, "").await?)
    }

    /// Runs `weft` against the cluster and answers how it ended.
    pub(super) async fn weft(&self, words: &[&str], deadline: Duration) -> Result<Finished, Failure> {
        let words = self.reach.words(&[&[&*self.weft], words].concat());
        run(&words, "", deadline).await
    }

    /// Applies YAML.
    pub(super) async fn apply(&self, yaml: &str) -> Result<(), Failure> {
        let words = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        succeeded("kubectl", &words, self.try_kubectl(&words, yaml).await?).map(|_| ())
    }

    /// Deletes what YAML names, if it is there, and waits until it is gone.
    pub(super) async fn delete(&self, yaml: &str) -> Result<(), Failure> {
        let words = ["delete", "--ignore-not-found", "-f", "-"];
        succeeded("kubectl", &words, self.try_kubectl(&words, yaml).await?).map(|_| ())
    }

    /// Reads JSON of anything `kubectl get` knows.
    pub(super) async fn get(&self, words: &[&str]) -> Result<Value, Failure> {
        let text = self.kubectl(&[&["get", "-o", "json"], words].concat()).await?;
        serde_json::from_str(&text).map_err(|error| Failure(format!("kubectl get printed no JSON: {error}")))
    }

    /// Lists objects.
    pub(super) async fn list(&self, words: &[&str]) -> Result<Vec<Value>, Failure> {
        match self.get(words).await?.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => Ok(items),
            _ => Err(Failure(format!("kubectl get {} gave no list", words.join(" ")))),
        }
    }

    /// The one running pod of an `app` label that is not about to end.
    pub(super) async fn pod(&self, namespace: &str, app: &str) -> Result<Pod, Failure> {
        let pods = self.pods(namespace, &format!("app={app}")).await?;
        let mut living = pods.into_iter().filter(|pod| pod.running && !pod.ending);
        living
            .next()
            .ok_or_else(|| Failure(format!("no pod of {namespace} with app={app} runs")))
    }

    /// Pods by label.
    pub(super) async fn pods(&self, namespace: &str, selector: &str) -> Result<Vec<Pod>, Failure> {
        let pods = self.list(&["pods", "-n", namespace, "-l", selector]).await?;
        Ok(pods.iter().map(Pod::read).collect())
    }

    /// Runs a program in a pod.
    pub(super) async fn exec(&self, namespace: &str, pod: &str, words: &[&str]) -> Result<Finished, Failure> {
        let words = [&["exec", "-n", namespace, pod, "--"], words].concat();
        self.try_kubectl(&words, "").await
    }

    /// What the first container of a pod printed.
    pub(super) async fn logs(&self, namespace: &str, pod: &str) -> Result<String, Failure> {
        self.kubectl(&["logs", "-n", namespace, pod, "--tail=-1"]).await
    }

    /// Waits until a Deployment or DaemonSet is rolled out.
    pub(super) async fn rolled_out(&self, namespace: &str, what: &str, within: Duration) -> Result<(), Failure> {
        let timeout = format!("--timeout={}s", within.as_secs());
        let words = self
            .reach
            .words(&["kubectl", "rollout", "status", "-n", namespace, what, &timeout]);
        let finished = run(&words, "", within + Duration::from_secs(10)).await?;
        succeeded("kubectl", &["rollout", "status", what], finished).map(|_| ())
    }

    /// Runs a program on a node of our own cluster, which must succeed.
    pub(super) async fn on_node(&self, node: &str, words: &[&str]) -> Result<String, Failure> {
        let all = self
            .reach
            .node_words(node, words)
            .ok_or_else(|| Failure("the nodes of this cluster are not ours to touch".into()))?;
        succeeded(node, words, run(&all, "", CALL).await?)
    }

    /// Names of the nodes, in order.
    pub(super) async fn nodes(&self) -> Result<Vec<String>, Failure> {
        let nodes = self.list(&["nodes"]).await?;
        let mut names: Vec<_> = nodes.iter().map(|node| text(node, "/metadata/name")).collect();
        names.sort();
        Ok(names)
    }

    /// Creates a namespace that is not there, and deletes it first where it is.
    pub(super) async fn fresh_namespace(&self, name: &str) -> Result<(), Failure> {
        self.remove_namespace(name).await?;
        self.kubectl(&["create", "namespace", name]).await?;
        // Pods are refused until the namespace's own account is there.
        let there = || async { self.get(&["serviceaccount", "default", "-n", name]).await.is_ok() };
        match until(CALL, there).await {
            true => Ok(()),
            false => Err(Failure(format!("namespace {name} gets no default service account"))),
        }
    }

    /// Deletes a namespace and waits until it is gone.
    pub(super) async fn remove_namespace(&self, name: &str) -> Result<(), Failure> {
        let words = ["delete", "namespace", name, "--ignore-not-found", "--timeout=55s"];
        self.kubectl(&words).await.map(|_| ())
    }
}

/// A pod, as far as tests look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Pod {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) node: String,
    pub(super) address: String,
    pub(super) running: bool,
    pub(super) ready: bool,
    pub(super) ending: bool,
    pub(super) restarts: u64,
    /// The annotation by which the pod's own agent says that it is captured.
    pub(super) captured: bool,
}

impl Pod {
    fn read(pod: &Value) -> Self {
        let containers = pod.pointer("/status/containerStatuses").and_then(Value::as_array);
        let containers = containers.map(Vec::as_slice).unwrap_or_default();
        Self {
            name: text(pod, "/metadata/name"),
            uid: text(pod, "/metadata/uid"),
            node: text(pod, "/spec/nodeName"),
            address: text(pod, "/status/podIP"),
            running: text(pod, "/status/phase") == "Running",
            ready: !containers.is_empty() && containers.iter().all(|it| it.get("ready") == Some(&Value::Bool(true))),
            ending: pod.pointer("/metadata/deletionTimestamp").is_some(),
            restarts: containers
                .iter()
                .filter_map(|it| it.get("restartCount").and_then(Value::as_u64))
                .sum(),
            captured: text(pod, "/metadata/annotations/weft.dev~1capture") == "captured",
        }
    }
}

/// A text at a JSON pointer; empty where there is none.
pub(super) fn text(value: &Value, pointer: &str) -> String {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Asks ten times a second until the answer is yes or the time is over; answers which.
pub(super) async fn until<F: Future<Output = bool>>(within: Duration, mut ask: impl FnMut() -> F) -> bool {
    let end = Instant::now() + within;
    loop {
        if ask().await {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

fn succeeded(who: &str, words: &[&str], finished: Finished) -> Result<String, Failure> {
    if finished.success() {
        return Ok(finished.stdout);
    }
    let said = if finished.late {
        "took too long"
    } else {
        // What a program says last is why it ended.
        let mut lines = finished.stdout.lines().chain(finished.stderr.lines()).rev();
        lines
            .find(|line| !line.trim().is_empty())
            .unwrap_or("failed without a word")
    };
    Err(Failure(format!("{who} {}: {}", words.join(" "), first_line(said))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_is_captured_only_by_its_annotation_and_ready_only_with_containers() {
        let pod = json!({"metadata": {"name": "a", "annotations": {"weft.dev/capture": "captured"}},
            "status": {"phase": "Running", "containerStatuses": [{"ready": true, "restartCount": 2}]}});
        let read = Pod::read(&pod);
        assert!(read.captured && read.ready && read.running && !read.ending);
        assert_eq!(read.restarts, 2);
        assert!(!Pod::read(&json!({"metadata": {}})).ready);
        assert!(!Pod::read(&json!({"metadata": {"annotations": {"weft.dev/capture": "no"}}})).captured);
    }
}
