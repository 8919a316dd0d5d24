//! A client outside the mesh.

use act::process::Failure;
use serde_json::json;

use super::{cluster::Cluster, manifests::IMAGE};

/// Where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outsider {
    pub(super) namespace: &'static str,
    pub(super) pod: &'static str,
}

const OUTSIDER: Outsider = Outsider {
    namespace: "e2e-outside",
    pod: "outsider",
};

/// Starts one in a namespace of its own.
pub(super) async fn lay(cluster: &Cluster) -> Result<Outsider, Failure> {
    let Outsider { namespace, pod } = OUTSIDER;
    if cluster.get(&["pod", "-n", namespace, pod]).await.is_ok() {
        return Ok(OUTSIDER);
    }
    cluster.fresh_namespace(namespace).await?;
    let object = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": pod, "namespace": namespace},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": [{"name": pod, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "infinity"]}],
        },
    });
    cluster.apply(&object.to_string()).await?;
    let name = format!("pod/{pod}");
    cluster
        .kubectl(&["wait", "--for=condition=Ready", "-n", namespace, &name, "--timeout=50s"])
        .await?;
    Ok(OUTSIDER)
}

/// Takes it away.
pub(super) async fn remove(cluster: &Cluster) -> Result<(), Failure> {
    cluster.remove_namespace(OUTSIDER.namespace).await
}
