//! Why a workload is not ready, in one sentence: from its pods' states and the events about them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use super::{
    cluster_api::{ClusterApi, kind},
    object::Object,
};
use crate::pods;

/// The longest reason that is shown.
const LONGEST: usize = 240;

/// How long a pod may take to say what it waits for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Why something is not ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// All of it, in one sentence.
    pub(crate) text: String,
    /// What sort it is: the same for every pod and every try.
    pub(crate) sort: String,
}

/// Why a Deployment or DaemonSet is not ready.
///
/// # Errors
/// When its pods or events cannot be listed.
pub(crate) async fn of(api: &ClusterApi, object: &Object) -> Result<Trouble, String> {
    let (namespace, name) = (object.namespace(), object.label("app.kubernetes.io/name"));
    let labels = format!("app.kubernetes.io/name={}", name.unwrap_or_default());
    let pods = kind("", "v1", "Pod", "pods", false);
    let pods = api.list(&pods, namespace, &labels).await?;
    let events = kind("", "v1", "Event", "events", false);
    let events = api.list(&events, namespace, "").await?;
    let mut said = BTreeMap::new();
    if let Some(pod) = pods.iter().find(|pod| !is_ready(pod) && is_running(pod))
        && let Some(waits) = waits_for(api, pod).await
    {
        said.insert(uid(pod).to_owned(), waits);
    }
    Ok(reason(object.name(), &pods, &events, &said))
}

/// What a pod that runs waits for, as it says itself; none where it cannot be asked.
async fn waits_for(api: &ClusterApi, pod: &Value) -> Option<String> {
    let proxy = pods::proxy(&api.client(), &serde_json::from_value(pod.clone()).ok()?);
    let told = tokio::time::timeout(PATIENCE, proxy.get("/status")).await.ok()?.ok()?;
    let waits: Vec<_> = told["waitsFor"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!waits.is_empty()).then(|| format!("waits for {}", waits.join(", ")))
}

/// The first trouble of a pod that is not ready, else of what makes the pods. `said` is what pods say, by UID.
fn reason(name: &str, pods: &[Value], events: &[Value], said: &BTreeMap<String, String>) -> Trouble {
    let waiting: Vec<_> = pods.iter().filter(|pod| !is_ready(pod)).collect();
    // A pod whose trouble is known says more than one that has just begun.
    let known = waiting.iter().find_map(|pod| {
        let what = state(pod)
            .or_else(|| said.get(uid(pod)).cloned())
            .or_else(|| warning(events, |about| about["uid"] == pod["metadata"]["uid"]))?;
        Some((of_pod(pod), what))
    });
    let (of, what) = known
        .or_else(|| waiting.first().map(|pod| (of_pod(pod), "is starting".to_owned())))
        .unwrap_or_else(|| (String::new(), without_pod(name, pods, events)));
    Trouble {
        sort: what.split(':').next().unwrap_or_default().to_owned(),
        text: short(&format!("{of}{what}")),
    }
}

fn without_pod(name: &str, pods: &[Value], events: &[Value]) -> String {
    let makers = |about: &Value| {
        let maker = super::text(about, "name");
        ["DaemonSet", "Deployment", "ReplicaSet"].contains(&super::text(about, "kind"))
            && (maker == name || maker.strip_prefix(name).is_some_and(|rest| rest.starts_with('-')))
    };
    match warning(events, makers) {
        Some(why) if pods.is_empty() => format!("no pod can be made: {why}"),
        _ if pods.is_empty() => "no pod is made yet".to_owned(),
        _ => "its pods are becoming available".to_owned(),
    }
}

fn uid(pod: &Value) -> &str {
    super::text(&pod["metadata"], "uid")
}

fn is_running(pod: &Value) -> bool {
    let mut containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.any(|it| it["state"]["running"].is_object())
}

fn of_pod(pod: &Value) -> String {
    let node = super::text(&pod["spec"], "nodeName");
    let at = if node.is_empty() {
        String::new()
    } else {
        format!(" on {node}")
    };
    format!("pod {}{at} ", super::text(&pod["metadata"], "name"))
}

/// Whether a pod is ready, and is to stay.
pub(super) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
    pod["metadata"]["deletionTimestamp"].is_null()
        && conditions
            .into_iter()
            .any(|it| it["type"] == "Ready" && it["status"] == "True")
}

/// What the pod's own status says, where it says anything beyond "wait".
fn state(pod: &Value) -> Option<String> {
    let conditions = || pod["status"]["conditions"].as_array().into_iter().flatten();
    if let Some(unplaced) = conditions().find(|it| it["type"] == "PodScheduled" && it["status"] == "False") {
        return Some(format!("has no node: {}", super::text(unplaced, "message")));
    }
    let containers = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    containers.into_iter().find_map(|container| {
        let image = super::text(container, "image");
        let waiting = &container["state"]["waiting"];
        match super::text(waiting, "reason") {
            "ErrImageNeverPull" => Some(format!(
                "lacks the image {image}: it is not on that node and may not be pulled (image.pullPolicy Never)"
            )),
            "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" => {
                Some(format!("lacks the image {image}: {}", super::text(waiting, "message")))
            }
            "CrashLoopBackOff" => Some(format!("ends again and again: {}", ended(&container["lastState"]))),
            "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
                Some(format!("cannot start: {}", super::text(waiting, "message")))
            }
            _ if container["state"]["terminated"].is_object() => Some(format!("ended: {}", ended(&container["state"]))),
            _ => None,
        }
    })
}

fn ended(state: &Value) -> String {
    let end = &state["terminated"];
    let said = super::text(end, "message").trim();
    let how = format!("{}, exit code {}", super::text(end, "reason"), end["exitCode"]);
    if said.is_empty() {
        how
    } else {
        format!("{said} ({how})")
    }
}

/// The latest warning about something.
fn warning(events: &[Value], about: impl Fn(&Value) -> bool) -> Option<String> {
    let when = |event: &Value| {
        let times = ["lastTimestamp", "eventTime"].map(|field| super::text(event, field).to_owned());
        times.into_iter().max()
    };
    events
        .iter()
        .filter(|event| event["type"] == "Warning" && about(&event["involvedObject"]))
        .max_by_key(|event| when(event))
        .map(|event| format!("{}: {}", super::text(event, "reason"), super::text(event, "message")))
}

fn short(text: &str) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // What the kubelet's runtime wraps around every error says nothing.
    let flat = flat.replace("rpc error: code = Unknown desc = ", "");
    match flat.char_indices().nth(LONGEST) {
        Some((at, _)) => format!("{}…", &flat[..at]),
        None => flat,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(status: Value) -> Value {
        json!({"metadata": {"name": "ca-1", "uid": "u1"}, "spec": {"nodeName": "node1"}, "status": status})
    }

    fn waiting(reason: &str, message: &str) -> Value {
        pod(
            json!({"containerStatuses": [{"image": "x/ca:1", "state": {"waiting": {"reason": reason, "message": message}}}]}),
        )
    }

    #[test]
    fn each_trouble_is_one_sentence_that_names_the_pod() {
        let event = |kind: &str, uid: &str, name: &str, reason: &str| {
            json!({"type": "Warning", "involvedObject": {"kind": kind, "uid": uid, "name": name}, "reason": reason,
                   "message": "why\nnot", "lastTimestamp": "2025-01-01T00:00:00Z"})
        };
        let crashed = pod(
            json!({"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"reason": "Error", "exitCode": 2, "message": "ca: no state\n"}}}]}),
        );
        let unplaced = pod(json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "no room"}]}));
        let ready = pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
        for (pods, events, wanted) in [
            (
                vec![waiting("ErrImageNeverPull", "")],
                vec![],
                "pod ca-1 on node1 lacks the image x/ca:1: it is not on that node",
            ),
            (
                vec![waiting("ImagePullBackOff", "Back-off pulling")],
                vec![],
                "lacks the image x/ca:1: Back-off pulling",
            ),
            (
                vec![crashed],
                vec![],
                "ends again and again: ca: no state (Error, exit code 2)",
            ),
            (vec![unplaced], vec![], "has no node: no room"),
            (
                vec![waiting("ContainerCreating", "")],
                vec![],
                "pod ca-1 on node1 is starting",
            ),
            (
                vec![waiting("ContainerCreating", "")],
                vec![event("Pod", "u1", "ca-1", "FailedMount")],
                "FailedMount: why not",
            ),
            (
                vec![waiting("ContainerCreating", "")],
                vec![event("Pod", "other", "x", "FailedMount")],
                "is starting",
            ),
            (vec![ready], vec![], "its pods are becoming available"),
            (
                vec![],
                vec![event("ReplicaSet", "r", "ca-5f", "FailedCreate")],
                "no pod can be made: FailedCreate: why not",
            ),
            (
                vec![],
                vec![event("ReplicaSet", "r", "cat", "FailedCreate")],
                "no pod is made yet",
            ),
        ] {
            let told = reason("ca", &pods, &events, &BTreeMap::new());
            assert!(told.text.contains(wanted), "{told:?}");
        }
    }

    #[test]
    fn a_pod_that_runs_says_itself_what_it_waits_for_and_a_new_message_is_no_new_trouble() {
        let event = |message: &str| json!({"type": "Warning", "involvedObject": {"uid": "u1"}, "reason": "FailedMount", "message": message});
        let running = pod(json!({"containerStatuses": [{"state": {"running": {}}}]}));
        let said = BTreeMap::from([("u1".to_owned(), "waits for a certificate".to_owned())]);
        let told = reason("ca", std::slice::from_ref(&running), &[event("x")], &said);
        assert_eq!(told.text, "pod ca-1 on node1 waits for a certificate");
        let sort = |message| {
            reason(
                "ca",
                std::slice::from_ref(&running),
                &[event(message)],
                &BTreeMap::new(),
            )
            .sort
        };
        assert_eq!(sort("one"), sort("two"));
    }
}
