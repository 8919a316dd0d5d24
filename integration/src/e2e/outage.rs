//! Point 4: the CA and the API server are away for longer than a leaf's renewal takes; nothing fails, nothing is plain,
//! and new pods wait.

use std::time::Duration;

use act::process::Failure;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    barrier,
    cluster::{Cluster, text, until},
    control::Component,
    first_request::CLIENT,
    load::{PodLoad, flawless},
    manifests::{IMAGE, SHOP, roll_ztunnels, service_url},
    mesh::{self, CAS, LEAF_LIFE, Mark, api_is_back},
    smoke::from_the_shop,
    stage::{MESH, Stage},
    wire::Wire,
};
use crate::check::Point;

/// How long leaves live here: a renewal comes at half of it, give or take a tenth of that. What is left must cover, besides
/// [`AWAY`], what Kubernetes takes to have the CA back: the API server's start, the controllers' new election, the
/// addresses of pods that were made anew; over 60 s on a slow machine. The default of 24 h covers half a day.
const LIFE: Duration = Duration::from_secs(240);
/// How long both are away: longer than any renewal takes to come (132 s).
const AWAY: Duration = Duration::from_secs(140);
/// In every request, so that one in the clear is seen.
const MARKER: &str = "marker-of-the-outage";

/// Ends every process of the CA's pods on a node, their sandboxes included, and tells how many there were. The name is
/// that of the container's first process; the others of its pod share its network.
const KILL: &str = r#"for ca in $(pgrep -x ca); do
  network=$(readlink /proc/$ca/ns/net)
  for process in /proc/[0-9]*; do
    if [ "$(readlink $process/ns/net)" = "$network" ]; then kill -KILL ${process#/proc/} && echo killed; fi
  done
done
true"#;

/// Takes both away right after every leaf was renewed, and lets Kubernetes bring the CA back: it needs the API server for
/// its keys, and gets new sandboxes.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let promise = "API server and CA are away for longer than a renewal interval";
    if !stage.ours_or_not_shown(4, promise) {
        return;
    }
    let cluster = &stage.cluster;
    stage.tell("leaves of four minutes, all of them fresh");
    if point
        .step("fresh leaves of four minutes", fresh_leaves(cluster, LIFE).await)
        .is_none()
    {
        return;
    }
    let started = async {
        let wire = Wire::open(stage, &[MARKER]).await?;
        let url = format!("{}{MARKER}", service_url(cluster, SHOP, "far").await?);
        let load = PodLoad::start(cluster, from_the_shop(stage), "load-outage", &url).await?;
        Ok((wire, load))
    };
    let Some((wire, load)) = point.step("load and a capture of the link", started.await) else {
        return;
    };
    stage.tell(promise);
    let mark = Mark::now();
    let back = away(stage, point).await;
    let law = "a pod that waited starts once the CA is back";
    let runs = until(Duration::from_secs(90), || async { is_ready(cluster).await }).await;
    point.assert(law, "ready", if runs { "ready" } else { "not within 90 s" }, runs);
    renewed(cluster, point, &mark, back).await;
    let outcome = load.stop().await;
    flawless(point, "no request fails while both are away, nor after", outcome);
    crossed(point, &wire).await;
    let late = ["delete", "pod", "-n", SHOP, "late", "--grace-period=1"];
    point.step("the pod goes", cluster.kubectl(&late).await);
    point.step("leaves live as before", set_life(cluster, LEAF_LIFE).await);
}

/// Both go, a pod is begun meanwhile, and both come back; answers when.
async fn away(stage: &Stage, point: &mut Point) -> Instant {
    let cluster = &stage.cluster;
    let begun = Instant::now();
    let nodes: Vec<_> = stage.nodes.iter().map(String::as_str).collect();
    // A pod can only be begun while there is an API server, so the CA is cut off first, and killed once that is gone.
    point.step("the CA goes", barrier::raise(stage, &nodes, "tcp dport 15012").await);
    new_pod_waits(cluster, point).await;
    point.step("the API server goes", Component::ApiServer.stop(cluster, None).await);
    // One that holds a lease ends when it cannot renew it; ours has none, and would take nodes that could not report to
    // an API server for dead the moment that is back.
    let controllers = Component::ControllerManager;
    point.step("and the controllers", controllers.stop(cluster, None).await);
    killed(stage, point).await;
    point.step(
        "no packet filter holds the CA back",
        barrier::lower(stage, &nodes).await,
    );
    sleep((begun + AWAY).saturating_duration_since(Instant::now())).await;
    let back = Instant::now();
    point.step(
        "the API server is back",
        Component::ApiServer.start(cluster, None).await,
    );
    point.step("the API server serves", api_is_back(cluster).await);
    point.step("and the controllers are back", controllers.start(cluster, None).await);
    let away = back - begun;
    point.assert(
        "they were away for longer than a renewal interval",
        "132 s or more",
        format!("{} s", away.as_secs()),
        away >= LIFE.mul_f64(0.55),
    );
    back
}

/// Every process of the CA, on every node.
async fn killed(stage: &Stage, point: &mut Point) {
    let mut number = 0;
    for node in &stage.nodes {
        let law = format!("the CA's pods on {node} are killed");
        let said = stage.cluster.on_node(node, &["sh", "-c", KILL]).await;
        number += point.step(&law, said).map_or(0, |said| said.lines().count());
    }
    let law = "every process of the CA's pods is killed, their sandboxes too";
    point.assert(law, "4 or more", number, number >= 4);
}

/// Renewal goes on: the leaves that were due meanwhile are signed.
async fn renewed(cluster: &Cluster, point: &mut Point, mark: &Mark, back: Instant) {
    let law = "renewal resumes: what was due meanwhile is signed";
    let signed = until(Duration::from_secs(60), || async {
        let audits = mesh::events(cluster, CAS, "audit", mark).await.unwrap_or_default();
        audits
            .iter()
            .any(|event| event.is("decision", "issued") && event.is("wanted", CLIENT))
    });
    let signed = signed.await;
    let seen = if signed { "signed" } else { "not yet" };
    let seen = format!(
        "{seen}, {} s after the API server was started",
        back.elapsed().as_secs()
    );
    point.assert(law, "signed", seen, signed);
}

/// What the capture of the link holds: the tunnels, and no request in the clear.
async fn crossed(point: &mut Point, wire: &Wire) {
    let saw = wire.saw(MARKER).await;
    let seen = if saw { "seen" } else { "not seen" };
    point.assert("no request crosses in the clear", "not seen", seen, !saw);
    let tunnels = wire.payload(15008);
    let seen = format!("{tunnels} bytes on 15008");
    point.assert("the same capture holds the tunnels", "some bytes", seen, tunnels > 0);
}

/// A pod of the mesh that begins without a CA: it must not run, and an Event must say why.
async fn new_pod_waits(cluster: &Cluster, point: &mut Point) {
    let law = "a new pod waits while there is no CA";
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "late", "namespace": SHOP, "labels": {"app": "late"}},
        "spec": {
            // An account of its own: a leaf that is there already would serve it.
            "serviceAccountName": "late",
            "containers": [{"name": "late", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["weft-load", "serve"]}],
        },
    });
    let account =
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "late", "namespace": SHOP}});
    let laid = async {
        cluster.apply(&account.to_string()).await?;
        cluster.apply(&pod.to_string()).await
    };
    if point.step(law, laid.await).is_none() {
        return;
    }
    let told = until(Duration::from_secs(20), || async { !reason(cluster).await.is_empty() }).await;
    let why = reason(cluster).await;
    point.assert(
        "an Event of the pod says why it waits",
        "an Event that names the mesh",
        why,
        told,
    );
    let ready = is_ready(cluster).await;
    point.assert(
        law,
        "not running",
        if ready { "running" } else { "not running" },
        !ready,
    );
}

async fn is_ready(cluster: &Cluster) -> bool {
    let pods = cluster.pods(SHOP, "app=late").await.unwrap_or_default();
    pods.iter().any(|pod| pod.running && pod.ready)
}

/// What an Event of the waiting pod says of us.
async fn reason(cluster: &Cluster) -> String {
    let words = ["events", "-n", SHOP, "--field-selector", "involvedObject.name=late"];
    let events = cluster.list(&words).await.unwrap_or_default();
    let mut messages = events.iter().map(|event| text(event, "/message"));
    messages
        .find(|message| message.contains("weft") || message.contains("ztunnel"))
        .unwrap_or_default()
}

/// Every ztunnel starts anew, so that all leaves are of one age.
async fn fresh_leaves(cluster: &Cluster, life: Duration) -> Result<(), Failure> {
    set_life(cluster, life).await?;
    roll_ztunnels(cluster).await?;
    mesh::captured(cluster, SHOP).await.map(|_| ())
}

async fn set_life(cluster: &Cluster, life: Duration) -> Result<(), Failure> {
    let value = format!("ca.leafLife={}s", life.as_secs());
    let finished = cluster
        .weft(&["upgrade", "--set", &value], Duration::from_secs(200))
        .await?;
    match finished.success() {
        true => cluster.rolled_out(MESH, "deployment/ca", Duration::from_secs(60)).await,
        false => Err(Failure(format!("weft upgrade: {}", finished.stderr.trim()))),
    }
}
