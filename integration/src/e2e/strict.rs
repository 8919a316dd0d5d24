//! Point 2: a server takes mutual TLS only; on its capture, what it had accepted before is cut.

use std::time::Duration;

use tokio::time::sleep;

use super::{
    cluster::until,
    ground::{Clients, WHILE, lossless},
    manifests::{SHOP, service_url},
    mesh::{self, curl},
    outsider::{self, Outsider},
    stage::Stage,
};
use crate::{check::Point, load::unix_milliseconds};

/// The far server takes mutual TLS only.
const STRICT: &str = "apiVersion: weft.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: far-strict, namespace: e2e-shop}
spec:
  selector: {matchLabels: {app: far}}
  mtls: {mode: STRICT}
";

/// STRICT refuses plain traffic, loses nothing on release, and cuts old connections on capture.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("STRICT: the namespace leaves the mesh and comes back under load");
    if point
        .step("the server takes mutual TLS only", cluster.apply(STRICT).await)
        .is_none()
    {
        return;
    }
    plain(stage, point).await;
    turn(stage, point).await;
    point.step("the server takes both again", cluster.delete(STRICT).await);
}

/// A client outside the mesh, by the server's own address.
async fn plain(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let law = "STRICT refuses plain traffic";
    let laid = async {
        let Outsider { namespace, pod } = outsider::lay(cluster).await?;
        let url = format!("http://{}:8080/", cluster.pod(SHOP, "far").await?.address);
        Ok((namespace, pod, url))
    };
    let Some((namespace, pod, url)) = point.step(law, laid.await) else {
        return;
    };
    let refused = until(Duration::from_secs(15), || async {
        let answer = curl(cluster, namespace, pod, &[&*url]).await;
        answer.is_ok_and(|answer| answer.status == 0)
    });
    let refused = refused.await;
    point.assert(
        law,
        "no answer",
        if refused { "no answer" } else { "answered" },
        refused,
    );
    let law = "and takes what comes through the mesh";
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let url = service_url(cluster, SHOP, "far").await?;
        Ok(mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await)
    };
    if let Some(answer) = point.step(law, asked.await) {
        point.assert(law, "200", answer.phrase(), answer.status == 200);
    }
    point.step("the outsider goes", outsider::remove(cluster).await);
}

async fn turn(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let Some(clients) = point.step("clients under load", Clients::start(stage, "strict-out").await) else {
        return;
    };
    sleep(WHILE).await;
    point.step("the namespace leaves the mesh", mesh::disable(cluster, SHOP).await);
    point.step("every pod is released", mesh::released(cluster, SHOP).await);
    sleep(WHILE).await;
    for (who, outcome) in clients.stop().await {
        lossless(point, &format!("STRICT: on release, {who} loses nothing"), outcome);
    }
    let Some(clients) = point.step("clients under load", Clients::start(stage, "strict-in").await) else {
        return;
    };
    sleep(WHILE).await;
    point.step("the namespace is in the mesh again", mesh::enable(cluster, SHOP).await);
    point.step("every pod is captured", mesh::captured(cluster, SHOP).await);
    // Clients that are captured a moment later than the server are refused until then.
    let settled = unix_milliseconds() + 1_000;
    sleep(WHILE).await;
    for (who, outcome) in clients.stop().await {
        let Some(outcome) = point.step(who, outcome) else {
            continue;
        };
        let report = &outcome.report;
        if who == Clients::NEW {
            let after = report.since(settled);
            let law = "STRICT: once all are captured, new connections lose nothing";
            let pass = report.is_whole() && after.failed() == 0 && after.answered() > 0;
            point.assert(law, "0 failed", after.summary(), pass);
        } else {
            let law = format!("STRICT: on capture, {who} is cut");
            let cut = report.failed() + report.closed() > 0;
            point.assert(&law, "cut", report.summary(), cut);
        }
    }
}
