//! Point 11, last part: the samples a newcomer applies, as they stand in `manifests/samples`, in the namespace they name.
//! Only the two Deployments are ours, since their images come from a registry.

use std::time::Duration;

use act::process::Failure;

use super::{
    manifests::{service_url, shop},
    mesh::{self, Mark, Source},
    stage::Stage,
};
use crate::check::Point;

const WAYPOINT: &str = include_str!("../../../manifests/samples/waypoint.yaml");
const POLICIES: &str = include_str!("../../../manifests/samples/policies.yaml");
/// The namespace the samples name.
const NAMESPACE: &str = "shop";
const LOG: Source<'static> = Source {
    namespace: NAMESPACE,
    selector: "gateway.networking.k8s.io/gateway-name=waypoint",
};

/// Does what the samples' first lines say.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    stage.tell("the samples, as they stand");
    if stage.cluster.get(&["namespace", NAMESPACE]).await.is_ok() {
        stage.not_shown(
            11,
            "the samples work as they stand",
            "the cluster has a namespace shop already",
        );
        return;
    }
    let mark = Mark::now();
    if let Some((client, url)) = point.step("the samples are applied and roll out", lay(stage).await) {
        let cluster = &stage.cluster;
        let read = mesh::answers(cluster, NAMESPACE, &client, &[&*url], 200).await;
        point.assert("who may read is answered", "200", read.phrase(), read.status == 200);
        let written = mesh::answers(cluster, NAMESPACE, &client, &["-X", "POST", &*url], 403).await;
        point.assert(
            "who may not write is told so",
            "403",
            written.phrase(),
            written.status == 403,
        );
        let event = mesh::awaited_event(cluster, LOG, "access", &mark, |event| event.is("reporter", "waypoint"));
        let seen = event
            .await
            .map_or_else(|| "no request logged".into(), |event| event.field("reporter"));
        point.equal("the sample's waypoint judged it", "waypoint".to_owned(), seen);
    }
    let gone = async {
        stage.cluster.delete(WAYPOINT).await?;
        stage.cluster.remove_namespace(NAMESPACE).await
    };
    point.step("the samples go", gone.await);
}

/// Lays servers, client, waypoint and policies; the client and the address it calls.
async fn lay(stage: &Stage) -> Result<(String, String), Failure> {
    let cluster = &stage.cluster;
    cluster.fresh_namespace(NAMESPACE).await?;
    cluster.apply(&shop(NAMESPACE, &stage.nodes)).await?;
    cluster.apply(WAYPOINT).await?;
    cluster.apply(POLICIES).await?;
    for label in ["weft.dev/dataplane-mode=ambient", "weft.dev/use-waypoint=waypoint"] {
        cluster.kubectl(&["label", "namespace", NAMESPACE, label]).await?;
    }
    for what in ["deployment/waypoint", "deployment/web", "deployment/client"] {
        cluster.rolled_out(NAMESPACE, what, Duration::from_secs(120)).await?;
    }
    mesh::captured(cluster, NAMESPACE).await?;
    let client = cluster.pod(NAMESPACE, "client").await?;
    Ok((client.name, service_url(cluster, NAMESPACE, "web").await?))
}
