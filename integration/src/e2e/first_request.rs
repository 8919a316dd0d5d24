//! Point 1: from nothing to the first mutual TLS request, by one command and one label; the time of each step is told.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    cluster::Pod,
    manifests::{SHOP, service_url},
    mesh::{self, Mark, ZTUNNELS},
    stage::Stage,
};
use crate::check::Point;

/// The identity of the shop's clients.
pub(super) const CLIENT: &str = "spiffe://cluster.local/ns/e2e-shop/sa/client";

/// Installs, labels, and asks.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    if mesh::is_installed(cluster).await {
        let law = "the cluster holds no mesh yet";
        point.assert(law, "none", "one is installed; remove it with `weft uninstall`", false);
        return;
    }
    stage.tell("two ordinary Deployments, no mesh");
    if point.step("ordinary workloads", mesh::lay_shop(stage).await).is_none() {
        return;
    }
    let before = cluster.pods(SHOP, "app").await.unwrap_or_default();
    stage.tell("weft install");
    let Some(took) = point.step("`weft install`", mesh::install(cluster).await) else {
        return;
    };
    point.assert(
        "`weft install` ends with a mesh that is ready",
        "ready",
        told(took),
        true,
    );
    stage.tell("kubectl label namespace");
    let begun = Instant::now();
    let mark = Mark::now();
    if point.step("one label", mesh::enable(cluster, SHOP).await).is_none() {
        return;
    }
    let labelled = begun.elapsed();
    let law = "every pod of the labelled namespace is captured";
    let Some(pods) = point.step(law, mesh::captured(cluster, SHOP).await) else {
        return;
    };
    point.assert(
        law,
        "captured",
        format!("{} pods, {}", pods.len(), told(begun.elapsed())),
        true,
    );
    point.assert("the label takes", "-", told(labelled), true);
    let restarted = restarted(&before, &pods);
    point.equal("no pod was restarted or replaced", "0", &*restarted.to_string());
    first_request(stage, point, &mark, begun).await;
}

/// Asks a server on the other node, and waits for the log line that names who asked.
async fn first_request(stage: &Stage, point: &mut Point, mark: &Mark, begun: Instant) {
    let cluster = &stage.cluster;
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let server = cluster.pod(SHOP, "far").await?;
        let url = service_url(cluster, SHOP, "far").await?;
        Ok((client, server, url))
    };
    let Some((client, server, url)) = point.step("client and server run", asked.await) else {
        return;
    };
    let law = "client and server are on two nodes";
    let nodes = format!("{} and {}", client.node, server.node);
    point.assert(
        law,
        "two nodes",
        nodes,
        client.node != server.node || stage.nodes.len() < 2,
    );
    let answer = mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await;
    let after = begun.elapsed();
    let law = "the first request after the label is answered";
    point.assert(
        law,
        "200",
        format!("{}, {}", answer.phrase(), told(after)),
        answer.status == 200,
    );
    let from = format!("{}:", client.address);
    let event = mesh::awaited_event(cluster, ZTUNNELS, "access", mark, |event| {
        event.is("reporter", "destination") && event.field("src.addr").starts_with(&from)
    });
    let identity = event.await.map(|event| event.field("src.identity")).unwrap_or_default();
    point.equal(
        "the server's node logs the caller's identity, at the caller's own address",
        CLIENT,
        &*identity,
    );
}

/// How many pods of before are gone, or started their containers again.
fn restarted(before: &[Pod], after: &[Pod]) -> usize {
    let same = |pod: &&Pod| {
        let found = after.iter().find(|it| it.uid == pod.uid);
        found.is_some_and(|it| it.restarts == pod.restarts)
    };
    before.len() - before.iter().filter(same).count()
}

fn told(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_that_is_another_or_began_again_counts_as_restarted() {
        let pod = |uid: &str, restarts| Pod {
            uid: uid.into(),
            restarts,
            ..Pod::default()
        };
        let before = [pod("a", 0), pod("b", 1), pod("c", 0)];
        assert_eq!(restarted(&before, &before), 0);
        assert_eq!(restarted(&before, &[pod("a", 0), pod("b", 2), pod("d", 0)]), 2);
    }
}
