//! Point 10, first part: a static pod of an enabled namespace, which its node runs by a file, is captured as any other.

use std::time::Duration;

use super::{
    cluster::{Cluster, until},
    manifests::{IMAGE, SHOP},
    mesh::{self, Mark, ZTUNNELS},
    stage::Stage,
};
use crate::check::Point;

/// Where the kubelet of our own cluster looks for static pods.
const FILE: &str = "/etc/kubernetes/manifests/e2e-static.yaml";
/// Whom it is: it names no account, which is to say its namespace's default one.
const IDENTITY: &str = "spiffe://cluster.local/ns/e2e-shop/sa/default";
const MANIFEST: &str = r#"{"apiVersion": "v1", "kind": "Pod",
"metadata": {"name": "static", "namespace": "e2e-shop", "labels": {"app": "static"}},
"spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "server", "image": "IMAGE", "imagePullPolicy":
"IfNotPresent", "command": ["weft-load", "serve", "--name", "static"], "ports": [{"containerPort": 8080}],
"readinessProbe": {"httpGet": {"path": "/ready", "port": 8080}, "periodSeconds": 1}}]}}"#;

/// It starts captured, serves under its identity, and goes.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let promise = "a static pod of an enabled namespace is captured";
    if !stage.ours_or_not_shown(10, promise) {
        return;
    }
    let cluster = &stage.cluster;
    stage.tell("a static pod of an enabled namespace");
    let node = stage.last_node();
    let manifest = MANIFEST.replace("IMAGE", IMAGE);
    let script = format!("mkdir -p $(dirname {FILE}) && printf '%s' '{manifest}' > {FILE}");
    if point
        .step(
            "a static pod is laid",
            cluster.on_node(node, &["sh", "-c", &script]).await,
        )
        .is_none()
    {
        return;
    }
    let runs = until(Duration::from_secs(60), || async { is_captured(cluster).await });
    let runs = runs.await;
    let pods = cluster.pods(SHOP, "app=static").await.unwrap_or_default();
    let seen = pods.first().map_or_else(
        || "no pod".to_owned(),
        |pod| format!("{}: ready {}, captured {}", pod.name, pod.ready, pod.captured),
    );
    point.assert(promise, "ready and captured", seen, runs);
    served(stage, point).await;
    point.step(
        "its file goes",
        cluster.on_node(node, &["rm", "-f", FILE]).await.map(drop),
    );
    let gone = until(Duration::from_secs(60), || async {
        cluster.pods(SHOP, "app=static").await.is_ok_and(|pods| pods.is_empty())
    });
    let gone = gone.await;
    point.assert("and the pod with it", "gone", if gone { "gone" } else { "there" }, gone);
}

async fn is_captured(cluster: &Cluster) -> bool {
    let pods = cluster.pods(SHOP, "app=static").await.unwrap_or_default();
    !pods.is_empty() && pods.iter().all(|pod| pod.running && pod.ready && pod.captured)
}

/// A client reaches it through the mesh, and is told who it is.
async fn served(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let law = "a client reaches it through the mesh";
    let mark = Mark::now();
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let server = cluster.pod(SHOP, "static").await?;
        let url = format!("http://{}:8080/", server.address);
        Ok(mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await)
    };
    let Some(answer) = point.step(law, asked.await) else {
        return;
    };
    point.assert(law, "200", answer.phrase(), answer.status == 200);
    let event = mesh::awaited_event(cluster, ZTUNNELS, "access", &mark, |event| {
        event.is("dst.identity", IDENTITY) && event.is("reporter", "source")
    });
    let event = event.await;
    let seen = event.map_or_else(|| "no such line".into(), |event| event.field("dst.identity"));
    point.equal("the client's ztunnel sees its identity", IDENTITY, &*seen);
}
