//! Waits until what was applied runs, and says why it does not.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use tokio::time::Instant;

use super::{cluster_api::ClusterApi, object::Object, progress::Progress, trouble};

/// How often the cluster is asked.
const BETWEEN: Duration = Duration::from_millis(500);

/// How far a workload is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Pods of the newest version that are ready.
    pub(crate) ready: i64,
    /// Pods there should be.
    pub(crate) wanted: i64,
    /// Whether that is all, and nothing older runs.
    pub(crate) done: bool,
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
            let standing = standing(&api.get(object).await?.unwrap_or_default());
            let ready = format!("{}/{}", standing.ready, standing.wanted);
            if standing.done {
                progress.step(&format!("{} is ready ({ready})", object.title()))?;
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

/// How far a Deployment or DaemonSet is, from its status.
pub(crate) fn standing(found: &Value) -> Standing {
    let number = |value: &Value| value.as_i64().unwrap_or(0);
    let status = &found["status"];
    let seen = number(&status["observedGeneration"]) >= number(&found["metadata"]["generation"]).max(1);
    if found["spec"]["replicas"].is_i64() {
        let wanted = number(&found["spec"]["replicas"]);
        let (updated, available) = (number(&status["updatedReplicas"]), number(&status["availableReplicas"]));
        return Standing {
            ready: available.min(updated),
            wanted,
            done: seen && updated == wanted && available == wanted && number(&status["replicas"]) == wanted,
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
}
