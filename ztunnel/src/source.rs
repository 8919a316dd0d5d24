//! Where both programs of a node learn what should be.

use std::path::Path;

use act::{
    config::{Reader, directory},
    process::Failure,
};
use decide::model::MeshSettings;

/// Watches a directory of Kubernetes YAML, in a task of its own, for as long as somebody reads.
///
/// # Errors
/// One plain sentence when it cannot be watched.
pub(crate) fn watch(path: &Path, trust_domain: &str) -> Result<Reader, Failure> {
    let defaults = MeshSettings {
        trust_domain: trust_domain.into(),
        ..MeshSettings::default()
    };
    directory::watch(path, defaults).map_err(|error| Failure(format!("--config: {error}")))
}
