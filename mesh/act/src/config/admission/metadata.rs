//! `metadata` of any object: names, labels, annotations.

use serde_json::Value;

use super::{
    schema::{null_or_absent, prune},
    shown,
};
use crate::config::{
    document::push_key,
    objects::{FieldError, Object},
};

/// Fields of `metav1.ObjectMeta`.
const FIELDS: [&str; 15] = [
    "name",
    "generateName",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "selfLink",
];
/// Kinds whose name is one DNS label; others may have several, with dots.
const NAMED_BY_LABEL: [&str; 2] = ["Namespace", "Service"];
/// Longest DNS label (RFC 1123), label value and name part of a label's key.
const MAX_LABEL: usize = 63;
/// Longest DNS subdomain (RFC 1123).
const MAX_SUBDOMAIN: usize = 253;
/// Largest annotations of one object, in bytes.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Checks `metadata` and fills in the namespace and the label an API server gives each Namespace.
pub(super) fn check(value: &mut Value, kind: &str, faults: &mut Vec<FieldError>, unknown: &mut Vec<FieldError>) {
    let metadata = value.get_mut("metadata").filter(|metadata| metadata.is_object());
    let Some(metadata) = metadata else {
        faults.push(FieldError::new(
            "metadata",
            "is missing.",
            "Write metadata with a name.",
        ));
        return;
    };
    check_names(metadata, kind, faults);
    check_labels(metadata, faults);
    check_annotations(metadata, faults);
    prune(metadata, "metadata", unknown, |field| FIELDS.contains(&field));
    if !faults.is_empty() {
        return;
    }
    match Object::is_cluster_scoped(kind) {
        Some(false) if null_or_absent(metadata, "namespace") => metadata["namespace"] = "default".into(),
        _ => {}
    }
    if kind == "Namespace" {
        let name = metadata["name"].clone();
        if null_or_absent(metadata, "labels") {
            metadata["labels"] = Value::Object(serde_json::Map::new());
        }
        metadata["labels"]["kubernetes.io/metadata.name"] = name;
    }
}

fn check_names(metadata: &Value, kind: &str, faults: &mut Vec<FieldError>) {
    let by_label = NAMED_BY_LABEL.contains(&kind);
    match metadata.get("name").filter(|name| !name.is_null()) {
        None => faults.push(FieldError::new(
            "metadata.name",
            "is missing.",
            "Give the object a name.",
        )),
        Some(name) => {
            let fits = |name: &str| if by_label { is_label(name) } else { is_subdomain(name) };
            check_name("metadata.name", name, fits, faults);
        }
    }
    if let Some(namespace) = metadata.get("namespace").filter(|namespace| !namespace.is_null()) {
        if Object::is_cluster_scoped(kind) == Some(true) {
            let what = format!("is given, and a {kind} stands outside every namespace.");
            faults.push(FieldError::new("metadata.namespace", what, "Remove it."));
        } else {
            check_name("metadata.namespace", namespace, is_label, faults);
        }
    }
}

fn check_name(field: &str, value: &Value, fits: impl Fn(&str) -> bool, faults: &mut Vec<FieldError>) {
    let remedy = "Write lower-case letters, digits and '-', beginning and ending with a letter or digit.";
    match value.as_str() {
        Some(name) if fits(name) => {}
        Some(name) => faults.push(FieldError::new(
            field,
            format!("{} is no valid name.", shown(name)),
            remedy,
        )),
        None => faults.push(FieldError::new(field, "is not a string.", "Quote it.")),
    }
}

fn check_labels(metadata: &Value, faults: &mut Vec<FieldError>) {
    each(metadata, "labels", faults, |value| {
        let word = |value: &str| value.is_empty() || is_word(value);
        (!word(value)).then(|| format!("has the value {}, which no label may have.", shown(value)))
    });
}

fn check_annotations(metadata: &Value, faults: &mut Vec<FieldError>) {
    let mut size = 0_usize;
    each(metadata, "annotations", faults, |value| {
        size = size.saturating_add(value.len());
        None
    });
    if size > MAX_ANNOTATIONS {
        let what = format!("hold {size} bytes, more than {MAX_ANNOTATIONS}.");
        faults.push(FieldError::new("metadata.annotations", what, "Write less."));
    }
}

/// Checks a map of strings to strings under qualified names.
fn each(metadata: &Value, map: &str, faults: &mut Vec<FieldError>, mut check: impl FnMut(&str) -> Option<String>) {
    let Some(written) = metadata.get(map).filter(|map| !map.is_null()) else {
        return;
    };
    let path = format!("metadata.{map}");
    let Some(entries) = written.as_object() else {
        faults.push(FieldError::new(path, "is not a map.", "Write one `key: value` a line."));
        return;
    };
    for (key, value) in entries {
        let mut field = path.clone();
        push_key(&mut field, key);
        if !is_qualified(key) {
            let remedy = "Write a name, or a DNS name, '/' and a name.";
            faults.push(FieldError::new(field.clone(), "is no valid key.", remedy));
        }
        match value.as_str().map(&mut check) {
            Some(None) => {}
            Some(Some(what)) => {
                let remedy = "Write at most 63 letters, digits, '-', '_' and '.'.";
                faults.push(FieldError::new(field, what, remedy));
            }
            None => faults.push(FieldError::new(field, "has a value that is not a string.", "Quote it.")),
        }
    }
}

/// RFC 1123 label.
fn is_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_part(text)
}

/// RFC 1123 subdomain.
fn is_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_part)
}

fn is_part(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    text.bytes().all(inside) && ends_well(text)
}

/// The key of a label or annotation.
fn is_qualified(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(&prefix.to_ascii_lowercase()) && is_word(name),
        None => is_word(key),
    }
}

/// The value of a label, if not empty.
fn is_word(text: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    text.len() <= MAX_LABEL && text.bytes().all(inside) && ends_well(text)
}

/// Begins and ends with a letter or digit.
fn ends_well(text: &str) -> bool {
    let good = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    good(text.as_bytes().first()) && good(text.as_bytes().last())
}
