//! Point 0: the measuring itself, without a mesh: a graceful rollout fails nothing, and a server that just dies is seen.

use std::time::Duration;

use super::{
    load::{From, PodLoad, flawless},
    manifests::{roll, service_url, shop},
    stage::Stage,
};
use crate::check::Point;

/// A namespace that is never in the mesh.
const NAMESPACE: &str = "e2e-measure";

/// How long the last of the old servers take to end.
const LAST_ENDS: Duration = Duration::from_secs(8);

/// Rolls servers out in order under load, then kills one without notice.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let laid = async {
        cluster.fresh_namespace(NAMESPACE).await?;
        cluster.apply(&shop(NAMESPACE, &stage.nodes)).await?;
        for what in ["deployment/web", "deployment/client", "deployment/far"] {
            cluster.rolled_out(NAMESPACE, what, Duration::from_secs(60)).await?;
        }
        Ok(())
    };
    if point.step("workloads without a mesh", laid.await).is_none() {
        return;
    }
    let from = From {
        namespace: NAMESPACE,
        account: "client",
        node: stage.first_node(),
    };
    let Some(url) = point.step("the Service's address", service_url(cluster, NAMESPACE, "web").await) else {
        return;
    };
    stage.tell("two rollouts of graceful servers under load, no mesh");
    if let Some(load) = point.step(
        "load starts",
        PodLoad::start(cluster, from, "load-graceful", &url).await,
    ) {
        for _ in 0..2 {
            let rolled = roll(cluster, NAMESPACE, "deployment/web").await;
            point.step("a rollout", rolled);
        }
        tokio::time::sleep(LAST_ENDS).await;
        flawless(
            point,
            "without a mesh, graceful rollouts fail no request",
            load.stop().await,
        );
    }
    stage.tell("a server that dies without notice, no mesh");
    if let Some(load) = point.step("load starts", PodLoad::start(cluster, from, "load-killed", &url).await) {
        let killed = async {
            let pod = cluster.pod(NAMESPACE, "web").await?;
            // Without preStop and before any endpoint is taken away: as a crash.
            cluster.exec(NAMESPACE, &pod.name, &["kill", "-TERM", "1"]).await
        };
        point.step("a server dies", killed.await);
        tokio::time::sleep(LAST_ENDS).await;
        let law = "a server that dies without notice is counted as failures";
        if let Some(outcome) = point.step(law, load.stop().await) {
            point.assert(law, "some failed", outcome.phrase(), outcome.report.failed() > 0);
        }
    }
    point.step("the namespace goes", cluster.remove_namespace(NAMESPACE).await);
}
