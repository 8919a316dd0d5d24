//! The Kubernetes objects we read, with only the fields we use.

use decide::model::{ObjectRef, Place, Problem};

/// An object of a kind we read.
#[derive(Debug, Clone)]
pub enum Object {}

/// Where an object came from, and what its admission found.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// File and line, from the directory source.
    pub place: Option<Place>,
    /// Lines of fields by path (`spec.rules[0]`), from the directory source, for problems found later.
    pub lines: std::sync::Arc<std::collections::HashMap<String, u32>>,
    /// What admission found wrong without refusing the object (fields we do not know).
    pub problems: Vec<Problem>,
}

impl Object {
    /// Which object.
    pub fn key(&self) -> ObjectRef {
        match *self {}
    }
}
