//! Where a process learns what should be: flags that every binary shares.

use std::{fmt, path::PathBuf, str::FromStr};

use decide::model::{Identity, MeshSettings};

use super::{
    Reader,
    directory::{self, DirectoryError},
    kubernetes::{self, KubernetesError, Scope},
};

/// What `--config` says for the API server.
const API_SERVER: &str = "kubernetes";

/// Where the configuration comes from.
#[derive(Debug, Clone, clap::Args)]
pub struct SourceOptions {
    /// Directory of Kubernetes YAML, watched; or `kubernetes`: the API server (of KUBECONFIG, or of the pod we run in)
    #[arg(
        long,
        env = "WEFT_CONFIG",
        value_name = "DIR|kubernetes",
        default_value = "/etc/weft/config"
    )]
    pub config: Source,
    /// Trust domain of the mesh's identities, until a MeshConfig says otherwise
    #[arg(
        long,
        env = "WEFT_TRUST_DOMAIN",
        value_name = "NAME",
        default_value = "cluster.local",
        value_parser = trust_domain
    )]
    pub trust_domain: String,
    /// The mesh's own namespace: its policies bind every namespace, and its pods are never captured
    #[arg(
        long,
        env = "WEFT_ROOT_NAMESPACE",
        value_name = "NAME",
        default_value = "weft-system"
    )]
    pub root_namespace: String,
}

/// A source of configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The API server.
    Kubernetes,
    /// A directory.
    Directory(PathBuf),
}

/// Why the configuration cannot be had at all: one plain sentence.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The directory.
    #[error("--config: {0}")]
    Directory(#[from] DirectoryError),
    /// The API server.
    #[error("--config {API_SERVER}: {0}")]
    Kubernetes(#[from] KubernetesError),
}

impl SourceOptions {
    /// Watches the source for as long as somebody reads.
    ///
    /// # Errors
    /// [`SourceError`], when it cannot be watched at all.
    pub fn watch(&self, scope: Scope) -> Result<Reader, SourceError> {
        match &self.config {
            Source::Directory(path) => Ok(directory::watch(path, self.defaults())?),
            Source::Kubernetes => Ok(kubernetes::watch(self.defaults(), scope)?),
        }
    }

    /// Settings until a MeshConfig says otherwise.
    pub fn defaults(&self) -> MeshSettings {
        MeshSettings {
            trust_domain: self.trust_domain.as_str().into(),
            root_namespace: self.root_namespace.as_str().into(),
            capture_is_told: self.config == Source::Kubernetes,
            ..MeshSettings::default()
        }
    }
}

impl FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            API_SERVER => Self::Kubernetes,
            path => Self::Directory(path.into()),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubernetes => out.write_str(API_SERVER),
            Self::Directory(path) => path.display().fmt(out),
        }
    }
}

fn trust_domain(text: &str) -> Result<String, String> {
    match Identity::new(text, "namespace", "account") {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => {
            Err("a trust domain holds only lower case letters, digits, '.', '-' and '_' (SPIFFE-ID 2.1)".to_owned())
        }
    }
}
