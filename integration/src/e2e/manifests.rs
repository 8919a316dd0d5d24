//! The workloads of the tests, as ordinary YAML in `integration/e2e/`.

use std::{collections::BTreeSet, time::Duration};

use act::process::Failure;

use super::{
    cluster::{Cluster, text, until},
    mesh::ZTUNNELS,
    stage::MESH,
};

/// The image of every workload: a shell, curl, nginx and `weft-load`.
pub(super) const IMAGE: &str = "localhost/weft/test:0.1.0";

/// The namespace of servers and clients.
pub(super) const SHOP: &str = "e2e-shop";

/// Two nginx behind a Service, and two clients of one account; node names are filled in.
const WORKLOADS: &str = include_str!("../../e2e/shop.yaml");

/// The shop, with its clients on the first node and a server on each.
pub(super) fn shop(namespace: &str, nodes: &[String]) -> String {
    let first = nodes.first().map_or("", String::as_str);
    let last = nodes.last().map_or("", String::as_str);
    WORKLOADS
        .replace("NAMESPACE", namespace)
        .replace("FIRST_NODE", first)
        .replace("LAST_NODE", last)
        .replace("IMAGE", IMAGE)
}

/// How a Service is called by its address, so that a name that does not resolve is not taken for the mesh's fault.
pub(super) async fn service_url(cluster: &Cluster, namespace: &str, name: &str) -> Result<String, Failure> {
    let service = cluster.get(&["service", "-n", namespace, name]).await?;
    match text(&service, "/spec/clusterIP") {
        address if address.contains(':') => Ok(format!("http://[{address}]/")),
        address if !address.is_empty() => Ok(format!("http://{address}/")),
        _ => Err(Failure(format!("Service {namespace}/{name} has no address"))),
    }
}

/// Replaces every pod of a Deployment or DaemonSet, and waits until the new ones are there.
pub(super) async fn roll(cluster: &Cluster, namespace: &str, what: &str) -> Result<(), Failure> {
    cluster.kubectl(&["rollout", "restart", "-n", namespace, what]).await?;
    cluster.rolled_out(namespace, what, Duration::from_secs(120)).await
}

/// Replaces every ztunnel, and waits until a new one serves on every node. The earlier ones leave in their own time: as
/// long as one is there, Kubernetes calls its node's pod an old one.
pub(super) async fn roll_ztunnels(cluster: &Cluster) -> Result<(), Failure> {
    let before = cluster.pods(MESH, ZTUNNELS.selector).await?;
    let restart = ["rollout", "restart", "-n", MESH, "daemonset/ztunnel"];
    cluster.kubectl(&restart).await?;
    let replaced = async || {
        let pods = cluster.pods(MESH, ZTUNNELS.selector).await.unwrap_or_default();
        let (new, old): (Vec<_>, Vec<_>) = pods.iter().partition(|pod| before.iter().all(|was| was.uid != pod.uid));
        let nodes: BTreeSet<_> = before.iter().map(|pod| &pod.node).collect();
        let served = nodes
            .iter()
            .all(|node| new.iter().any(|pod| pod.node == **node && pod.ready && !pod.ending));
        served && old.iter().all(|pod| pod.ending)
    };
    match until(Duration::from_secs(120), replaced).await {
        true => Ok(()),
        false => Err(Failure("not every node has a new ztunnel within 120 s".into())),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[test]
    fn every_document_is_yaml_and_nothing_is_left_to_fill_in() {
        let text = shop("e2e-shop", &["node1".to_owned(), "node2".to_owned()]);
        let documents: Vec<_> = serde_yaml::Deserializer::from_str(&text)
            .map(|document| serde_json::Value::deserialize(document).unwrap())
            .collect();
        assert!(documents.len() > 4);
        for left in ["NAMESPACE", "_NODE", "IMAGE"] {
            assert!(!text.contains(left), "{left}");
        }
    }
}
