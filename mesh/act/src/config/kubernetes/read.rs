//! One object of the API server, read.

use std::sync::Arc;

use decide::model::{ObjectRef, Problem};
use serde_json::Value;

use super::scope::Kind;
use crate::config::{
    admission::{self, Ruling},
    objects::{Object, Origin},
};

/// What was read of one object.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// It can be taken.
    Good(ObjectRef, Object, Origin),
    /// It cannot: why, and what holds where there is no good version.
    Bad(ObjectRef, Vec<Problem>, Option<(Object, Origin)>),
}

impl Read {
    /// Which object.
    pub(super) fn object(&self) -> &ObjectRef {
        match self {
            Self::Good(object, ..) | Self::Bad(object, ..) => object,
        }
    }
}

/// Reads one object. The kinds whose schema is ours are judged as admission judges them, because what stands in
/// a server may be older than its schema, or newer than this process.
pub(super) fn read(kind: &Kind, value: Value) -> Read {
    if kind.is_ours() {
        let (ruling, object) = admission::judge_stored(value);
        return match ruling {
            Ruling::Admitted(admitted, origin) => Read::Good(object, admitted, origin),
            Ruling::Refused { problems, stand_in } => Read::Bad(object, problems, stand_in),
        };
    }
    let object = name(kind, &value);
    let problem = |field: &str, what: &str, remedy: &str| Problem {
        object: object.clone(),
        field: field.into(),
        what: what.into(),
        remedy: remedy.into(),
        place: None,
    };
    let wrong = match Object::parse(&value) {
        Ok(Some(parsed)) => return Read::Good(object, parsed, Origin::default()),
        Ok(None) => problem("kind", "is of no kind that is read.", "Report this as a defect."),
        Err(error) => problem(&error.field, &error.what, &error.remedy),
    };
    Read::Bad(object, vec![wrong], None)
}

fn name(kind: &Kind, value: &Value) -> ObjectRef {
    let text = |field: &str| -> Arc<str> {
        let text = value.pointer(field).and_then(Value::as_str);
        text.unwrap_or_default().into()
    };
    ObjectRef {
        kind: kind.kind.into(),
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
    }
}
