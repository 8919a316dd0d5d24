//! What is known of a cluster, asked once. What the API server does not tell is kept as a sentence.

use std::time::SystemTime;

use decide::model::Problem;
use hyper::Request;
use k8s_openapi::{
    api::{
        apps::v1::DaemonSet,
        core::v1::{ConfigMap, Namespace, Node, Pod},
        networking::v1::NetworkPolicy,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    jiff::fmt::rfc2822,
};
use kube::{Api, Client, Resource, api::ListParams, client::Body};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    cluster::sentence,
    pods::{self, Part},
    proxies::{self, Said},
    source,
};

/// What could be learnt, or why not.
pub(super) type Learnt<T> = Result<T, String>;

/// What is known of a cluster.
pub(super) struct Facts {
    /// Major and minor version.
    pub(super) version: Learnt<(String, String)>,
    /// How far the API server's clock is ahead of ours, in seconds.
    pub(super) ahead: Option<i64>,
    pub(super) nodes: Learnt<Vec<Node>>,
    pub(super) namespaces: Learnt<Vec<Namespace>>,
    pub(super) pods: Learnt<Vec<Pod>>,
    pub(super) daemon_sets: Learnt<Vec<DaemonSet>>,
    pub(super) cilium: Learnt<Option<ConfigMap>>,
    pub(super) policies: Learnt<Vec<NetworkPolicy>>,
    pub(super) definitions: Learnt<Vec<CustomResourceDefinition>>,
    pub(super) problems: Learnt<Vec<Problem>>,
    /// The mesh's own pods; none where it is not installed.
    pub(super) parts: Learnt<Vec<Part>>,
}

impl Facts {
    /// Asks the API server for everything.
    ///
    /// # Errors
    /// When it does not even tell its version: nothing else would be known either.
    pub(super) async fn learn(client: &Client) -> Result<Self, String> {
        let (version, ahead) = version(client).await?;
        let cilium: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
        let cilium = cilium.get_opt("cilium-config").await;
        Ok(Self {
            version: Ok(version),
            ahead,
            nodes: all(client, "nodes").await,
            namespaces: all(client, "namespaces").await,
            pods: all(client, "pods").await,
            daemon_sets: all(client, "daemonsets").await,
            cilium: cilium.map_err(|error| sentence("read ConfigMap kube-system/cilium-config", &error)),
            policies: all(client, "networkpolicies").await,
            definitions: all(client, "customresourcedefinitions").await,
            problems: problems(client).await,
            parts: pods::parts(client).await,
        })
    }

    /// Whether any part of the mesh is there.
    pub(super) fn is_installed(&self) -> bool {
        self.parts.as_ref().is_ok_and(|parts| !parts.is_empty())
    }
}

/// What every proxy says, and the certificates each holds.
pub(super) async fn ask(client: &Client, parts: &[Part]) -> (Vec<Said<Value>>, Vec<Said<Value>>) {
    let proxies: Vec<_> = parts.iter().map(|part| pods::proxy(client, &part.pod)).collect();
    let statuses = proxies::ask_all(proxies.clone(), "/status").await;
    // Whoever does not say how it is says nothing else either.
    let answering = statuses.iter().filter(|said| said.told.is_ok());
    let answering = answering.map(|said| said.proxy.clone()).collect();
    (statuses, proxies::ask_all(answering, "/certs").await)
}

/// The API server's version, and how far its clock is ahead.
async fn version(client: &Client) -> Result<((String, String), Option<i64>), String> {
    let doing = "ask for the cluster's version";
    let request = Request::get("/version").body(Body::empty());
    let response = client.send(request.map_err(|error| error.to_string())?).await;
    let response = response.map_err(|error| sentence(doing, &error))?;
    let date = response.headers().get("date").and_then(|date| date.to_str().ok());
    let ahead = date.and_then(seconds_ahead);
    let version = client
        .apiserver_version()
        .await
        .map_err(|error| sentence(doing, &error))?;
    Ok(((version.major, version.minor), ahead))
}

/// How far a `Date` header is ahead of now.
fn seconds_ahead(date: &str) -> Option<i64> {
    let told = rfc2822::parse(date).ok()?.timestamp().as_second();
    Some(told - now())
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

async fn all<K>(client: &Client, plural: &str) -> Learnt<Vec<K>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug,
{
    let api: Api<K> = Api::all(client.clone());
    let listed = api.list(&ListParams::default()).await;
    Ok(listed
        .map_err(|error| sentence(&format!("list {plural}"), &error))?
        .items)
}

async fn problems(client: &Client) -> Learnt<Vec<Problem>> {
    let snapshot = source::api_server(client).await?.load();
    let mut problems: Vec<_> = snapshot.problems.values().flat_map(|all| all.iter()).cloned().collect();
    problems.sort();
    Ok(problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_clock_is_read_from_its_date() {
        let moment = k8s_openapi::jiff::Timestamp::from_second(now() + 90).expect("a moment");
        let date = rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&moment)
            .expect("a date");
        let ahead = seconds_ahead(&date).expect("read");
        assert!((85..=91).contains(&ahead), "{date}: {ahead}");
        assert_eq!(seconds_ahead("yesterday"), None);
    }
}
