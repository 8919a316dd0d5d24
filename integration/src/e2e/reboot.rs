//! Point 10, second part: a node is rebooted, and its network plugin writes its configuration anew. Without a
//! configuration of ours such pods run until the agent starts, which then says so and cuts what they opened; with it
//! (`cni.ownConfig`) none starts uncaptured.

use std::time::Duration;

use act::process::Failure;
use serde_json::json;

use super::{
    cluster::{Cluster, Pod, text, until},
    manifests::{IMAGE, SHOP},
    mesh::{self, Mark, Source},
    outsider::{self, Outsider},
    stage::{MESH, Stage},
};
use crate::{
    check::Point,
    load::{Report, unix_milliseconds},
};

/// How long a node may take to be back with its pods.
const BACK: Duration = Duration::from_secs(120);
/// Node label that no node has.
const NOWHERE: &str = r#"{"spec":{"template":{"spec":{"nodeSelector":{"weft.dev/e2e":"nowhere"}}}}}"#;
const ANYWHERE: &str = r#"{"spec":{"template":{"spec":{"nodeSelector":{"weft.dev/e2e":null}}}}}"#;
/// What a network plugin does that writes its configuration at every start: our entry is not in it, and every other byte
/// is as it was at first.
const REWRITE: &str = r#"
import glob, json
for name in glob.glob("/etc/cni/net.d/*.conflist"):
    if "00-weft" in name: continue
    text = open(name).read()
    for start in [at for at, letter in enumerate(text) if letter == "{"][::-1]:
        entry, end = json.JSONDecoder().raw_decode(text, start)
        if entry.get("type") == "weft-cni":
            text = text[:text.rindex(",", 0, start)] + text[end:]
    open(name, "w").write(text)
"#;
/// Where the agents are heard.
const AGENTS: Source<'static> = Source {
    namespace: MESH,
    selector: "app.kubernetes.io/name=weft-cni",
};
/// A pod that keeps a connection to whoever is outside the mesh.
const GAP: &str = "gap";

/// First without a configuration of our own, then with it.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    if !stage.ours_or_not_shown(10, "a node's reboot leaves no pod uncaptured for long") {
        return;
    }
    let cluster = &stage.cluster;
    let laid = lay(stage).await;
    if point.step("a pod with a connection out of the mesh", laid).is_some() {
        with_a_gap(stage, point).await;
        without_a_gap(stage, point).await;
    }
    let gone = ["delete", "pod", "-n", SHOP, GAP, "--ignore-not-found"];
    point.step("the pod goes", cluster.kubectl(&gone).await);
    point.step("the outsider goes", outsider::remove(cluster).await);
}

/// The pod, which starts again by itself, on the node that will be rebooted; whom it asks is on another.
async fn lay(stage: &Stage) -> Result<(), Failure> {
    let cluster = &stage.cluster;
    let Outsider { namespace, .. } = outsider::lay(cluster).await?;
    let server = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "server", "namespace": namespace},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": stage.first_node()},
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "server", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["weft-load", "serve", "--name", "outsider"]}],
        },
    });
    cluster.apply(&server.to_string()).await?;
    let ready = [
        "wait",
        "--for=condition=Ready",
        "-n",
        namespace,
        "pod/server",
        "--timeout=50s",
    ];
    cluster.kubectl(&ready).await?;
    let address = text(
        &cluster.get(&["pod", "-n", namespace, "server"]).await?,
        "/status/podIP",
    );
    let url = format!("http://{address}:8080/");
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": GAP, "namespace": SHOP, "labels": {"app": GAP}},
        "spec": {
            "serviceAccountName": "client",
            "nodeSelector": {"kubernetes.io/hostname": stage.last_node()},
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "load", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["weft-load", "client", url, "--clients", "1", "--pause", "50ms"]}],
        },
    });
    cluster.apply(&object.to_string()).await?;
    mesh::captured(cluster, SHOP).await.map(|_| ())
}

/// The agent comes last: pods have started, and talk.
async fn with_a_gap(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("a reboot after which pods start before the agent");
    let node = stage.last_node();
    let started = async {
        agents(cluster, NOWHERE).await?;
        reboot(stage).await?;
        // until it starts anew, its log is that of its former life
        let since = unix_milliseconds();
        let talks = || async { report(cluster, since).await.is_ok_and(|report| report.answered() > 0) };
        match until(BACK, talks).await {
            true => Ok(since),
            false => Err(Failure("the pod asks nobody after the reboot".into())),
        }
    };
    let law = "without an agent and its entry, pods start after a reboot and talk";
    let Some(since) = point.step(law, started.await) else {
        point.step("the agents are back", agents(cluster, ANYWHERE).await);
        return;
    };
    let mark = Mark::now();
    let before = report(cluster, since).await.unwrap_or_default();
    let law = "the agent starts, and captures them";
    let captured = async {
        agents(cluster, ANYWHERE).await?;
        settled(stage).await
    };
    let Some(pods) = point.step(law, captured.await) else {
        return;
    };
    let here = pods.iter().filter(|pod| pod.node == node).count();
    soon(stage, point, &mark, here).await;
    let cut = until(Duration::from_secs(20), || async {
        report(cluster, since)
            .await
            .is_ok_and(|now| broken(&now) > broken(&before))
    });
    let cut = cut.await;
    let seen = report(cluster, since)
        .await
        .map(|now| now.summary())
        .unwrap_or_default();
    point.assert("the connection that a pod opened meanwhile is reset", "cut", seen, cut);
    told(stage, point).await;
}

/// From the agent's start to the capture of every pod of its node, by the agent's own clock.
async fn soon(stage: &Stage, point: &mut Point, mark: &Mark, pods: usize) {
    let log = mesh::log(&stage.cluster, AGENTS, mark).await.unwrap_or_default();
    let events: Vec<serde_json::Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let at = |event: &serde_json::Value| humantime::parse_rfc3339(&text(event, "/timestamp")).ok();
    let says = |event: &&serde_json::Value, words: &str| event.to_string().contains(words);
    let start = events
        .iter()
        .filter(|event| says(event, "weft-cni agent started") && says(event, stage.last_node()))
        .filter_map(at)
        .next_back();
    let captured: Vec<_> = events
        .iter()
        .filter(|event| says(event, "\"captured\""))
        .filter_map(at)
        .filter(|at| start.is_some_and(|start| *at >= start))
        .collect();
    let took = start.zip(captured.iter().max().copied());
    let took = took.and_then(|(start, end)| end.duration_since(start).ok());
    let law = "each is captured within 1 s of the agent's start";
    let seen = took.map_or_else(
        || format!("{} of {pods} captured, start {start:?}", captured.len()),
        |took| format!("{} captured within {} ms", captured.len(), took.as_millis()),
    );
    let pass = captured.len() >= pods && took.is_some_and(|took| took <= Duration::from_secs(1));
    point.assert(law, "1000 ms or less", seen, pass);
}

/// An Event on the pod, a metric of the agent, a line of `weft check`.
async fn told(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let fields = format!("involvedObject.name={GAP},reason=RanUncaptured");
    let words = ["events", "-n", SHOP, "--field-selector", &*fields];
    let event = until(Duration::from_secs(20), || async {
        cluster.list(&words).await.is_ok_and(|events| !events.is_empty())
    });
    let event = event.await;
    point.assert(
        "the gap is an Event",
        "RanUncaptured",
        if event { "RanUncaptured" } else { "none" },
        event,
    );
    let gaps = gaps(stage).await;
    point.assert("the gap is a metric", "1 or more", gaps, gaps > 0);
    let checked = cluster.weft(&["check"], Duration::from_secs(60)).await;
    let said = checked.map(|told| told.stdout + &told.stderr).unwrap_or_default();
    let line = said.lines().find(|line| line.contains("ran uncaptured"));
    let seen = line.unwrap_or("no such line");
    point.assert(
        "the gap is a line of `weft check`",
        "ran uncaptured",
        seen,
        line.is_some(),
    );
}

/// Our own configuration, first in order, wraps the primary's: whatever that does to its own, ours stands.
async fn without_a_gap(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("a reboot with a configuration of our own");
    let node = stage.last_node();
    let law = "`weft upgrade --set cni.ownConfig=true`";
    if point.step(law, own_config(cluster, true).await).is_none() {
        return;
    }
    let first = "cd /etc/cni/net.d && ls *.conflist | head -1 && cat $(ls *.conflist | head -1)";
    if let Some(text) = point.step(law, cluster.on_node(node, &["sh", "-c", first]).await) {
        let conf: serde_json::Value =
            serde_json::from_str(text.split_once('\n').unwrap_or_default().1).unwrap_or_default();
        let plugins = conf["plugins"].as_array().map(Vec::as_slice).unwrap_or_default();
        let types: Vec<_> = plugins.iter().filter_map(|it| it["type"].as_str()).collect();
        let pass = text.starts_with("00-weft.conflist") && types.len() > 1 && types.last() == Some(&"weft-cni");
        let law = "ours is first in order, and wraps the primary's";
        point.assert(law, "00-weft.conflist: …, weft-cni", types.join(", "), pass);
    }
    let mark = Mark::now();
    let back = async {
        reboot(stage).await?;
        settled(stage).await
    };
    let law = "after a reboot every pod is captured again";
    if let Some(pods) = point.step(law, back.await) {
        point.assert(law, "captured", format!("{} pods", pods.len()), true);
    }
    let gaps = gaps(stage).await;
    point.equal("none of them ran uncaptured", "0", &*gaps.to_string());
    let log = mesh::log(cluster, AGENTS, &mark).await.unwrap_or_default();
    let line = log
        .lines()
        .find(|line| line.contains("ran uncaptured"))
        .unwrap_or("nothing");
    point.equal("and the agent says nothing of the kind", "nothing", line);
    point.step("our own configuration goes", own_config(cluster, false).await);
}

async fn own_config(cluster: &Cluster, own: bool) -> Result<(), Failure> {
    let value = format!("cni.ownConfig={own}");
    let finished = cluster
        .weft(&["upgrade", "--set", &value], Duration::from_secs(200))
        .await?;
    if !finished.success() {
        return Err(Failure(format!("weft upgrade: {}", finished.stderr.trim())));
    }
    let agents = cluster.rolled_out(MESH, "daemonset/weft-cni", Duration::from_secs(60));
    agents.await
}

/// Has the agents run nowhere, or on every node; waits until it is so.
async fn agents(cluster: &Cluster, where_to: &str) -> Result<(), Failure> {
    let patch = ["patch", "daemonset", "weft-cni", "-n", MESH, "-p", where_to];
    cluster.kubectl(&patch).await?;
    if where_to == ANYWHERE {
        return cluster
            .rolled_out(MESH, "daemonset/weft-cni", Duration::from_secs(60))
            .await;
    }
    let none = || async {
        let pods = cluster.pods(MESH, AGENTS.selector).await;
        pods.is_ok_and(|pods| pods.is_empty())
    };
    match until(Duration::from_secs(60), none).await {
        true => Ok(()),
        false => Err(Failure("the agents do not go".into())),
    }
}

/// The last node, its network plugin's configuration as at a first start.
async fn reboot(stage: &Stage) -> Result<(), Failure> {
    let cluster = &stage.cluster;
    let node = stage.last_node();
    let boots = boot_id(cluster, node).await?;
    // the last thing before the power goes: an agent would repair it
    let words = cluster.reach().node_words(node, &["python3", "-c", REWRITE]);
    let restart = cluster.reach().tool_words(&["restart", node]);
    let (Some(words), Some(restart)) = (words, restart) else {
        return Err(Failure("the nodes of this cluster are not ours to reboot".into()));
    };
    super::reach::run(&words, "", BACK).await?;
    let finished = super::reach::run(&restart, "", BACK).await?;
    if !finished.success() {
        return Err(Failure(format!("{node} does not reboot: {}", finished.stderr.trim())));
    }
    // until then the API server shows the node as it was
    let back = until(BACK, || async {
        boot_id(cluster, node).await.is_ok_and(|now| now != boots)
    });
    match back.await {
        true => Ok(()),
        false => Err(Failure(format!("{node} is not back within {} s", BACK.as_secs()))),
    }
}

/// Tells one life of a node from the next.
async fn boot_id(cluster: &Cluster, node: &str) -> Result<String, Failure> {
    let transitions = cluster.on_node(node, &["stat", "-c", "%Y %i", "/run/containerd/containerd.sock"]);
    transitions.await
}

/// Every pod of the shop runs in its new sandbox and is captured there.
async fn settled(stage: &Stage) -> Result<Vec<Pod>, Failure> {
    let cluster = &stage.cluster;
    let node = stage.last_node();
    let whole = || async {
        let dump = dump(stage).await.unwrap_or_default();
        let pods = cluster.pods(SHOP, "app").await.unwrap_or_default();
        let here: Vec<_> = pods.iter().filter(|pod| pod.node == node && !pod.ending).collect();
        let captured = |pod: &&Pod| dump.contains(&format!("{SHOP}/{}", pod.name)) && pod.ready && pod.captured;
        !here.is_empty() && here.iter().all(captured) && !dump.contains("\"Waiting\"")
    };
    match until(BACK, whole).await {
        true => mesh::captured(cluster, SHOP).await,
        false => Err(Failure(format!(
            "not every pod of {node} is captured within {} s",
            BACK.as_secs()
        ))),
    }
}

/// What the node's agent says of its pods.
async fn dump(stage: &Stage) -> Result<String, Failure> {
    let words = ["curl", "-s", "-m", "3", "http://127.0.0.1:15010/config_dump"];
    stage.cluster.on_node(stage.last_node(), &words).await
}

/// How many gaps the node's agent counts.
async fn gaps(stage: &Stage) -> u64 {
    let words = ["curl", "-s", "-m", "3", "http://127.0.0.1:15011/metrics"];
    let metrics = stage
        .cluster
        .on_node(stage.last_node(), &words)
        .await
        .unwrap_or_default();
    let line = metrics.lines().find(|line| line.starts_with("weft_cni_gaps_total"));
    let count = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    count.unwrap_or(u64::MAX)
}

/// What became of the pod's requests since a moment.
async fn report(cluster: &Cluster, since: u64) -> Result<Report, Failure> {
    Ok(Report::read(&cluster.logs(SHOP, GAP).await?).since(since))
}

fn broken(report: &Report) -> u64 {
    report.failed() + report.closed()
}
