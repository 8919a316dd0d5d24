//! What of an object is read at all: the rest is skipped while it is parsed, never stored.
//!
//! In: JSON text from the API server. Out: a small [`Value`] for [`crate::config::Object::parse`]. A field that a
//! struct of [`crate::config::objects`] reads must stand here too; a test compares.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::config::objects::MIRROR;

/// What of a value is kept. Each item of a list has the shape of the list.
#[derive(Debug, PartialEq)]
pub(super) enum Shape {
    /// All of it.
    Whole,
    /// These fields.
    Fields(&'static [(&'static str, Self)]),
    /// Keys of our own group, and what makes a Pod a static one's: annotations hold much that is nobody's business here.
    Ours,
}

use Shape::{Fields, Ours, Whole};

const METADATA: Shape = Fields(&[
    ("name", Whole),
    ("namespace", Whole),
    ("uid", Whole),
    ("resourceVersion", Whole),
    ("labels", Whole),
    ("annotations", Ours),
    (
        "ownerReferences",
        Fields(&[("kind", Whole), ("name", Whole), ("controller", Whole)]),
    ),
    ("creationTimestamp", Whole),
    ("deletionTimestamp", Whole),
]);

/// Metadata alone.
pub(super) const NAMED: Shape = Fields(&[("metadata", METADATA)]);

/// Metadata and the whole `spec`.
pub(super) const SPEC: Shape = Fields(&[("metadata", METADATA), ("spec", Whole)]);

/// A NetworkPolicy: whom it selects.
pub(super) const NETWORK_POLICY: Shape = Fields(&[("metadata", METADATA), ("spec", Fields(&[("podSelector", Whole)]))]);

/// An EndpointSlice.
pub(super) const SLICE: Shape = Fields(&[
    ("metadata", METADATA),
    ("addressType", Whole),
    (
        "endpoints",
        Fields(&[
            ("addresses", Whole),
            ("conditions", Whole),
            ("targetRef", Whole),
            ("nodeName", Whole),
            ("zone", Whole),
            ("hints", Whole),
        ]),
    ),
    ("ports", Whole),
]);

const CONTAINER: Shape = Fields(&[
    ("name", Whole),
    ("ports", Whole),
    ("restartPolicy", Whole),
    ("livenessProbe", Whole),
    ("readinessProbe", Whole),
    ("startupProbe", Whole),
    ("lifecycle", Whole),
]);

/// A Pod: what of it decides about traffic and probes.
pub(super) const POD: Shape = Fields(&[
    ("metadata", METADATA),
    (
        "spec",
        Fields(&[
            ("nodeName", Whole),
            ("serviceAccountName", Whole),
            ("hostNetwork", Whole),
            ("restartPolicy", Whole),
            ("containers", CONTAINER),
            ("initContainers", CONTAINER),
        ]),
    ),
    (
        "status",
        Fields(&[
            ("phase", Whole),
            ("podIP", Whole),
            ("podIPs", Whole),
            ("hostIP", Whole),
            ("hostIPs", Whole),
            ("conditions", Fields(&[("type", Whole), ("status", Whole)])),
        ]),
    ),
]);

impl Shape {
    /// Reads an event of a watch (`type`, `object`) or a page of a list (`metadata`, `items`), keeping of the
    /// objects in it what has this shape.
    ///
    /// # Errors
    /// When it is no JSON object.
    pub(super) fn read(&self, json: &[u8]) -> serde_json::Result<Map<String, Value>> {
        let mut input = serde_json::Deserializer::from_slice(json);
        let read = input.deserialize_map(Envelope(self))?;
        input.end()?;
        Ok(read)
    }

    /// The shape of a field that is kept.
    fn field(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Whole => Some(&Self::Whole),
            Self::Fields(fields) => fields.iter().find(|(field, _)| *field == name).map(|(_, shape)| shape),
            Self::Ours => (name.split_once('/')?.0 == crds::GROUP || name == MIRROR).then_some(&Self::Whole),
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Shape {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Value, D::Error> {
        input.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Shape {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = input.next_key::<String>()? {
            match self.field(&name) {
                Some(shape) => drop(kept.insert(name, input.next_value_seed(shape)?)),
                None => drop(input.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(kept))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut input: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = input.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }
}

/// What the API server puts around objects.
struct Envelope<'a>(&'a Shape);

impl<'de> Visitor<'de> for Envelope<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an event or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
        let mut kept = Map::new();
        while let Some(name) = input.next_key::<String>()? {
            let kind = kept.get("type").and_then(Value::as_str);
            let shape = match (name.as_str(), kind) {
                ("object", Some("ADDED" | "MODIFIED" | "DELETED")) | ("items", _) => self.0,
                // A bookmark or an error: small, and of a shape of its own.
                ("object" | "type" | "metadata", _) => &Whole,
                _ => {
                    input.next_value::<IgnoredAny>()?;
                    continue;
                }
            };
            let value = input.next_value_seed(shape)?;
            kept.insert(name, value);
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Object;

    fn pod() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": "web-1", "namespace": "shop", "uid": "u-1", "resourceVersion": "7",
                "labels": {"app": "web", "pod-template-hash": "abc"},
                "annotations": {
                    "kubectl.kubernetes.io/last-applied-configuration": "{...}", "weft.dev/capture": "captured",
                },
                "managedFields": [{"manager": "kubelet", "fieldsV1": {"f:status": {}}}],
                "ownerReferences": [{"kind": "ReplicaSet", "name": "web-abc", "controller": true, "uid": "o", "apiVersion": "apps/v1"}],
                "creationTimestamp": "2026-01-31T12:00:00Z", "deletionTimestamp": "2026-01-31T13:00:00Z",
            },
            "spec": {
                "nodeName": "node1", "serviceAccountName": "web", "hostNetwork": false, "restartPolicy": "OnFailure",
                "volumes": [{"name": "token", "projected": {"sources": []}}],
                "containers": [{
                    "name": "web", "image": "web:1", "env": [{"name": "A", "value": "B"}],
                    "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
                    "readinessProbe": {"httpGet": {"path": "/", "port": "http"}},
                }],
            },
            "status": {
                "phase": "Running", "podIP": "10.244.1.2", "podIPs": [{"ip": "10.244.1.2"}, {"ip": "fd00::2"}],
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-31T12:00:01Z"}],
                "containerStatuses": [{"name": "web", "imageID": "sha256:1"}],
            },
        })
    }

    fn trimmed(shape: &Shape, whole: &Value) -> Value {
        // In the order a server writes.
        let event = format!(r#"{{"type":"ADDED","object":{whole}}}"#);
        let mut read = shape.read(event.as_bytes()).expect("JSON")["object"].clone();
        for field in ["apiVersion", "kind"] {
            read[field] = whole[field].clone();
        }
        read
    }

    #[test]
    fn what_is_skipped_is_nothing_that_is_read_afterwards() {
        let slice = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
            "endpoints": [{
                "addresses": ["10.244.1.2"], "conditions": {"ready": true, "serving": true}, "nodeName": "node1",
                "targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-1", "uid": "u-1"}, "zone": "a",
            }],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        });
        for (shape, whole) in [(&POD, pod()), (&SLICE, slice)] {
            let mut expected = Object::parse(&whole).expect("readable");
            if let Some(Object::Pod(pod)) = &mut expected {
                let mut ours = (**pod).clone();
                let annotations = ours.metadata.annotations.iter();
                let kept = annotations.filter(|(key, _)| key.starts_with("weft.dev/"));
                ours.metadata.annotations = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
                *pod = ours.into();
            }
            assert_eq!(Object::parse(&trimmed(shape, &whole)).expect("readable"), expected);
        }
    }

    #[test]
    fn what_nobody_reads_is_not_kept() {
        let kept = trimmed(&POD, &pod()).to_string();
        for unread in [
            "managedFields",
            "last-applied",
            "volumes",
            "env",
            "image",
            "lastTransitionTime",
        ] {
            assert!(!kept.contains(unread), "{unread}");
        }
        assert!(kept.contains("weft.dev/capture"));
    }

    #[test]
    fn the_spec_of_a_policy_is_kept_as_written() {
        let policy = json!({
            "apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "a", "namespace": "shop"},
            "spec": {"rules": [{"form": [1, -2, 0.5, null, true, {"deep": ["x"]}]}]},
        });
        assert_eq!(trimmed(&SPEC, &policy), policy);
    }
}
