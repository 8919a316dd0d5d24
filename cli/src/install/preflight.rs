//! What is looked at before anything is applied: the cluster's version, our permissions, other meshes.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use kube::{Api, api::PostParams};
use serde_json::{Value, json};

use super::{
    cluster_api::{ClusterApi, kind},
    object::Object,
};
use crate::{
    cluster::sentence,
    finding::{Finding, Severity, counted},
};

/// The oldest minor version of Kubernetes 1 that is tested.
pub(crate) const OLDEST: u32 = 33;

/// What was found, where nothing stands in the way.
#[derive(Debug)]
pub(crate) struct Found {
    /// The cluster in a line.
    pub(crate) summary: String,
    /// What a person should know.
    pub(crate) remarks: Vec<String>,
}

/// Looks at the cluster.
///
/// # Errors
/// What stands in the way, in one sentence.
pub(crate) async fn check(api: &ClusterApi, plan: &[Object]) -> Result<Found, String> {
    let version = api.client().apiserver_version().await;
    let version = version.map_err(|error| sentence("ask for the cluster's version", &error))?;
    supported(&version.major, &version.minor)?;
    let mut remarks = Vec::new();
    for found in look(api, plan).await? {
        match found.result {
            Severity::Fail => return Err(found.what),
            Severity::Warn => remarks.push(found.what),
            Severity::Ok => {}
        }
    }
    let nodes = api.list(&kind("", "v1", "Node", "nodes", true), None, "").await?;
    remarks.extend(gateway_api(api).await?);
    Ok(Found {
        summary: format!(
            "the cluster runs Kubernetes {} on {}",
            version.git_version,
            counted(nodes.len(), "node")
        ),
        remarks,
    })
}

/// What stands in the way of these objects, as rows: what we may not do, nodes that are not ready, other meshes.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn look(api: &ClusterApi, plan: &[Object]) -> Result<Vec<Finding>, String> {
    // First what may be done: whoever may do little is told all of it, not where the first look failed.
    let mut findings = vec![permitted(api, plan).await?];
    findings.push(match api.list(&kind("", "v1", "Node", "nodes", true), None, "").await {
        Ok(nodes) => unready(&nodes).map_or_else(
            || Finding::ok("nodes", format!("{} ready", counted(nodes.len(), "node"))),
            |why| Finding::warn("nodes", why),
        ),
        Err(why) => Finding::warn("nodes", format!("not checked: {why}")),
    });
    let namespaces = kind("", "v1", "Namespace", "namespaces", true);
    findings.push(match api.list(&namespaces, None, "").await {
        Ok(namespaces) => other_meshes(&namespaces).map_or_else(
            || Finding::ok("other meshes", "no namespace is in another mesh"),
            |why| Finding::warn("other meshes", why),
        ),
        Err(why) => Finding::warn("other meshes", format!("not checked: {why}")),
    });
    Ok(findings)
}

fn supported(major: &str, minor: &str) -> Result<(), String> {
    let digits: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match (major, digits.parse::<u32>()) {
        ("1", Ok(minor)) if minor >= OLDEST => Ok(()),
        _ => Err(format!(
            "the cluster runs Kubernetes {major}.{minor}; Weft needs 1.{OLDEST} or later: upgrade the cluster first"
        )),
    }
}

/// Asks the API server whether we may create and change every kind of the plan.
async fn permitted(api: &ClusterApi, plan: &[Object]) -> Result<Finding, String> {
    let mut wanted: Vec<_> = plan
        .iter()
        .map(|object| (object.kind(), object.namespace().map(str::to_owned)))
        .collect();
    wanted.dedup();
    let reviews: Api<SelfSubjectAccessReview> = Api::all(api.client());
    let mut refused = BTreeSet::new();
    let mut asked_for = 0;
    for (kind, namespace) in wanted {
        for verb in ["create", "patch"] {
            asked_for += 1;
            let asked = json!({ "metadata": {}, "spec": { "resourceAttributes": {
                "group": kind.resource.group, "resource": kind.resource.plural, "namespace": namespace, "verb": verb,
            }}});
            let asked = serde_json::from_value(asked).map_err(|error| error.to_string())?;
            let answer = reviews.create(&PostParams::default(), &asked).await;
            let answer = answer.map_err(|error| sentence("ask what we may do", &error))?;
            if answer.status.is_none_or(|status| !status.allowed) {
                let at = namespace
                    .as_ref()
                    .map_or(String::new(), |it| format!(" in namespace {it}"));
                refused.insert(format!("{verb} {}{at}", kind.resource.plural));
            }
        }
    }
    Ok(permissions(asked_for, refused.into_iter().collect()))
}

/// What may be done of what was asked for.
fn permissions(asked_for: usize, refused: Vec<String>) -> Finding {
    const CHECK: &str = "permissions";
    if refused.is_empty() {
        return Finding::ok(CHECK, format!("all {asked_for} that an install needs"));
    }
    Finding::fail(
        CHECK,
        format!(
            "the kubeconfig's user may not {}; use an administrator's (cluster-admin)",
            refused.join(", ")
        ),
    )
}

fn unready(nodes: &[Value]) -> Option<String> {
    let ready = |node: &&Value| {
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        conditions
            .into_iter()
            .any(|it| it["type"] == "Ready" && it["status"] == "True")
    };
    let names: Vec<_> = nodes
        .iter()
        .filter(|node| !ready(node))
        .map(|node| super::text(&node["metadata"], "name"))
        .collect();
    (!names.is_empty()).then(|| format!("not ready: {}; what runs there cannot become ready", names.join(", ")))
}

/// Namespaces that another mesh has already.
fn other_meshes(namespaces: &[Value]) -> Option<String> {
    let taken: Vec<_> = namespaces
        .iter()
        .filter(|it| {
            let metadata = &it["metadata"];
            metadata["labels"]["istio.io/dataplane-mode"] == "ambient"
                || metadata["labels"]["istio-injection"] == "enabled"
                || metadata["labels"]["istio.io/rev"].is_string()
                || metadata["annotations"]["linkerd.io/inject"] == "enabled"
        })
        .map(|it| super::text(&it["metadata"], "name"))
        .collect();
    (!taken.is_empty()).then(|| {
        format!(
            "another mesh has namespaces {}: take them out of it before you enrol them here",
            taken.join(", ")
        )
    })
}

async fn gateway_api(api: &ClusterApi) -> Result<Option<String>, String> {
    let definitions = kind(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        true,
    );
    let found = api.named(&definitions, "gateways.gateway.networking.k8s.io").await?;
    Ok(found.is_empty().then(|| {
        "the Gateway API's kinds are not there: only waypoints need them \
         (https://gateway-api.sigs.k8s.io/guides/#installing-gateway-api)"
            .to_owned()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_cluster_is_refused_by_version() {
        supported("1", "33").unwrap();
        supported("1", "34+").unwrap();
        for (major, minor) in [("1", "32"), ("1", ""), ("0", "99"), ("1", "x")] {
            let error = supported(major, minor).unwrap_err();
            assert!(error.contains("needs 1.33"), "{error}");
        }
    }

    #[test]
    fn what_the_user_may_not_do_is_named_and_fails() {
        assert_eq!(permissions(2, Vec::new()).result, Severity::Ok);
        let refused = permissions(
            2,
            vec!["create namespaces".into(), "patch secrets in namespace a".into()],
        );
        assert_eq!(refused.result, Severity::Fail);
        assert!(
            refused
                .what
                .contains("may not create namespaces, patch secrets in namespace a;")
        );
    }

    #[test]
    fn namespaces_of_other_meshes_are_named() {
        let plain = json!({"metadata": {"name": "shop", "labels": {"a": "b"}}});
        assert_eq!(other_meshes(std::slice::from_ref(&plain)), None);
        let others = [
            plain,
            json!({"metadata": {"name": "one", "labels": {"istio.io/dataplane-mode": "ambient"}}}),
            json!({"metadata": {"name": "two", "annotations": {"linkerd.io/inject": "enabled"}}}),
        ];
        assert!(other_meshes(&others).unwrap().contains("one, two"));
    }

    #[test]
    fn nodes_that_are_not_ready_are_named() {
        let node = |name: &str, status: &str| json!({"metadata": {"name": name}, "status": {"conditions": [{"type": "Ready", "status": status}]}});
        assert_eq!(unready(&[node("a", "True")]), None);
        assert!(
            unready(&[node("a", "True"), node("b", "Unknown")])
                .unwrap()
                .contains("not ready: b;")
        );
    }
}
