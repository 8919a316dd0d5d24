//! The cluster a command talks to. Comes in: a kubeconfig and a context, or a pod's own service account. Goes out: a
//! client of its API server, and its troubles as one sentence with the remedy.

use std::{future::Future, path::PathBuf, time::Duration};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// The longest a connection to the API server may take to stand.
const CONNECT: Duration = Duration::from_secs(10);

/// Which cluster.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ClusterOptions {
    /// Kubeconfig of the cluster; by default KUBECONFIG, then ~/.kube/config, then the pod we run in
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig; by default its current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
}

impl ClusterOptions {
    /// A client of the cluster's API server. Nothing is asked yet.
    ///
    /// # Errors
    /// When no kubeconfig leads to a cluster.
    pub(crate) async fn client(&self) -> Result<Client, String> {
        let mut config = self.config().await?;
        config.connect_timeout = Some(CONNECT);
        Client::try_from(config).map_err(|error| format!("the kubeconfig cannot be used: {error}"))
    }

    async fn config(&self) -> Result<Config, String> {
        let Some(file) = &self.kubeconfig else {
            return self.inferred().await;
        };
        let read = Kubeconfig::read_from(file)
            .map_err(|error| format!("the kubeconfig {} cannot be read: {error}", file.display()))?;
        Config::from_custom_kubeconfig(read, &self.chosen())
            .await
            .map_err(|error| format!("the kubeconfig {} leads to no cluster: {error}", file.display()))
    }

    async fn inferred(&self) -> Result<Config, String> {
        let hint = "name one with --kubeconfig or KUBECONFIG";
        if let Some(context) = &self.context {
            return Config::from_kubeconfig(&self.chosen())
                .await
                .map_err(|error| format!("context {context} leads to no cluster ({error}); {hint}"));
        }
        Config::infer()
            .await
            .map_err(|error| format!("no cluster is known ({error}); {hint}"))
    }

    fn chosen(&self) -> KubeConfigOptions {
        KubeConfigOptions {
            context: self.context.clone(),
            ..KubeConfigOptions::default()
        }
    }
}

/// Runs what talks to the cluster, on a runtime of its own.
///
/// # Errors
/// Those of `work`, and when no runtime can be made.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime can be made: {error}"))?;
    runtime.block_on(work)
}

/// What the API server's trouble means, and what to do: `doing` completes "cannot …".
pub(crate) fn sentence(doing: &str, error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 401 => format!(
            "cannot {doing}: the API server does not accept the kubeconfig's credentials; log in to the cluster again"
        ),
        // The API server's own message names the user, the verb and the resource.
        kube::Error::Api(status) if status.code == 403 => format!(
            "cannot {doing}: {}; ask an administrator for that permission",
            status.message
        ),
        kube::Error::Api(status) => format!("cannot {doing}: {}", status.message),
        kube::Error::HyperError(_) | kube::Error::Service(_) => format!(
            "cannot {doing}: the API server cannot be reached ({}); check the kubeconfig's server address and the network",
            innermost(error)
        ),
        other => format!("cannot {doing}: {other}"),
    }
}

/// The first cause: the outer ones only say that there is one.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_refusal_of_the_api_server_says_what_and_whom_to_ask() {
        let refused = |code| {
            let status = Status {
                code,
                message: "pods is forbidden: User \"eve\" cannot list".into(),
                ..Status::default()
            };
            sentence("list the pods", &kube::Error::Api(Box::new(status)))
        };
        let forbidden = refused(403);
        assert!(forbidden.contains("\"eve\""), "{forbidden}");
        assert!(
            forbidden.ends_with("ask an administrator for that permission"),
            "{forbidden}"
        );
        assert!(refused(401).contains("log in"), "{}", refused(401));
        assert!(refused(500).starts_with("cannot list the pods: "));
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let options = ClusterOptions {
            kubeconfig: Some("/nonexistent/kubeconfig".into()),
            context: None,
        };
        let error = block_on(options.client()).map(drop).unwrap_err();
        assert!(error.contains("/nonexistent/kubeconfig"), "{error}");
    }
}
