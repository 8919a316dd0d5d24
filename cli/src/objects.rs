//! What a cluster holds: every object the mesh reads, listed once. Comes in: a client. Goes out: a reader of the
//! snapshot that a proxy would make of it. Never: a change.

use act::config::{Change, Feed, Object, Origin, Reader};
use decide::model::{MeshSettings, ObjectRef, Problem};
use hyper::Request;
use kube::Client;
use serde_json::{Value, json};

use crate::cluster::sentence;

/// Objects per page of a list.
const PAGE: usize = 500;
/// The most objects of one kind that are read.
const MOST: usize = 1_000_000;

/// A kind that decides about traffic: kind, group and its versions, newest first, plural.
struct Kind(&'static str, &'static str, &'static [&'static str], &'static str);

const KINDS: [Kind; 13] = [
    Kind("MeshConfig", "weft.dev", &["v1alpha1"], "meshconfigs"),
    Kind("Namespace", "", &["v1"], "namespaces"),
    Kind("Node", "", &["v1"], "nodes"),
    Kind("ServiceAccount", "", &["v1"], "serviceaccounts"),
    Kind("Pod", "", &["v1"], "pods"),
    Kind("Service", "", &["v1"], "services"),
    Kind("EndpointSlice", "discovery.k8s.io", &["v1"], "endpointslices"),
    Kind("Gateway", "gateway.networking.k8s.io", &["v1", "v1beta1"], "gateways"),
    Kind(
        "HTTPRoute",
        "gateway.networking.k8s.io",
        &["v1", "v1beta1"],
        "httproutes",
    ),
    Kind(
        "ReferenceGrant",
        "gateway.networking.k8s.io",
        &["v1", "v1beta1"],
        "referencegrants",
    ),
    Kind(
        "AuthorizationPolicy",
        "weft.dev",
        &["v1alpha1"],
        "authorizationpolicies",
    ),
    Kind("PeerAuthentication", "weft.dev", &["v1alpha1"], "peerauthentications"),
    Kind("TrafficPolicy", "weft.dev", &["v1alpha1"], "trafficpolicies"),
];

/// Reads everything that decides about traffic, as it is now. A kind the API server does not know has no objects.
///
/// # Errors
/// When a list fails: half of the objects would explain wrongly.
pub(crate) async fn read(client: &Client) -> Result<Reader, String> {
    let settings = MeshSettings {
        capture_is_told: true,
        ..MeshSettings::default()
    };
    let (mut feed, reader) = Feed::new(settings);
    let mut changes = Vec::new();
    for kind in &KINDS {
        changes.extend(list(client, kind).await?.into_iter().filter_map(change));
    }
    changes.push(Change::Complete);
    feed.apply(changes);
    Ok(reader)
}

/// Lists one kind in the newest version that the API server has.
async fn list(client: &Client, Kind(kind, group, versions, plural): &Kind) -> Result<Vec<Value>, String> {
    for version in *versions {
        let (api_version, path) = match *group {
            "" => ((*version).to_owned(), format!("/api/{version}/{plural}")),
            group => (
                format!("{group}/{version}"),
                format!("/apis/{group}/{version}/{plural}"),
            ),
        };
        let items = match pages(client, &path).await {
            Err(kube::Error::Api(status)) if status.code == 404 => continue,
            listed => listed.map_err(|error| sentence(&format!("list {plural}"), &error))?,
        };
        let typed = |mut item: Value| {
            // The items of a list do not say what they are.
            item["kind"] = json!(kind);
            item["apiVersion"] = json!(api_version);
            item
        };
        return Ok(items.into_iter().map(typed).collect());
    }
    Ok(Vec::new())
}

async fn pages(client: &Client, path: &str) -> kube::Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut resume = String::new();
    loop {
        let request = Request::get(format!("{path}?limit={PAGE}{resume}"))
            .body(Vec::new())
            .map_err(kube::Error::HttpError)?;
        let mut page: Value = client.request(request).await?;
        if let Value::Array(found) = page["items"].take() {
            items.extend(found);
        }
        match page["metadata"]["continue"].as_str() {
            // A token of the API server: base64url, which needs no escapes.
            Some(token) if !token.is_empty() && items.len() < MOST => resume = format!("&continue={token}"),
            _ => return Ok(items),
        }
    }
}

/// What a proxy's feed would be told of an object.
fn change(item: Value) -> Option<Change> {
    match Object::parse(&item) {
        Ok(object) => Some(Change::Put(Box::new(object?), Origin::default())),
        Err(error) => {
            let text = |value: &Value| value.as_str().unwrap_or_default().into();
            Some(Change::Reject(Problem {
                object: ObjectRef {
                    kind: text(&item["kind"]),
                    namespace: text(&item["metadata"]["namespace"]),
                    name: text(&item["metadata"]["name"]),
                },
                field: error.field.as_str().into(),
                what: error.what.as_str().into(),
                remedy: error.remedy.as_str().into(),
                place: None,
            }))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_the_mesh_reads_is_listed() {
        for Kind(kind, group, versions, plural) in &KINDS {
            assert!(Object::is_cluster_scoped(kind).is_some(), "{kind}");
            let api_version = match *group {
                "" => versions[0].to_owned(),
                group => format!("{group}/{}", versions[0]),
            };
            let item = json!({ "kind": kind, "apiVersion": api_version, "metadata": { "name": "default" } });
            assert!(matches!(change(item), Some(Change::Put(..))), "{plural}");
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_is_a_problem_and_not_silence() {
        let item = json!({ "kind": "Service", "apiVersion": "v1", "metadata": { "name": "a", "namespace": "b" },
            "spec": { "ports": [{ "port": "many" }] } });
        let Some(Change::Reject(problem)) = change(item) else {
            panic!("it was read")
        };
        assert_eq!(problem.object.to_string(), "Service b/a");
        assert!(problem.field.contains("ports"), "{problem}");
    }
}
