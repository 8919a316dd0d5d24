//! Where a node is.

use std::sync::Arc;

use serde::Serialize;

use super::Labels;

/// The label that tells a zone (Kubernetes' well-known labels).
pub(crate) const ZONE: &str = "topology.kubernetes.io/zone";
/// The label that tells a region (Kubernetes' well-known labels).
pub(crate) const REGION: &str = "topology.kubernetes.io/region";

/// Zone and region of a node, as far as somebody tells.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Locality {
    /// Its zone.
    pub zone: Option<Arc<str>>,
    /// The region its zone lies in.
    pub region: Option<Arc<str>>,
}

impl Locality {
    /// What labels tell, those of a node or of a pod; an empty one tells nothing.
    pub fn of(labels: &Labels) -> Self {
        let told = |label: &str| labels.get(label).filter(|value| !value.is_empty()).cloned();
        Self {
            zone: told(ZONE),
            region: told(REGION),
        }
    }

    /// Whether nothing is told.
    pub fn is_unknown(&self) -> bool {
        self.zone.is_none() && self.region.is_none()
    }
}
