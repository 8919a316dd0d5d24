//! Where a pod stands towards the mesh, by its object alone. Comes in: a pod, and whether its namespace is enabled.
//! Goes out: captured, waiting, or left alone and why.

use act::config::{CAPTURE, EXCLUDED, MODE, is_enabled};
use k8s_openapi::api::core::v1::Pod;

use crate::pods::MESH;

/// Where a pod stands.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// As the labels want it.
    InStep,
    /// Not yet as the labels want it.
    Waits(String),
    /// The mesh leaves it alone, and why.
    Left(&'static str),
}

impl Standing {
    /// Whether the pod is not yet as the labels want it.
    pub(crate) fn waits(&self) -> bool {
        matches!(self, Self::Waits(_))
    }

    /// Whether the mesh has to do with the pod at all.
    pub(crate) fn is_concerned(&self) -> bool {
        !matches!(self, Self::Left(_))
    }

    /// Why it is not in step.
    pub(crate) fn why(&self) -> Option<&str> {
        match self {
            Self::InStep => None,
            Self::Waits(why) => Some(why),
            Self::Left(why) => Some(why),
        }
    }
}

/// Whether a namespace's pods are never captured.
pub(crate) fn is_excluded(namespace: &str) -> bool {
    [EXCLUDED, MESH].contains(&namespace)
}

/// Whether a pod's node says that the pod is captured.
pub(crate) fn is_captured(pod: &Pod) -> bool {
    annotation(pod, CAPTURE) == Some("captured")
}

/// Where a pod stands, in a namespace that is enabled or not.
pub(crate) fn standing(pod: &Pod, namespace: &str, enabled: bool) -> Standing {
    let spec = pod.spec.as_ref();
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let own = pod.metadata.labels.as_ref().and_then(|labels| labels.get(MODE));
    let wanted = is_enabled(own.map(String::as_str), enabled.then_some("ambient"));
    if is_excluded(namespace) {
        return Standing::Left("its namespace is never captured");
    }
    if spec.is_some_and(|spec| spec.host_network == Some(true)) {
        return Standing::Left("it shares its node's network");
    }
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Standing::Left("it has finished");
    }
    if annotation(pod, "weft.dev/tunnel") == Some("hbone") {
        return Standing::Left("it speaks HBONE itself");
    }
    match (wanted, is_captured(pod)) {
        (true, true) => Standing::InStep,
        (false, false) if enabled => Standing::Left("its own label weft.dev/dataplane-mode says none"),
        (false, false) => Standing::InStep,
        (true, false) if !enabled => Standing::Left("its own label weft.dev/dataplane-mode says ambient"),
        (true, false) => Standing::Waits(why_not_captured(pod, phase)),
        (false, true) => Standing::Waits("its node has not released it yet".into()),
    }
}

fn why_not_captured(pod: &Pod, phase: Option<&str>) -> String {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    match (node, phase) {
        (None, _) => "no node has been found for it yet".into(),
        (Some(_), Some("Pending")) => "it has not started yet".into(),
        (Some(node), _) => format!("weft-cni on {node} has not captured it yet"),
    }
}

fn annotation<'p>(pod: &'p Pod, name: &str) -> Option<&'p str> {
    Some(pod.metadata.annotations.as_ref()?.get(name)?.as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn stands(pod: Value, namespace: &str, enabled: bool) -> Standing {
        standing(&serde_json::from_value(pod).expect("a pod"), namespace, enabled)
    }

    #[test]
    fn a_pod_is_in_step_or_waits_or_is_left_alone() {
        let captured = json!({ "annotations": { CAPTURE: "captured" } });
        let running = json!({ "nodeName": "n1", "containers": [] });
        let host = json!({ "hostNetwork": true, "containers": [] });
        let waits = |why: &str| Standing::Waits(why.into());
        let cases = [
            (json!({ "metadata": captured }), true, Standing::InStep),
            (
                json!({ "metadata": captured }),
                false,
                waits("its node has not released it yet"),
            ),
            (
                json!({ "spec": running }),
                true,
                waits("weft-cni on n1 has not captured it yet"),
            ),
            (
                json!({ "spec": running, "status": { "phase": "Pending" } }),
                true,
                waits("it has not started yet"),
            ),
            (json!({}), true, waits("no node has been found for it yet")),
            (json!({}), false, Standing::InStep),
            (
                json!({ "spec": host }),
                true,
                Standing::Left("it shares its node's network"),
            ),
            (
                json!({ "status": { "phase": "Succeeded" } }),
                true,
                Standing::Left("it has finished"),
            ),
            (
                json!({ "metadata": { "annotations": { "weft.dev/tunnel": "hbone" } } }),
                true,
                Standing::Left("it speaks HBONE itself"),
            ),
            (
                json!({ "metadata": { "labels": { MODE: "none" } } }),
                true,
                Standing::Left("its own label weft.dev/dataplane-mode says none"),
            ),
            (
                json!({ "metadata": { "labels": { MODE: "ambient" } } }),
                false,
                Standing::Left("its own label weft.dev/dataplane-mode says ambient"),
            ),
        ];
        for (pod, enabled, expected) in cases {
            assert_eq!(stands(pod.clone(), "shop", enabled), expected, "{pod} {enabled}");
        }
        assert!(!stands(json!({}), "kube-system", true).is_concerned());
    }
}
