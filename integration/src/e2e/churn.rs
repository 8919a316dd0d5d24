//! Point 8: many pods and Services come and go while traffic flows; what that costs is told.

use std::{fmt::Write as _, time::Duration};

use act::process::Failure;
use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, text},
    load::{PodLoad, flawless},
    manifests::{SHOP, service_url},
    mesh,
    smoke::from_the_shop,
    stage::{MESH, Stage},
};
use crate::check::Point;

const NAMESPACE: &str = "e2e-churn";
const PODS: usize = 150;
const SERVICES: usize = 2_000;
/// Services in one call of kubectl.
const AT_ONCE: usize = 250;
/// An image that does nothing.
const PAUSE: &str = "localhost/weft/pause:0.1.0";

/// Creates and deletes all of them under load.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let law = format!("{PODS} pods and {SERVICES} Services come and go: no request fails");
    stage.tell(&law);
    let started = async {
        cluster.fresh_namespace(NAMESPACE).await?;
        mesh::enable(cluster, NAMESPACE).await?;
        let url = service_url(cluster, SHOP, "web").await?;
        PodLoad::start(cluster, from_the_shop(stage), "load-churn", &url).await
    };
    let Some(load) = point.step(&law, started.await) else {
        return;
    };
    let (begun, before) = (Instant::now(), requests(cluster).await);
    let rss = memory(stage).await;
    let churned = async {
        let image = pause_image(cluster).await;
        cluster.apply(&deployment(&image)).await?;
        for first in (0..SERVICES).step_by(AT_ONCE) {
            cluster.apply(&services(first, AT_ONCE.min(SERVICES - first))).await?;
        }
        stage.tell("all are created; waiting until they run");
        cluster
            .rolled_out(NAMESPACE, "deployment/pause", Duration::from_secs(240))
            .await?;
        mesh::captured(cluster, NAMESPACE).await.map(|pods| pods.len())
    };
    if let Some(captured) = point.step(&format!("{law}: created"), churned.await) {
        point.equal("every one of the pods is captured", PODS, captured);
    }
    let full = memory(stage).await;
    stage.tell("all are captured; deleting them");
    point.step(&format!("{law}: deleted"), remove(cluster).await);
    let lasted = begun.elapsed();
    let after = requests(cluster).await;
    flawless(point, &law, load.stop().await);
    let told = |all: &[(String, u64)]| {
        all.iter()
            .map(|(pod, kib)| format!("{pod} {} MiB", kib / 1024))
            .collect::<Vec<_>>()
            .join(", ")
    };
    if !rss.is_empty() {
        let law = "ztunnel's memory before, and with all of them";
        let seen = format!("{} → {}", told(&rss), told(&full));
        // The table may have no room for all of it.
        stage.tell(&format!("{law}: {seen}"));
        point.assert(law, "-", seen, !full.is_empty());
    }
    if let (Some(before), Some(after)) = (before, after) {
        let rate = after.saturating_sub(before) / lasted.as_secs().max(1);
        point.assert(
            "requests that the API server answered a second meanwhile",
            "-",
            format!("{rate}/s over {} s", lasted.as_secs()),
            true,
        );
    }
}

async fn remove(cluster: &Cluster) -> Result<(), Failure> {
    cluster
        .kubectl(&["delete", "namespace", NAMESPACE, "--wait=false"])
        .await?;
    for _ in 0..300 {
        if cluster.get(&["namespace", NAMESPACE]).await.is_err() {
            return Ok(());
        }
        sleep(Duration::from_secs(1)).await;
    }
    Err(Failure(format!("namespace {NAMESPACE} is not gone within 300 s")))
}

/// Pods that do nothing.
fn deployment(image: &str) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: pause, namespace: {NAMESPACE}}}
spec:
  replicas: {PODS}
  selector: {{matchLabels: {{app: pause}}}}
  template:
    metadata: {{labels: {{app: pause}}}}
    spec:
      terminationGracePeriodSeconds: 0
      automountServiceAccountToken: false
      containers: [{{name: pause, image: '{image}', imagePullPolicy: IfNotPresent}}]
"
    )
}

/// Services, some of which select the pods.
fn services(first: usize, count: usize) -> String {
    let mut all = String::new();
    for number in first..first + count {
        // Every hundredth has all pods behind it: more would test the endpoint controller.
        let app = if number % 100 == 0 { "pause" } else { "nobody" };
        let _ = write!(
            all,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}, namespace: {NAMESPACE}}}\n\
             spec: {{selector: {{app: {app}}}, ports: [{{port: 80}}]}}\n"
        );
    }
    all
}

/// The pause image that the nodes have.
async fn pause_image(cluster: &Cluster) -> String {
    let nodes = cluster.list(&["nodes"]).await.unwrap_or_default();
    let images = nodes
        .iter()
        .filter_map(|node| node.pointer("/status/images")?.as_array())
        .flatten();
    let mut names = images
        .filter_map(|image| image.pointer("/names")?.as_array())
        .flatten()
        .filter_map(|name| name.as_str());
    names
        .find(|name| name.contains("pause") && !name.contains('@'))
        .unwrap_or(PAUSE)
        .to_owned()
}

/// Requests that the API server has answered, of all kinds.
async fn requests(cluster: &Cluster) -> Option<u64> {
    let metrics = cluster.kubectl(&["get", "--raw=/metrics"]).await.ok()?;
    let lines = metrics
        .lines()
        .filter(|line| line.starts_with("apiserver_request_total{"));
    Some(
        lines
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum(),
    )
}

/// Resident memory of every ztunnel, in KiB, where the nodes are ours.
async fn memory(stage: &Stage) -> Vec<(String, u64)> {
    let mut all = Vec::new();
    let pods = stage
        .cluster
        .list(&["pods", "-n", MESH, "-l", mesh::ZTUNNELS.selector])
        .await
        .unwrap_or_default();
    for pod in &pods {
        let node = text(pod, "/spec/nodeName");
        let script = "for p in /proc/[0-9]*; do [ \"$(cat $p/comm 2>/dev/null)\" = ztunnel ] && grep VmRSS $p/status; done; true";
        let Ok(status) = stage.cluster.on_node(&node, &["sh", "-c", script]).await else {
            continue;
        };
        let kib = status
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
            .sum();
        all.push((format!("ztunnel on {node}"), kib));
    }
    all
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn the_manifests_are_yaml_of_the_number_asked_for() {
        let documents = |text: &str| {
            let all = serde_yaml::Deserializer::from_str(text).map(|it| serde_json::Value::deserialize(it).unwrap());
            all.filter(|it| !it.is_null()).collect::<Vec<_>>()
        };
        assert_eq!(documents(&services(0, 250)).len(), 250);
        assert_eq!(documents(&deployment("pause"))[0]["spec"]["replicas"], PODS);
    }
}
