//! The objects that are fed, and what an API server adds to them.

use act::{
    config::document::{self, Document},
    process::Failure,
};
use serde_json::Value;

/// Objects that both take.
pub(super) const TAKEN: &str = include_str!("../../source/taken.yaml");
/// Objects that a schema takes and the ValidatingAdmissionPolicy does not.
pub(super) const MISSPELT: &str = include_str!("../../source/misspelt.yaml");
/// Objects that both refuse.
pub(super) const REFUSED: &str = include_str!("../../source/refused.yaml");

/// Every name in the files begins so; each run has names of its own.
const PREFIX: &str = "source-";

/// The documents of a file, under the names of this run.
pub(super) fn read(text: &str, prefix: &str) -> Result<Vec<Document>, Failure> {
    let own = text.replace(PREFIX, prefix);
    document::read(own.as_bytes()).map_err(|error| Failure(format!("integration/source: {error}")))
}

/// An object as a directory holds it: as it was written, with what only a server can know (who it is, since when,
/// which address a Service was given).
pub(super) fn as_written(written: &Value, stored: &Value) -> Value {
    let mut object = written.clone();
    for field in ["uid", "creationTimestamp", "deletionTimestamp"] {
        if let Some(value) = stored["metadata"].get(field) {
            object["metadata"][field] = value.clone();
        }
    }
    if written["kind"] == "Service" {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = stored["spec"].get(field) {
                object["spec"][field] = value.clone();
            }
        }
    }
    object
}

/// An object as whoever made it would make it again.
pub(super) fn as_made(named: &Value, stored: &Value) -> Value {
    let mut object = named.clone();
    object["spec"] = stored["spec"].clone();
    for field in ["labels", "annotations"] {
        if let Some(value) = stored["metadata"].get(field) {
            object["metadata"][field] = value.clone();
        }
    }
    object
}

/// An object as a directory holds it that somebody else made.
pub(super) fn as_stored(stored: &Value) -> Value {
    let mut object = stored.clone();
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| {
            matches!(
                field.as_str(),
                "name" | "namespace" | "uid" | "labels" | "creationTimestamp"
            )
        });
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

/// `kind namespace/name`.
pub(super) fn name(object: &Value) -> String {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    format!(
        "{} {}/{}",
        text("/kind"),
        text("/metadata/namespace"),
        text("/metadata/name")
    )
}

#[cfg(test)]
mod tests {
    use act::config::admission::{Ruling, admit};

    use super::*;

    #[test]
    fn there_are_two_hundred_objects_and_admission_judges_each_as_its_file_says() {
        let mut number = 0;
        for (text, taken) in [(TAKEN, true), (MISSPELT, true), (REFUSED, false)] {
            for document in read(text, "source-x-").expect("readable") {
                number += 1;
                let shown = document.value.to_string();
                let admission = admit(document, &"it.yaml".into()).expect("of a kind that is read");
                let found = matches!(&admission.ruling, Ruling::Admitted(..));
                assert_eq!(found, taken, "{shown}: {:?}", admission.ruling);
            }
        }
        assert!(number >= 200, "{number}");
    }

    #[test]
    fn a_misspelt_policy_is_told_and_a_taken_one_has_nothing_unknown_in_it() {
        for (text, told) in [(TAKEN, false), (MISSPELT, true)] {
            for document in read(text, "source-x-").expect("readable") {
                let shown = document.value.to_string();
                let admission = admit(document, &"it.yaml".into()).expect("of a kind that is read");
                let Ruling::Admitted(_, origin) = admission.ruling else {
                    continue;
                };
                assert_eq!(!origin.problems.is_empty(), told, "{shown}: {:?}", origin.problems);
            }
        }
    }
}
