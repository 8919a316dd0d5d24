//! Point 5: probes of every kind judge captured pods under STRICT and a default deny, with the mesh's node parts gone.

use std::time::Duration;

use act::process::Failure;
use tokio::time::{Instant, sleep};

use super::{
    barrier,
    cluster::{Cluster, Pod, until},
    manifests::{IMAGE, SHOP},
    mesh::{self, curl},
    stage::{MESH, Stage},
};
use crate::check::Point;

const NAMESPACE: &str = "e2e-probes";
/// Servers with startup, readiness and liveness probes of each kind, and one whose probes cannot succeed.
const PODS: &str = include_str!("../../e2e/probes.yaml");
/// How long pods must stay healthy: many periods of one second.
const WATCH: Duration = Duration::from_secs(15);
/// Node label that no node has: a DaemonSet that wants it runs nowhere.
const NOWHERE: &str = r#"{"spec":{"template":{"spec":{"nodeSelector":{"weft.dev/e2e":"nowhere"}}}}}"#;
const ANYWHERE: &str = r#"{"spec":{"template":{"spec":{"nodeSelector":{"weft.dev/e2e":null}}}}}"#;

/// Starts the pods, then takes away one thing after the other.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("probes of captured pods under STRICT");
    let laid = async {
        cluster.fresh_namespace(NAMESPACE).await?;
        mesh::enable(cluster, NAMESPACE).await?;
        cluster
            .apply(
                &PODS
                    .replace("NAMESPACE", NAMESPACE)
                    .replace("IMAGE", IMAGE)
                    .replace("LAST_NODE", stage.last_node()),
            )
            .await
    };
    if point.step("pods with probes", laid.await).is_none() {
        return;
    }
    let ready = until(Duration::from_secs(60), || async { healthy(cluster).await.is_ok() }).await;
    let seen = healthy(cluster)
        .await
        .map_or_else(|failure| failure.0, |pods| format!("{} ready", pods.len()));
    point.assert(
        "startup, readiness and liveness by HTTP, TCP, exec and gRPC succeed",
        "ready",
        seen,
        ready,
    );
    point.step("all of them are captured", mesh::captured(cluster, NAMESPACE).await);
    let Some(pods) = point.step("pods are healthy", healthy(cluster).await) else {
        return;
    };
    judged(cluster, point).await;
    refused(stage, point, &pods, "STRICT refuses what no kubelet sends").await;
    deny(stage, point, &pods).await;
    stage.tell("ztunnel and agent are gone");
    gone(stage, point).await;
    host(stage, point, &pods).await;
    if cluster.reach().is_ours() {
        point.step(
            "the default deny goes",
            barrier::lower(stage, &[stage.last_node()]).await,
        );
    }
    point.step("the namespace goes", cluster.remove_namespace(NAMESPACE).await);
}

/// The pods that must be healthy, or which is not.
async fn healthy(cluster: &Cluster) -> Result<Vec<Pod>, Failure> {
    let pods = cluster.pods(NAMESPACE, "app=probed").await?;
    let sick: Vec<_> = pods.iter().filter(|pod| !pod.ready || pod.restarts > 0).collect();
    if !sick.is_empty() || pods.is_empty() {
        let names = sick
            .iter()
            .map(|pod| format!("{} (ready {}, {} restarts)", pod.name, pod.ready, pod.restarts));
        return Err(Failure(format!(
            "not healthy: {}",
            names.collect::<Vec<_>>().join(", ")
        )));
    }
    Ok(pods)
}

/// Watches for many periods that all stay healthy.
async fn stay_healthy(cluster: &Cluster, point: &mut Point, law: &str) {
    let end = Instant::now() + WATCH;
    let mut sick = None;
    while Instant::now() < end && sick.is_none() {
        sick = healthy(cluster).await.err();
        sleep(Duration::from_secs(1)).await;
    }
    let seen = sick.as_ref().map_or("ready, no restart", |failure| failure.0.as_str());
    point.assert(law, "ready, no restart", seen, sick.is_none());
}

/// A probe that succeeds whatever happens would show nothing: one that must fail does.
async fn judged(cluster: &Cluster, point: &mut Point) {
    let pods = cluster.pods(NAMESPACE, "app=broken").await.unwrap_or_default();
    let pass = pods.iter().all(|pod| pod.running && !pod.ready) && !pods.is_empty();
    point.assert(
        "a probe of a port where nothing listens fails",
        "not ready",
        format!("{} pods", pods.len()),
        pass,
    );
}

async fn refused(stage: &Stage, point: &mut Point, pods: &[Pod], law: &str) {
    let cluster = &stage.cluster;
    let asked = async {
        let Some(pod) = pods.first() else {
            return Err(Failure("no pod".into()));
        };
        let words = [
            "run",
            "outsider",
            "-n",
            "default",
            "--image",
            IMAGE,
            "--image-pull-policy=IfNotPresent",
            "--restart=Never",
            "--command",
            "--",
            "sleep",
            "600",
        ];
        cluster
            .kubectl(&[
                "delete",
                "pod",
                "outsider",
                "-n",
                "default",
                "--ignore-not-found",
                "--grace-period=1",
            ])
            .await?;
        cluster.kubectl(&words).await?;
        cluster
            .kubectl(&[
                "wait",
                "--for=condition=Ready",
                "-n",
                "default",
                "pod/outsider",
                "--timeout=50s",
            ])
            .await?;
        let url = format!("http://{}:8080/", pod.address);
        let answer = curl(cluster, "default", "outsider", &[&*url]).await;
        cluster
            .kubectl(&["delete", "pod", "outsider", "-n", "default", "--grace-period=1"])
            .await?;
        answer
    };
    if let Some(answer) = point.step(law, asked.await) {
        point.assert(law, "no answer", answer.phrase(), answer.status == 0);
    }
}

/// What a CNI that enforces NetworkPolicies would put on the node: nobody but the node itself reaches the pods.
async fn deny(stage: &Stage, point: &mut Point, pods: &[Pod]) {
    let cluster = &stage.cluster;
    let promise = "probes work under a default-deny NetworkPolicy";
    if !stage.ours_or_not_shown(5, promise) {
        return;
    }
    let addresses: Vec<_> = pods
        .iter()
        .map(|pod| &*pod.address)
        .filter(|it| !it.contains(':'))
        .collect();
    let matches = format!("ip daddr {{ {} }}", addresses.join(", "));
    let raised = barrier::raise(stage, &[stage.last_node()], &matches).await;
    if point.step(promise, raised).is_none() {
        return;
    }
    stay_healthy(cluster, point, promise).await;
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let pod = pods.first().ok_or_else(|| Failure("no pod".into()))?;
        let url = format!("http://{}:8080/", pod.address);
        curl(cluster, SHOP, &client.name, &[&*url]).await
    };
    let law = "the default deny does deny, the mesh's own tunnels too";
    if let Some(answer) = point.step(law, asked.await) {
        point.assert(law, "no answer", answer.phrase(), answer.status != 200);
    }
}

/// Takes the node parts away by force, watches, and has them back.
async fn gone(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    const PARTS: [&str; 2] = ["ztunnel", "weft-cni"];
    let taken = async {
        for part in PARTS {
            cluster
                .kubectl(&["patch", "daemonset", part, "-n", MESH, "-p", NOWHERE])
                .await?;
            let selector = format!("app.kubernetes.io/name={part}");
            let words = [
                "delete",
                "pods",
                "-n",
                MESH,
                "-l",
                &selector,
                "--force",
                "--grace-period=0",
            ];
            cluster.kubectl(&words).await?;
        }
        let none = || async {
            let pods = cluster.pods(MESH, "app.kubernetes.io/name in (ztunnel,weft-cni)").await;
            pods.is_ok_and(|pods| pods.is_empty())
        };
        match until(Duration::from_secs(30), none).await {
            true => Ok(()),
            false => Err(Failure("ztunnel and agent do not go".into())),
        }
    };
    let law = "with ztunnel and agent killed, every probe still succeeds";
    if point.step(law, taken.await).is_some() {
        stay_healthy(cluster, point, law).await;
    }
    let back = async {
        // Both first: a ztunnel is ready only with its agent.
        for part in PARTS {
            cluster
                .kubectl(&["patch", "daemonset", part, "-n", MESH, "-p", ANYWHERE])
                .await?;
        }
        for part in PARTS {
            cluster
                .rolled_out(MESH, &format!("daemonset/{part}"), Duration::from_secs(60))
                .await?;
        }
        mesh::captured(cluster, SHOP).await.map(|_| ())
    };
    point.step("ztunnel and agent are back", back.await);
}

/// A process of the node that is not the kubelet: refused where cgroup v2 tells them apart, reported where not.
async fn host(stage: &Stage, point: &mut Point, pods: &[Pod]) {
    let promise = "a host process that is not the kubelet is refused";
    if !stage.ours_or_not_shown(5, promise) {
        return;
    }
    let cluster = &stage.cluster;
    let Some(pod) = pods.first() else { return };
    let url = format!("http://{}:8080/", pod.address);
    let words = [
        "sh",
        "-c",
        &format!("curl -s -m 3 -o /dev/null -w '%{{http_code}}' {url}; true"),
    ];
    let Some(status) = point.step(promise, cluster.on_node(stage.last_node(), &words).await) else {
        return;
    };
    if status.trim() == "000" {
        point.assert(promise, "refused, or reported", "refused", true);
        return;
    }
    let told = cluster.weft(&["check"], Duration::from_secs(60)).await;
    let told = told.map(|told| told.stdout + &told.stderr).unwrap_or_default();
    let line = told
        .lines()
        .find(|line| line.contains("cgroup") || line.contains("kubelet"));
    let seen = format!(
        "answered {}; `weft check`: {}",
        status.trim(),
        line.unwrap_or("says nothing of it")
    );
    point.assert(promise, "refused, or reported", seen, line.is_some());
}
