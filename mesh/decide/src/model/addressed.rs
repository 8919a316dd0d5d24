//! What a connection was made to, by name.

use std::{fmt, sync::Arc};

use super::{ExternalService, ServiceKey};

/// What a connection was made to, where that has a name.
#[derive(Debug, Clone, PartialEq)]
pub enum Addressed {
    /// A Service.
    Service(ServiceKey),
    /// A destination outside the mesh.
    External(Arc<ExternalService>),
}

impl Addressed {
    /// Namespace and name of the object.
    pub fn key(&self) -> &ServiceKey {
        match self {
            Self::Service(key) => key,
            Self::External(service) => &service.key,
        }
    }
}

/// Namespace and name.
impl fmt::Display for Addressed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(out)
    }
}
