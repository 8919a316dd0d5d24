//! The mesh's own pods in a cluster: found by their labels, each a proxy that can be asked, or why it cannot.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{
    Api, Client,
    api::{DynamicObject, ListParams},
    core::{ApiResource, GroupVersionKind},
};

use crate::{cluster::sentence, proxies::Proxy};

/// The namespace of the mesh.
pub(crate) const MESH: &str = "weft-system";
/// The class of the Gateways that are waypoints of ours.
pub(crate) const WAYPOINT_CLASS: &str = "weft-waypoint";
/// The label by which the parts of the mesh are found.
const NAME: &str = "app.kubernetes.io/name";
/// The label of a Gateway's pods.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";
/// Names of the parts in the mesh's namespace, in the order they are listed.
pub(crate) const PARTS: [&str; 4] = ["ztunnel", "weft-cni", "ca", "waypoint"];
/// Where a part listens for its admin, unless its manifest says otherwise.
const ADMIN_PORT: u16 = 15000;

/// A pod of the mesh.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    /// What it is: one of [`PARTS`].
    pub(crate) kind: String,
    /// The pod.
    pub(crate) pod: Pod,
}

/// Every pod of the mesh, by part, namespace and name.
///
/// # Errors
/// When the API server does not tell.
pub(crate) async fn parts(client: &Client) -> Result<Vec<Part>, String> {
    let list = ListParams::default().labels(&format!("{NAME} in ({})", PARTS.join(",")));
    let pods: Api<Pod> = Api::namespaced(client.clone(), MESH);
    let found = pods
        .list(&list)
        .await
        .map_err(|error| sentence("list the pods of the mesh", &error))?;
    let mut parts: Vec<_> = found
        .items
        .into_iter()
        .map(|pod| Part {
            kind: label(&pod, NAME).unwrap_or_default().to_owned(),
            pod,
        })
        .collect();
    parts.extend(waypoints(client).await?);
    parts.sort_by_key(|part| {
        let rank = PARTS.iter().position(|name| *name == part.kind);
        let metadata = &part.pod.metadata;
        (rank, metadata.namespace.clone(), metadata.name.clone())
    });
    Ok(parts)
}

/// Every proxy of the mesh.
///
/// # Errors
/// When the API server does not tell, or there is none.
pub(crate) async fn proxies(client: &Client) -> Result<Vec<Proxy>, String> {
    let found = parts(client).await?;
    if found.is_empty() {
        return Err(format!(
            "no mesh is installed: namespace {MESH} has no pod of it; install it with: weft install"
        ));
    }
    Ok(found.iter().map(|part| proxy(client, &part.pod)).collect())
}

/// Pods of Gateways of our class: other meshes label the pods of theirs the same way.
async fn waypoints(client: &Client) -> Result<Vec<Part>, String> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
    let gateways: Api<DynamicObject> = Api::all_with(client.clone(), &ApiResource::from_gvk(&kind));
    let ours: BTreeSet<_> = match gateways.list(&ListParams::default()).await {
        Ok(found) => found
            .items
            .into_iter()
            .filter(|gateway| gateway.data["spec"]["gatewayClassName"] == WAYPOINT_CLASS)
            .map(|gateway| (gateway.metadata.namespace, gateway.metadata.name))
            .collect(),
        // Without Gateway API there is no waypoint.
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(Vec::new()),
        Err(error) => return Err(sentence("list the Gateways", &error)),
    };
    if ours.is_empty() {
        return Ok(Vec::new());
    }
    let pods: Api<Pod> = Api::all(client.clone());
    let found = pods
        .list(&ListParams::default().labels(GATEWAY))
        .await
        .map_err(|error| sentence("list the pods of waypoints", &error))?;
    let is_ours = |pod: &Pod| {
        let gateway = label(pod, GATEWAY).map(str::to_owned);
        ours.contains(&(pod.metadata.namespace.clone(), gateway))
    };
    Ok(found
        .items
        .into_iter()
        .filter(is_ours)
        // A waypoint in the mesh's own namespace may carry both labels.
        .filter(|pod| pod.metadata.namespace.as_deref() != Some(MESH) || label(pod, NAME) != Some("waypoint"))
        .map(|pod| Part {
            kind: "waypoint".into(),
            pod,
        })
        .collect())
}

/// A pod of the mesh as a proxy that can be asked.
pub(crate) fn proxy(client: &Client, pod: &Pod) -> Proxy {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    // Waypoints of two namespaces may have one name.
    let shown = match namespace {
        MESH => name.to_owned(),
        namespace => format!("{namespace}/{name}"),
    };
    let proxy = match not_running(pod) {
        Some(why) => Proxy::absent(&shown, why),
        None => Proxy::pod(client, (namespace, name), admin_port(pod), &shown),
    };
    proxy.on(node.unwrap_or_default())
}

/// Why no container of a pod runs, if none does; as the kubelet says it.
pub(crate) fn not_running(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref();
    let containers = status
        .and_then(|status| status.container_statuses.as_deref())
        .unwrap_or(&[]);
    let running = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    if containers.iter().any(running) {
        return None;
    }
    let said = containers.iter().find_map(|container| {
        let state = container.state.as_ref()?;
        let waiting = state.waiting.as_ref().map(|it| (&it.reason, &it.message));
        let (reason, message) = waiting.or_else(|| state.terminated.as_ref().map(|it| (&it.reason, &it.message)))?;
        Some(match (reason, message) {
            (Some(reason), Some(message)) => format!("{reason}: {message}"),
            (one, other) => one.clone().or_else(|| other.clone())?,
        })
    });
    let unscheduled = || {
        let conditions = status?.conditions.as_deref()?;
        let condition = conditions
            .iter()
            .find(|it| it.status == "False" && it.message.is_some())?;
        condition.message.clone()
    };
    let phase = || status.and_then(|status| status.phase.clone());
    let why = said.or_else(unscheduled).or_else(phase);
    Some(format!(
        "it does not run ({})",
        why.as_deref().unwrap_or("its state is unknown")
    ))
}

/// The admin port as a pod's manifest says it: `--admin`, else `WEFT_ADMIN`, else the default.
fn admin_port(pod: &Pod) -> u16 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let port = |address: &str| address.rsplit_once(':')?.1.parse().ok();
    let mut told = containers.filter_map(|container| {
        let words = || container.command.iter().chain(&container.args).flatten();
        let joined = words().find_map(|word| port(word.strip_prefix("--admin=")?));
        let apart = || {
            words()
                .skip_while(|word| *word != "--admin")
                .nth(1)
                .and_then(|word| port(word))
        };
        let variables = || container.env.iter().flatten();
        let set = || {
            let variable = variables().find(|it| it.name == "WEFT_ADMIN")?;
            port(variable.value.as_deref()?)
        };
        joined.or_else(apart).or_else(set)
    });
    told.next().unwrap_or(ADMIN_PORT)
}

fn label<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    Some(pod.metadata.labels.as_ref()?.get(name)?.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(value: Value) -> Pod {
        serde_json::from_value(value).expect("a pod")
    }

    #[test]
    fn the_admin_port_is_the_manifests() {
        for (container, port) in [
            (json!({ "name": "a" }), 15000),
            (json!({ "name": "a", "args": ["--admin=127.0.0.1:15010"] }), 15010),
            (
                json!({ "name": "a", "args": ["--x", "--admin", "127.0.0.1:15011"] }),
                15011,
            ),
            (json!({ "name": "a", "command": ["ca", "--admin=[::1]:15012"] }), 15012),
            (
                json!({ "name": "a", "env": [{ "name": "WEFT_ADMIN", "value": "127.0.0.1:15013" }] }),
                15013,
            ),
            (json!({ "name": "a", "args": ["--admin=nonsense"] }), 15000),
        ] {
            let pod = pod(json!({ "spec": { "containers": [container] } }));
            assert_eq!(admin_port(&pod), port, "{pod:?}");
        }
    }

    #[test]
    fn a_pod_that_does_not_run_says_why_in_the_kubelets_words() {
        let waiting = json!({ "status": { "containerStatuses": [{ "name": "a", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "waiting": { "reason": "ErrImageNeverPull", "message": "no image" } } }] } });
        assert_eq!(
            not_running(&pod(waiting)),
            Some("it does not run (ErrImageNeverPull: no image)".into())
        );
        let unscheduled = json!({ "status": { "phase": "Pending", "conditions": [
            { "type": "PodScheduled", "status": "False", "message": "0/2 nodes are available" }] } });
        assert_eq!(
            not_running(&pod(unscheduled)),
            Some("it does not run (0/2 nodes are available)".into())
        );
        let running = json!({ "status": { "containerStatuses": [{ "name": "a", "image": "", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "running": {} } }] } });
        assert_eq!(not_running(&pod(running)), None);
        assert!(not_running(&Pod::default()).is_some());
    }
}
