//! One object of the API server, read.

use std::sync::Arc;

use decide::model::{ObjectRef, Problem};
use serde_json::Value;

use super::scope::Kind;
use crate::config::{
    admission::{self, Ruling},
    background::give_way,
    objects::{Object, Origin, word},
};

/// What was read of one object.
#[derive(Debug, PartialEq)]
pub(super) enum Read {
    /// It can be taken.
    Good(ObjectRef, Object, Arc<Origin>),
    /// It cannot: why, and what holds where there is no good version.
    Bad(ObjectRef, Box<[Problem]>, Option<(Object, Arc<Origin>)>),
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
    give_way();
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
        Ok(Some(parsed)) => return Read::Good(object, parsed, Arc::default()),
        Ok(None) => problem("kind", "is of no kind that is read.", "Report this as a defect."),
        Err(error) => problem(&error.field, &error.what, &error.remedy),
    };
    Read::Bad(object, [wrong].into(), None)
}

/// As [`Object::key`] has it, also of what cannot be parsed: else what is gone would not be what was there.
fn name(kind: &Kind, value: &Value) -> ObjectRef {
    let text = |field: &str| value.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let namespace = match (Object::is_cluster_scoped(kind.kind), text("/metadata/namespace")) {
        (Some(true), _) => "",
        (_, "") => "default",
        (_, namespace) => namespace,
    };
    ObjectRef {
        kind: word(kind.kind),
        namespace: word(namespace),
        name: text("/metadata/name").into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::kubernetes::scope::Scope;

    #[test]
    fn an_object_has_one_name_whether_it_can_be_parsed_or_not() {
        for kind in Scope::Ztunnel.kinds() {
            for metadata in [json!({"name": "a"}), json!({"name": "a", "namespace": "b"})] {
                let version = match kind.group {
                    "" => kind.versions[0].to_owned(),
                    group => format!("{group}/{}", kind.versions[0]),
                };
                let value = json!({"kind": kind.kind, "apiVersion": version, "metadata": metadata});
                if let Ok(Some(parsed)) = Object::parse(&value) {
                    assert_eq!(name(kind, &value), parsed.key());
                }
                let mut broken = value.clone();
                broken["apiVersion"] = json!("none/v0");
                assert!(Object::parse(&broken).is_err(), "{}", kind.kind);
                assert_eq!(read(kind, broken).object(), read(kind, value).object(), "{}", kind.kind);
            }
        }
    }
}
