//! The cluster's source: watches of the API server.
//!
//! ```text
//! watch of each kind -> read -> News -> [batch] gather -> Change -> Feed
//! ```
//!
//! Everything that comes within a moment is one batch. The first list of every kind must be there before anything
//! counts as known; a kind the server does not serve (its CustomResourceDefinition is missing) has no objects, one
//! we may not read has any number. While the server is away the last good state stays, and that is told: a metric,
//! a problem, one line in the log.

mod backoff;
mod batch;
pub mod fuzzing;
mod gather;
mod once;
mod outage;
mod read;
mod scope;
mod shape;
mod trouble;
mod watch;
mod wire;

use std::io;

use decide::model::MeshSettings;
use tokio::sync::mpsc;

use self::{gather::Gather, watch::Watch};
use super::{Feed, Reader, background};

pub use self::once::read_once;
pub use self::scope::{Resource, Scope};

/// News that wait to be taken in; then the watches wait, and the server's own buffers hold the rest.
const MOST_NEWS: usize = 1024;

/// Why the API server cannot be watched at all.
#[derive(Debug, thiserror::Error)]
pub enum KubernetesError {
    /// Neither KUBECONFIG nor a pod's service account leads to one.
    #[error("no API server is known ({0}): set KUBECONFIG, or run in a pod with a service account")]
    NoServer(String),
    /// The thread that watches cannot be started.
    #[error("no thread can be started to watch the API server ({0}): raise the limit of processes")]
    NoThread(io::Error),
    /// It does not tell all there is.
    #[error("{0} cannot be listed: the API server {1}")]
    NotRead(String, String),
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
pub fn watch(defaults: MeshSettings, scope: Scope) -> Result<Reader, KubernetesError> {
    let (feed, reader) = Feed::new(defaults);
    let (started, outcome) = std::sync::mpsc::sync_channel(1);
    let spawned = background::start(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        match runtime {
            Ok(runtime) => runtime.block_on(run(feed, &scope, &started)),
            Err(error) => drop(started.send(Err(KubernetesError::NoThread(error)))),
        }
    });
    spawned.map_err(KubernetesError::NoThread)?;
    let died = || Err(KubernetesError::NoThread(io::ErrorKind::Interrupted.into()));
    outcome.recv().unwrap_or_else(|_| died())?;
    Ok(reader)
}

async fn run(feed: Feed, scope: &Scope, started: &std::sync::mpsc::SyncSender<Result<(), KubernetesError>>) {
    let client = match client().await {
        Ok(client) => client,
        Err(error) => return drop(started.send(Err(error))),
    };
    let _ = started.send(Ok(()));
    let (tell, news) = mpsc::channel(MOST_NEWS);
    for (index, kind) in scope.kinds().iter().enumerate() {
        let watch = Watch::new(client.clone(), kind, index, tell.clone()).only(scope.fields(kind));
        tokio::spawn(watch.run());
    }
    drop(tell);
    batch::run(feed, Gather::new(scope.kinds()), news).await;
}
