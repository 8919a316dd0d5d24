//! Namespace and name: how the translation keys what it keeps.

use std::{fmt, sync::Arc};

use decide::model::{ObjectRef, ServiceKey, WaypointKey};

use crate::config::objects::{Metadata, word};

/// Namespace and name of an object; the namespace of a cluster-scoped one is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) namespace: Arc<str>,
    pub(super) name: Arc<str>,
}

impl Name {
    pub(super) fn new(namespace: &Arc<str>, name: impl Into<Arc<str>>) -> Self {
        Self {
            namespace: namespace.clone(),
            name: name.into(),
        }
    }

    pub(super) fn cluster(name: &Arc<str>) -> Self {
        Self::new(&"".into(), name.clone())
    }

    pub(super) fn of(metadata: &Metadata) -> Self {
        Self::new(&metadata.namespace, metadata.name.clone())
    }

    pub(super) fn of_object(object: &ObjectRef) -> Self {
        Self::new(&object.namespace, object.name.clone())
    }

    pub(super) fn object(&self, kind: &str) -> ObjectRef {
        ObjectRef {
            kind: word(kind),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    pub(super) fn service_key(&self) -> ServiceKey {
        ServiceKey {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }

    pub(super) fn waypoint_key(&self) -> WaypointKey {
        WaypointKey {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(out, "{}", self.name),
            namespace => write!(out, "{namespace}/{}", self.name),
        }
    }
}
