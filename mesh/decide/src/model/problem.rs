//! What a user wrote that the mesh cannot honour.

use std::{fmt, sync::Arc};

use serde::Serialize;

/// An object by kind, namespace and name. A cluster-scoped object has an empty namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectRef {
    /// Kubernetes kind, such as `AuthorizationPolicy`.
    pub kind: Arc<str>,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
}

/// Where in a file an object or field stands. Only the directory source knows this.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// File, as the directory source was told it.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u32,
}

/// Something a user wrote that cannot be honoured, and what the mesh does instead. Never silent (design 4).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The object at fault.
    pub object: ObjectRef,
    /// The field at fault, as a path like `spec.rules[0].from[0].source.ipBlocks[1]`; empty: the whole object.
    pub field: Arc<str>,
    /// What is wrong and what the mesh does about it, one sentence.
    pub what: Arc<str>,
    /// What the user can do, one sentence.
    pub remedy: Arc<str>,
    /// Where it stands, if known.
    pub place: Option<Place>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.namespace {
            "" => write!(out, "{} {}", self.kind, self.name),
            namespace => write!(out, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(out, "{}:{}: ", place.file, place.line)?;
        }
        write!(out, "{}", self.object)?;
        if !self.field.is_empty() {
            write!(out, " {}", self.field)?;
        }
        write!(out, ": {} {}", self.what, self.remedy)
    }
}
