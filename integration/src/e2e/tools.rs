//! A pod outside the mesh that asks as outsiders may: the CA for certificates, anybody for tunnels. It holds whatever
//! token and certificate a test gives it.

use act::process::Failure;
use serde_json::json;

use super::{
    cluster::{Cluster, Pod, text},
    manifests::IMAGE,
    mesh,
    stage::MESH,
};
use crate::{
    third::tunnel::Tunnelled,
    world::{Finished, first_line},
};

/// What the CA wants tokens to be for.
pub(super) const AUDIENCE: &str = "weft-ca";
/// The namespace the questions are asked from; outside the mesh.
const NAMESPACE: &str = "e2e-tools";
const POD: &str = "tools";

/// Starts it, with the CA's root in it.
pub(super) async fn lay(cluster: &Cluster) -> Result<(), Failure> {
    cluster.fresh_namespace(NAMESPACE).await?;
    let tools = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": POD, "namespace": NAMESPACE},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": POD, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "infinity"]}],
        },
    });
    cluster.apply(&tools.to_string()).await?;
    let words = [
        "wait",
        "--for=condition=Ready",
        "-n",
        NAMESPACE,
        "pod/tools",
        "--timeout=50s",
    ];
    cluster.kubectl(&words).await?;
    let root = cluster.get(&["configmap", "-n", MESH, "weft-root"]).await?;
    write(cluster, "/tmp/root.pem", &text(&root, "/data/root.pem")).await
}

/// Takes it away.
pub(super) async fn remove(cluster: &Cluster) -> Result<(), Failure> {
    cluster.remove_namespace(NAMESPACE).await
}

/// Its address.
pub(super) async fn address(cluster: &Cluster) -> String {
    let pod = cluster.get(&["pod", "-n", NAMESPACE, POD]).await;
    pod.map(|pod| text(&pod, "/status/podIP")).unwrap_or_default()
}

/// Asks the CA for a certificate, and keeps it.
pub(super) async fn sign(cluster: &Cluster, token: &str, identity: &str) -> Result<Finished, Failure> {
    write(cluster, "/tmp/token", token).await?;
    let address = text(&cluster.get(&["service", "-n", MESH, "ca"]).await?, "/spec/clusterIP");
    let address = format!("https://{address}:15012");
    let words = [
        "weft-load",
        "sign",
        "--ca",
        &address,
        "--ca-name",
        "ca.weft-system.svc",
        "--ca-root",
        "/tmp/root.pem",
        "--token",
        "/tmp/token",
        "--identity",
        identity,
        "--out",
        "/tmp",
    ];
    cluster.exec(NAMESPACE, POD, &words).await
}

/// Asks for a tunnel, with the certificate it got last.
pub(super) async fn tunnel(cluster: &Cluster, to: &str, authority: &str) -> Result<Tunnelled, Failure> {
    let words = [
        "weft-load",
        "tunnel",
        "--to",
        to,
        "--authority",
        authority,
        "--identity",
        "/tmp",
    ];
    let finished = cluster.exec(NAMESPACE, POD, &words).await?;
    serde_json::from_str(finished.stdout.trim()).map_err(|_| {
        let said = first_line(&finished.stderr);
        Failure(format!("no tunnel could be tried: {said}"))
    })
}

/// Puts a text into the pod as an argument: what `kubectl exec -i` is piped may be cut off by its own end.
async fn write(cluster: &Cluster, path: &str, content: &str) -> Result<(), Failure> {
    let script = format!("printf %s \"$1\" > {path}");
    let words = ["sh", "-c", &script, "sh", content];
    let finished = cluster.exec(NAMESPACE, POD, &words).await?;
    match finished.success() {
        true => Ok(()),
        false => Err(Failure(format!(
            "{path} is not written: {}",
            first_line(&finished.stderr)
        ))),
    }
}

/// The ztunnel of a node.
pub(super) async fn ztunnel(cluster: &Cluster, node: &str) -> Result<Pod, Failure> {
    let pods = cluster.pods(MESH, mesh::ZTUNNELS.selector).await?;
    let mut here = pods
        .into_iter()
        .filter(|pod| pod.node == node && pod.running && !pod.ending);
    here.next().ok_or_else(|| Failure(format!("no ztunnel runs on {node}")))
}

/// A token as the kubelet would mount it: bound to the pod.
pub(super) async fn token(
    cluster: &Cluster,
    namespace: &str,
    account: &str,
    pod: &Pod,
    audience: &str,
) -> Result<String, Failure> {
    let audience = format!("--audience={audience}");
    let name = format!("--bound-object-name={}", pod.name);
    let uid = format!("--bound-object-uid={}", pod.uid);
    let words = [
        "create",
        "token",
        account,
        "-n",
        namespace,
        &audience,
        "--bound-object-kind=Pod",
        &name,
        &uid,
    ];
    cluster.kubectl(&words).await.map(|token| token.trim().to_owned())
}
