//! Point 9: the mesh is removed while pods of it run, and the cluster is as it was.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    cluster::until,
    manifests::{SHOP, service_url},
    mesh,
    stage::{MESH, Stage},
    standing::{self, Standing},
};
use crate::check::Point;

/// How long those that are not the mesh may take to forget it.
const FORGETTING: Duration = Duration::from_secs(30);

/// Removes the mesh under its pods, then what the tests laid, and compares.
pub(super) async fn check(stage: &Stage, point: &mut Point, before: Option<&Standing>) {
    let cluster = &stage.cluster;
    stage.tell("weft uninstall, while pods of the mesh run");
    let running = cluster.pods(SHOP, "app").await.unwrap_or_default();
    let Some(said) = point.step("`weft uninstall`", mesh::uninstall(cluster).await) else {
        return;
    };
    let law = "pods that ran in the mesh run on, outside it";
    if let Some(pods) = point.step(law, mesh::released(cluster, SHOP).await) {
        let kept = pods.iter().filter(|pod| {
            running
                .iter()
                .any(|was| was.uid == pod.uid && was.restarts == pod.restarts)
        });
        let seen = format!("{} of {} pods", kept.count(), running.len());
        point.equal(law, format!("{0} of {0} pods", running.len()), seen);
    }
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let url = service_url(cluster, SHOP, "far").await?;
        Ok(mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await)
    };
    if let Some(answer) = point.step("and are answered", asked.await) {
        point.assert("and are answered", "200", answer.phrase(), answer.status == 200);
    }
    let gone = until(Duration::from_secs(60), || async {
        cluster.get(&["namespace", MESH]).await.is_err()
    });
    point.assert("the mesh's namespace is gone", "gone", "", gone.await);
    labels(stage, point, &said).await;
    point.step("the tests' own namespace goes", cluster.remove_namespace(SHOP).await);
    compared(stage, point, before, &said).await;
}

async fn labels(stage: &Stage, point: &mut Point, said: &str) {
    let standing = Standing::of(&stage.cluster, &stage.nodes).await;
    if let Some(standing) = point.step("how the cluster stands after", standing) {
        let labels = standing
            .ours()
            .into_iter()
            .filter(|(name, _)| !said.contains(name.as_str()));
        let labels: Vec<_> = labels.map(|(name, marks)| format!("{name}: {marks}")).collect();
        point.assert(
            "no label or annotation of ours is left, but those named",
            "none",
            labels.join("; "),
            labels.is_empty(),
        );
    }
}

async fn compared(stage: &Stage, point: &mut Point, before: Option<&Standing>, said: &str) {
    let cluster = &stage.cluster;
    let Some(before) = before else {
        stage.not_shown(
            9,
            "the cluster is as it was before the mesh",
            "the mesh was there before the tests",
        );
        return;
    };
    if !cluster.reach().is_ours() {
        stage.not_shown(
            9,
            "nodes hold no rule and no CNI entry",
            "the nodes are not ours to look into",
        );
    }
    // kube-proxy takes its time to forget the mesh's Services on each node
    let end = Instant::now() + FORGETTING;
    let unnamed: Result<Vec<String>, _> = loop {
        let after = Standing::of(cluster, &stage.nodes).await;
        let unnamed = after.map(|after| {
            let left = before.differences(&after).into_iter();
            left.filter(|left| !is_named(left, said)).collect()
        });
        if unnamed.as_ref().is_ok_and(Vec::is_empty) || Instant::now() > end {
            break unnamed;
        }
        sleep(Duration::from_secs(1)).await;
    };
    if let Some(unnamed) = point.step("how the cluster stands after", unnamed) {
        let law = "the cluster is as it was: nothing left, changed or gone that was not named";
        point.assert(law, "nothing", unnamed.join("; "), unnamed.is_empty());
    }
}

/// Whether what was said names an object that is left. What is left on a node is never named.
fn is_named(left: &str, said: &str) -> bool {
    let Some(object) = left
        .strip_prefix("left behind: ")
        .or_else(|| left.strip_prefix("changed: "))
    else {
        return false;
    };
    let name = object.split(' ').nth(1).map(|name| name.trim_end_matches(':'));
    let is_object = standing::KINDS
        .iter()
        .any(|kind| object.starts_with(&format!("{kind} ")));
    is_object && name.is_some_and(|name| said.contains(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_objects_are_named_and_never_what_is_left_on_a_node() {
        let said = "kept: namespace e2e-shop carries the label weft.dev/dataplane-mode";
        assert!(is_named(
            "changed: namespaces e2e-shop:  became weft.dev/dataplane-mode=ambient",
            said
        ));
        assert!(!is_named("left behind: node1: nft table inet weft", said));
        assert!(!is_named("gone: namespaces e2e-shop", said));
        assert!(!is_named("left behind: clusterroles weft-ca", said));
    }
}
