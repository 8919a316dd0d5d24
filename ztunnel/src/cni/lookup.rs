//! The API server asked by the plugin itself, while the agent cannot say: is this pod to be captured? Only yes or
//! no comes of it, never an identity.

use std::{collections::BTreeMap, path::Path, time::Duration};

use act::config::{MODE, is_enabled};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::ask::PodName;

/// How long the API server may take for both answers.
pub(super) const PATIENCE: Duration = Duration::from_secs(4);

type Labels = BTreeMap<String, String>;

/// Whether the pod is to be captured.
///
/// # Errors
/// Why nobody knows. Bound the wait outside.
pub(super) async fn is_enrolled(kubeconfig: &Path, pod: &PodName) -> Result<bool, String> {
    let client = client(kubeconfig).await?;
    let refused = |why: kube::Error| format!("the API server does not say whether the pod is in the mesh: {why}");
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let pods: Api<Pod> = Api::namespaced(client, &pod.namespace);
    let namespace = namespaces.get_metadata(&pod.namespace).await.map_err(refused)?;
    let found = pods.get_opt(&pod.name).await.map_err(refused)?;
    Ok(judge(found.as_ref(), namespace.metadata.labels.as_ref()))
}

async fn client(kubeconfig: &Path) -> Result<Client, String> {
    let unusable = |why: &dyn std::fmt::Display| format!("{} cannot be used: {why}", kubeconfig.display());
    let read = Kubeconfig::read_from(kubeconfig).map_err(|why| unusable(&why))?;
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
        .await
        .map_err(|why| unusable(&why))?;
    Client::try_from(config).map_err(|why| unusable(&why))
}

/// Design 28, for what the API server holds under this name now. A pod that is gone is judged by its namespace.
fn judge(pod: Option<&Pod>, namespace: Option<&Labels>) -> bool {
    let mode = |labels: Option<&Labels>| labels?.get(MODE).cloned();
    let on_host = pod.and_then(|pod| pod.spec.as_ref()?.host_network).unwrap_or(false);
    let of_pod = mode(pod.and_then(|pod| pod.metadata.labels.as_ref()));
    !on_host && is_enabled(of_pod.as_deref(), mode(namespace).as_deref())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn labels_decide_and_the_hosts_network_is_left_alone() {
        let labels = |mode: &str| Labels::from([(MODE.to_owned(), mode.to_owned())]);
        let pod = |mode: Option<&str>, on_host: bool| -> Pod {
            let labels = mode.map(labels);
            serde_json::from_value(json!({
                "metadata": {"name": "p", "labels": labels},
                "spec": {"hostNetwork": on_host, "containers": []},
            }))
            .unwrap()
        };
        for (of_pod, on_host, namespace, wanted) in [
            (None, false, None, false),
            (None, false, Some("ambient"), true),
            (Some("none"), false, Some("ambient"), false),
            (Some("ambient"), false, None, true),
            (Some("amient"), false, Some("ambient"), true),
            (None, true, Some("ambient"), false),
        ] {
            let namespace = namespace.map(labels);
            let judged = judge(Some(&pod(of_pod, on_host)), namespace.as_ref());
            assert_eq!(judged, wanted, "{of_pod:?} {on_host} {namespace:?}");
        }
        assert!(judge(None, Some(&labels("ambient"))) && !judge(None, None));
    }
}
