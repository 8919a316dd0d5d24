//! Point 3: under fifty new connections a second, servers, the CA, the agents and Kubernetes itself come and go.

use std::time::Duration;

use act::process::Failure;
use tokio::time::sleep;

use super::{
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
    let law = "a restart of each kubelet fails no request";
    let restart = async {
        for node in &stage.nodes {
            Component::Kubelet.restart(cluster, Some(node)).await?;
            let ready = ["wait", "--for=condition=Ready", "node", node, "--timeout=50s"];
            cluster.kubectl(&ready).await?;
        }
        Ok(())
    };
    under_load(stage, point, "load-kubelets", law, restart).await;
    let law = "a restart of the controller manager fails no request";
    let restart = Component::ControllerManager.restart(cluster, None);
    under_load(stage, point, "load-controllers", law, restart).await;
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
