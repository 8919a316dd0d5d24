//! Reading parts of a JSON value, with the field at fault.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

/// A field that could not be read, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {what} {remedy}")]
pub struct FieldError {
    /// Path of the field, such as `spec.ports[0].port`.
    pub field: String,
    /// What is wrong, one sentence.
    pub what: String,
    /// What the user can do, one sentence.
    pub remedy: String,
}

impl FieldError {
    /// An error at a field.
    pub fn new(field: impl Into<String>, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

/// Reads one top-level section (`metadata`, `spec`, `status`); an absent one as if empty.
pub(super) fn section<T: DeserializeOwned>(object: &Value, name: &str) -> Result<T, FieldError> {
    let empty = Value::Object(Map::new());
    let written = match object.get(name) {
        None | Some(Value::Null) => &empty,
        Some(written) => written,
    };
    serde_path_to_error::deserialize(written).map_err(|error| {
        let field = match error.path().to_string().as_str() {
            "." => name.to_owned(),
            path => format!("{name}.{path}"),
        };
        FieldError::new(
            field,
            format!("cannot be read: {}.", error.inner()),
            "Write it as the Kubernetes API has it.",
        )
    })
}

/// The `spec` as written; it must be an object if it is there.
pub(super) fn spec_as_written(object: &Value) -> Result<Value, FieldError> {
    match object.get("spec") {
        None | Some(Value::Null) => Ok(Value::Object(Map::new())),
        Some(spec @ Value::Object(_)) => Ok(spec.clone()),
        Some(_) => Err(FieldError::new(
            "spec",
            "is not an object.",
            "Write its fields below it, indented.",
        )),
    }
}

/// An explicit `null` reads as if the field were not there.
pub(super) fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(input: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}
