//! The workloads of the tests, as ordinary YAML in `integration/e2e/`.

use std::time::Duration;

use act::process::Failure;

use super::cluster::{Cluster, text};

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
