//! Point 11: packets to 15008 that a NetworkPolicy does not admit. `weft check` names the policy, and the two nodes
//! between which no connection comes about; the ztunnel's log says what the likely cause of a dial that is late is.
//! The test cluster's own CNI enforces no NetworkPolicy: the packet filter rules that one would install stand for it.

use act::process::Failure;
use serde_json::{Value, json};

use super::{
    barrier,
    cluster::{Pod, text},
    commands::{of, rows, told},
    manifests::{IMAGE, SHOP},
    mesh::{self, Mark, ZTUNNELS},
    stage::Stage,
};
use crate::check::Point;

/// The pod behind the policy: `weft check` proves with the first captured pod of a node.
const FENCED: &str = "a-fenced";
/// What a person writes who forgets that captured pods talk on 15008.
const POLICY: &str = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
"metadata": {"name": "forgets-15008", "namespace": "e2e-shop"},
"spec": {"podSelector": {"matchLabels": {"app": "a-fenced"}}, "policyTypes": ["Ingress"],
"ingress": [{"ports": [{"port": 8080, "protocol": "TCP"}]}]}}"#;
/// What every sentence about it names.
const CAUSE: &str = "NetworkPolicy that does not admit TCP port 15008";

/// The policy, its packet filter rules, and what is told of them.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("a NetworkPolicy that does not admit 15008");
    if let Some(pod) = point.step("a pod and a NetworkPolicy that selects it", lay(stage).await) {
        let closed = stage.ours_or_not_shown(11, "a way that a NetworkPolicy's rules close is told of")
            && close(stage, point, &pod).await;
        let law = "`weft check`, with a way that a NetworkPolicy closes";
        if let Some(rows) = point.step(law, rows(cluster, &["check"]).await) {
            named(point, &rows);
            if closed {
                pair(stage, point, &pod, &rows);
            }
        }
        if closed {
            late(stage, point, &pod).await;
            let lowered = barrier::lower(stage, &[stage.last_node()]).await;
            point.step("packets pass again", lowered);
        }
    }
    point.step("the policy goes", cluster.delete(POLICY).await);
    let gone = ["delete", "pod", "-n", SHOP, FENCED, "--ignore-not-found"];
    point.step("the pod goes", cluster.kubectl(&gone).await);
}

async fn lay(stage: &Stage) -> Result<Pod, Failure> {
    let cluster = &stage.cluster;
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": FENCED, "namespace": SHOP, "labels": {"app": FENCED}},
        "spec": {
            "nodeSelector": {"kubernetes.io/hostname": stage.last_node()},
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": "server", "image": IMAGE, "imagePullPolicy": "IfNotPresent",
                "command": ["weft-load", "serve", "--name", FENCED]}],
        },
    });
    cluster.apply(&object.to_string()).await?;
    cluster.apply(POLICY).await?;
    let name = format!("pod/{FENCED}");
    let ready = ["wait", "--for=condition=Ready", "-n", SHOP, &*name, "--timeout=50s"];
    cluster.kubectl(&ready).await?;
    mesh::captured(cluster, SHOP).await?;
    cluster.pod(SHOP, FENCED).await
}

/// Closes the way to the pod before anybody has gone it: a tunnel that is there would outlive the rules of many a CNI.
async fn close(stage: &Stage, point: &mut Point, pod: &Pod) -> bool {
    let matches = format!("ip daddr {} tcp dport 15008", pod.address);
    let raised = barrier::raise(stage, &[stage.last_node()], &matches).await;
    point.step("packets to 15008 of the pod are dropped", raised).is_some()
}

/// By the object alone, on every cluster.
fn named(point: &mut Point, rows: &[Value]) {
    let found = of(rows, "NetworkPolicies");
    let names = |row: &&Value| text(row, "/what").contains("e2e-shop/forgets-15008");
    let pass = found.iter().any(|row| names(row) && row["result"] != "ok");
    let law = "`weft check` names a NetworkPolicy that admits a port and not 15008";
    point.assert(law, "e2e-shop/forgets-15008", told(&found), pass);
}

/// By connections: the way to the pod is closed, the others are not.
fn pair(stage: &Stage, point: &mut Point, pod: &Pod, rows: &[Value]) {
    let ways = of(rows, "connections");
    let (closed, open): (Vec<&Value>, Vec<&Value>) = ways.iter().copied().partition(|row| row["result"] != "ok");
    let from = format!("on {} to {SHOP}/{} on {}: ", stage.first_node(), pod.name, pod.node);
    let pass = closed.len() == 1
        && closed[0]["result"] == "fail"
        && text(closed[0], "/what").contains(&from)
        && text(closed[0], "/what").contains(CAUSE)
        && open.len() + 1 == stage.nodes.len();
    let law = "`weft check` names the two nodes between which no connection comes about, and the likely cause";
    point.assert(law, format!("fail: … {from}… {CAUSE} …"), told(&ways), pass);
}

/// What an application meets, and its ztunnel's log says.
async fn late(stage: &Stage, point: &mut Point, pod: &Pod) {
    let cluster = &stage.cluster;
    let law = "the log of a dial to 15008 that is late names a NetworkPolicy as the likely cause";
    let mark = Mark::now();
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        let url = format!("http://{}:8080/", pod.address);
        // Longer than a ztunnel dials.
        mesh::curl(cluster, SHOP, &client.name, &["-m", "20", &url]).await
    };
    let Some(answer) = point.step(law, asked.await) else {
        return;
    };
    point.assert(
        "and nothing else leads to the pod",
        "no answer",
        answer.phrase(),
        answer.status == 0,
    );
    let to = format!("{}:", pod.address);
    let event = mesh::awaited_event(cluster, ZTUNNELS, "access", &mark, |event| {
        event.is("reporter", "source") && event.field("reason").contains(&to)
    });
    let seen = event
        .await
        .map_or_else(|| "no such line".into(), |event| event.field("reason"));
    point.assert(law, format!("… {CAUSE} …"), &seen, seen.contains(CAUSE));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_is_json_and_selects_the_pod() {
        let policy: Value = serde_json::from_str(POLICY).unwrap();
        assert_eq!(policy["spec"]["podSelector"]["matchLabels"]["app"], FENCED);
        assert_eq!(policy["metadata"]["namespace"], SHOP);
    }
}
