//! Point 3: under fifty new connections a second, servers, the CA, the agents and Kubernetes itself come and go.

use std::time::Duration;

use act::process::Failure;
use tokio::time::{Instant, sleep};

use super::{
    cluster::{Cluster, text},
    control::Component,
    kept,
    load::{PodLoad, flawless},
    manifests::{SHOP, roll, service_url},
    mesh::{self, Mark, api_is_back},
    smoke::from_the_shop,
    stage::{MESH, Stage},
};
use crate::check::Point;

/// How often the servers are replaced.
const ROLLOUTS: usize = 20;
/// How long load goes on before and after each disturbance.
const AROUND: Duration = Duration::from_secs(6);
/// The longest that a kubelet may take to be back.
const BACK: Duration = Duration::from_secs(60);
/// How long its pods must have been ready then: each is probed once a second.
const STEADY: Duration = Duration::from_secs(4);

/// Every disturbance, each under load of its own.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let servers = async {
        for turn in 1..=ROLLOUTS {
            roll(cluster, SHOP, "deployment/web").await?;
            if turn % 5 == 0 {
                stage.tell(&format!("{turn} of {ROLLOUTS} rollouts"));
            }
        }
        Ok(())
    };
    let law = format!("{ROLLOUTS} rollouts of graceful servers fail no request");
    let since = Mark::now();
    let kept = kept::start(stage, "load-servers-kept").await;
    under_load(stage, point, "load-servers", &law, servers).await;
    if let Some(kept) = point.step(&law, kept) {
        let outcome = kept.stop().await;
        kept::ended_by_servers_alone(stage, point, &law, &since, outcome).await;
    }
    kept::ztunnels(stage, point).await;
    let law = "a rollout of the CA fails no request";
    under_load(stage, point, "load-ca", law, roll(cluster, MESH, "deployment/ca")).await;
    let law = "a restart of the node agents fails no request";
    under_load(
        stage,
        point,
        "load-agents",
        law,
        roll(cluster, MESH, "daemonset/weft-cni"),
    )
    .await;
    let promise = "API server, kubelets and controller manager restart";
    if !stage.ours_or_not_shown(3, promise) {
        return;
    }
    let law = "a restart of the API server fails no request";
    let restart = async {
        Component::ApiServer.restart(cluster, None).await?;
        api_is_back(cluster).await
    };
    under_load(stage, point, "load-api-server", law, restart).await;
    let law = "a restart of each kubelet, one after the other, fails no request";
    let restart = async {
        for node in &stage.nodes {
            restart_kubelet(cluster, node).await?;
        }
        Ok(())
    };
    under_load(stage, point, "load-kubelets", law, restart).await;
    let law = "a restart of the controller manager fails no request";
    let restart = Component::ControllerManager.restart(cluster, None);
    under_load(stage, point, "load-controllers", law, restart).await;
}

/// Restarts a kubelet and waits until it knows its pods again. One that is new may call them unready for a moment: with
/// two of them at once Kubernetes itself says that a Service has nobody to answer, with a mesh or without.
async fn restart_kubelet(cluster: &Cluster, node: &str) -> Result<(), Failure> {
    let lease = async || {
        let lease = cluster.get(&["lease", "-n", "kube-node-lease", node]).await;
        lease.map(|lease| text(&lease, "/spec/renewTime")).unwrap_or_default()
    };
    let before = lease().await;
    Component::Kubelet.restart(cluster, Some(node)).await?;
    let end = Instant::now() + BACK;
    let (mut anew, mut steady) = (false, Instant::now());
    while !anew || steady.elapsed() < STEADY {
        if Instant::now() > end {
            let what = if anew {
                "keeps its pods ready"
            } else {
                "renews its lease"
            };
            return Err(Failure(format!("the kubelet of {node} is back, but never {what}")));
        }
        sleep(Duration::from_millis(100)).await;
        let now = lease().await;
        anew |= !now.is_empty() && now != before;
        let pods = cluster.pods(SHOP, "app=web").await.unwrap_or_default();
        if !anew || pods.iter().any(|pod| pod.node == node && !pod.ready) {
            steady = Instant::now();
        }
    }
    Ok(())
}

/// Load, the disturbance in its middle, and what became of every request.
async fn under_load(
    stage: &Stage,
    point: &mut Point,
    name: &str,
    law: &str,
    disturbance: impl Future<Output = Result<(), Failure>>,
) {
    let cluster = &stage.cluster;
    stage.tell(law);
    let started = async {
        let url = service_url(cluster, SHOP, "web").await?;
        PodLoad::start(cluster, from_the_shop(stage), name, &url).await
    };
    let Some(load) = point.step(law, started.await) else {
        return;
    };
    sleep(AROUND).await;
    point.step(&format!("{law}: it happens"), disturbance.await);
    sleep(AROUND).await;
    flawless(point, law, load.stop().await);
    // What is captured stays so, or the load above showed plaintext.
    point.step(
        &format!("{law}: every pod is captured"),
        mesh::captured(cluster, SHOP).await,
    );
}
