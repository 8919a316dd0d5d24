//! Components of the cluster itself, stopped and started. Only on a cluster that is ours.

use std::time::Duration;

use act::process::Failure;

use super::{cluster::Cluster, reach::run};
use crate::world::first_line;

/// A component of Kubernetes that a test disturbs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The API server.
    ApiServer,
    /// The controller manager.
    ControllerManager,
    /// The kubelet of a node.
    Kubelet,
}

/// The longest that a component may take to stop and be back.
const PATIENCE: Duration = Duration::from_secs(60);

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Kubelet => "kubelet",
        }
    }

    /// Stops it and starts it again; `node` where it is a node's.
    pub(super) async fn restart(self, cluster: &Cluster, node: Option<&str>) -> Result<(), Failure> {
        self.tell(cluster, "restart", node).await
    }

    /// Stops it.
    pub(super) async fn stop(self, cluster: &Cluster, node: Option<&str>) -> Result<(), Failure> {
        self.tell(cluster, "stop", node).await
    }

    /// Starts it again.
    pub(super) async fn start(self, cluster: &Cluster, node: Option<&str>) -> Result<(), Failure> {
        self.tell(cluster, "start", node).await
    }

    async fn tell(self, cluster: &Cluster, verb: &str, node: Option<&str>) -> Result<(), Failure> {
        let mut words = vec![verb, self.name()];
        words.extend(node.iter().flat_map(|node| ["--node", node]));
        let all = cluster
            .reach()
            .tool_words(&words)
            .ok_or_else(|| Failure("the components of this cluster are not ours to touch".into()))?;
        let finished = run(&all, "", PATIENCE).await?;
        if finished.success() {
            return Ok(());
        }
        let said = first_line(&finished.stderr);
        Err(Failure(format!("{} does not {verb}: {said}", self.name())))
    }
}
