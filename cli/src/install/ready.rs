//! Waits until what was applied runs, and says why it does not.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde_json::Value;
use tokio::time::Instant;

use super::{
    cluster_api::{ClusterApi, kind},
    object::Object,
    progress::Progress,
    text, trouble,
};
use crate::finding::counted;

/// How often the cluster is asked.
const BETWEEN: Duration = Duration::from_millis(500);

/// How far a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Pods of the newest version that are ready.
    pub(crate) ready: i64,
    /// Pods there should be.
    pub(crate) wanted: i64,
    /// Whether that is all, and nothing older runs but what leaves.
    pub(crate) done: bool,
    /// Earlier pods that leave, and serve what they have until it ends or their grace does.
    pub(crate) leaving: usize,
}

/// Waits until every Deployment and DaemonSet of a plan is ready.
///
/// # Errors
/// At the deadline: what is not ready, and why.
pub(crate) async fn wait(
    api: &ClusterApi,
    plan: &[Object],
    deadline: Instant,
    progress: &mut Progress,
) -> Result<(), String> {
    let mut waiting: Vec<_> = plan
        .iter()
        .filter(|object| matches!(object.kind_name(), "Deployment" | "DaemonSet"))
        .collect();
    let mut told = BTreeMap::new();
    while !waiting.is_empty() {
        let mut still = Vec::new();
        let mut reasons = Vec::new();
        for object in waiting {
            let standing = standing_now(api, object).await?;
            let ready = format!("{}/{}", standing.ready, standing.wanted);
            if standing.done {
                progress.step(&format!("{} is ready ({ready})", object.title()))?;
                if standing.leaving > 0 {
                    let earlier = counted(standing.leaving, "earlier pod");
                    progress.remark(&format!("{earlier} of it serve what they have until that ends"))?;
                }
                continue;
            }
            let why = trouble::of(api, object).await?;
            let line = format!("{} {ready}: {}", object.title(), why.text);
            if told
                .insert(object.title(), why.sort.clone())
                .is_none_or(|before| before != why.sort)
            {
                progress.meanwhile(&line)?;
            }
            reasons.push(line);
            still.push(object);
        }
        waiting = still;
        if Instant::now() > deadline && !reasons.is_empty() {
            return Err(format!("not ready in time:\n  {}", reasons.join("\n  ")));
        }
        if !waiting.is_empty() {
            tokio::time::sleep(BETWEEN).await;
        }
    }
    Ok(())
}

/// How far a workload is. Of a DaemonSet Kubernetes counts a node by its oldest pod, one that leaves included: where
/// that serves on for a long grace, as a ztunnel does, its pods tell what the status does not.
async fn standing_now(api: &ClusterApi, object: &Object) -> Result<Standing, String> {
    let found = api.get(object).await?.unwrap_or_default();
    let standing = standing(&found);
    if standing.done || object.kind_name() != "DaemonSet" || !is_seen(&found) {
        return Ok(standing);
    }
    let labels = format!(
        "app.kubernetes.io/name={}",
        object.label("app.kubernetes.io/name").unwrap_or_default()
    );
    let revisions = kind("apps", "v1", "ControllerRevision", "controllerrevisions", false);
    let revisions = api.list(&revisions, object.namespace(), &labels).await?;
    let pods = kind("", "v1", "Pod", "pods", false);
    let pods = api.list(&pods, object.namespace(), &labels).await?;
    Ok(by_pods(&found, &revisions, &pods))
}

/// How far a DaemonSet is, from its revisions and its pods.
fn by_pods(found: &Value, revisions: &[Value], pods: &[Value]) -> Standing {
    let uid = text(&found["metadata"], "uid");
    let is_own = |it: &&Value| {
        let mut owners = it["metadata"]["ownerReferences"].as_array().into_iter().flatten();
        !uid.is_empty() && owners.any(|owner| owner["uid"] == uid)
    };
    let hash = |it: &Value| text(&it["metadata"]["labels"], "controller-revision-hash").to_owned();
    let newest = revisions.iter().filter(is_own).max_by_key(|it| number(&it["revision"]));
    let newest = newest.map(hash).unwrap_or_default();
    let (staying, leaving): (Vec<_>, Vec<_>) = pods
        .iter()
        .filter(is_own)
        .partition(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    let ready: BTreeSet<_> = staying
        .iter()
        .filter(|pod| hash(pod) == newest && trouble::is_ready(pod))
        .map(|pod| text(&pod["spec"], "nodeName"))
        .collect();
    let wanted = number(&found["status"]["desiredNumberScheduled"]);
    let ready = i64::try_from(ready.len()).unwrap_or(i64::MAX);
    Standing {
        ready,
        wanted,
        done: !newest.is_empty() && ready == wanted && staying.iter().all(|pod| hash(pod) == newest),
        leaving: leaving.len(),
    }
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

/// Whether the controller has seen the newest version.
fn is_seen(found: &Value) -> bool {
    number(&found["status"]["observedGeneration"]) >= number(&found["metadata"]["generation"]).max(1)
}

/// How far a Deployment or DaemonSet is, from its status.
pub(crate) fn standing(found: &Value) -> Standing {
    let status = &found["status"];
    let seen = is_seen(found);
    if found["spec"]["replicas"].is_i64() {
        let wanted = number(&found["spec"]["replicas"]);
        let (updated, available) = (number(&status["updatedReplicas"]), number(&status["availableReplicas"]));
        return Standing {
            ready: available.min(updated),
            wanted,
            done: seen && updated == wanted && available == wanted && number(&status["replicas"]) == wanted,
            leaving: 0,
        };
    }
    let wanted = number(&status["desiredNumberScheduled"]);
    let (updated, available) = (
        number(&status["updatedNumberScheduled"]),
        number(&status["numberAvailable"]),
    );
    Standing {
        ready: available.min(updated),
        wanted,
        done: seen && updated == wanted && available == wanted,
        leaving: 0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_workload_is_ready_when_all_of_its_newest_version_is() {
        let set = |generation, observed, wanted, updated, available| {
            standing(&json!({
                "metadata": {"generation": generation}, "spec": {},
                "status": {"observedGeneration": observed, "desiredNumberScheduled": wanted,
                           "updatedNumberScheduled": updated, "numberAvailable": available},
            }))
        };
        assert!(set(1, 1, 2, 2, 2).done);
        // An older version is available, the newest is not there yet.
        assert_eq!((set(2, 2, 2, 0, 2).done, set(2, 2, 2, 0, 2).ready), (false, 0));
        assert!(!set(2, 1, 2, 2, 2).done, "the controller has not seen it");
        assert!(!standing(&json!({"metadata": {"generation": 1}, "spec": {}})).done);

        let deployment = |replicas, updated, available| {
            standing(&json!({
                "metadata": {"generation": 1}, "spec": {"replicas": 2},
                "status": {"observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated, "availableReplicas": available},
            }))
        };
        assert!(deployment(2, 2, 2).done);
        assert!(!deployment(3, 2, 2).done, "an older pod still runs");
        assert!(!deployment(2, 2, 1).done);
    }

    #[test]
    fn a_daemon_set_is_ready_when_its_newest_pods_are_though_earlier_ones_serve_on() {
        let set = json!({"metadata": {"uid": "set"}, "spec": {}, "status": {"desiredNumberScheduled": 2}});
        let owned = |it: Value| {
            let mut it = it;
            it["metadata"]["ownerReferences"] = json!([{"uid": "set"}]);
            it
        };
        let revision = |number: i64, hash: &str| {
            owned(json!({"metadata": {"labels": {"controller-revision-hash": hash}}, "revision": number}))
        };
        let pod = |node: &str, hash: &str, ready: &str, leaves: bool| {
            owned(json!({
                "metadata": {"labels": {"controller-revision-hash": hash}, "deletionTimestamp": leaves.then_some("now")},
                "spec": {"nodeName": node}, "status": {"conditions": [{"type": "Ready", "status": ready}]},
            }))
        };
        let revisions = [revision(2, "new"), revision(1, "old")];
        let told = |pods: &[Value]| {
            let told = by_pods(&set, &revisions, pods);
            (told.ready, told.done, told.leaving)
        };
        let new = |node| pod(node, "new", "True", false);
        let left = |node| pod(node, "old", "True", true);
        assert_eq!(told(&[new("a"), left("a"), new("b"), left("b")]), (2, true, 2));
        assert_eq!(
            told(&[new("a"), left("a"), pod("b", "new", "False", false), left("b")]),
            (1, false, 2)
        );
        assert_eq!(
            told(&[new("a"), new("b"), pod("b", "old", "True", false)]),
            (2, false, 0),
            "an earlier one stays"
        );
        assert_eq!(
            told(&[pod("a", "old", "True", false), pod("b", "old", "True", false)]),
            (0, false, 0)
        );
        let others = json!({"metadata": {"uid": "another"}, "status": {"desiredNumberScheduled": 0}});
        assert!(
            !by_pods(&others, &revisions, &[]).done,
            "no revision of its own is known yet"
        );
    }
}
