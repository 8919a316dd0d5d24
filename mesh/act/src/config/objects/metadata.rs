//! `metadata` of any object.

use std::{
    cmp::Ordering,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use decide::model::Labels;
use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::{
    read::{FieldError, or_default, section},
    word::{read_labels, read_word},
};

/// `metadata` of any object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// Name.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Arc<str>,
    /// Namespace; empty for cluster-scoped kinds, `default` if a namespaced object names none.
    #[serde(default, deserialize_with = "read_word")]
    pub namespace: Arc<str>,
    /// UID, if the source has one.
    #[serde(default)]
    pub uid: Option<Arc<str>>,
    /// Labels.
    #[serde(default, deserialize_with = "read_labels")]
    pub labels: Labels,
    /// Annotations.
    #[serde(default, deserialize_with = "read_labels")]
    pub annotations: Labels,
    /// What made this object.
    #[serde(default, deserialize_with = "or_default")]
    pub owner_references: Box<[OwnerReference]>,
    /// When it was created, if written.
    #[serde(default, rename = "creationTimestamp", deserialize_with = "time")]
    pub created: Option<SystemTime>,
    /// When it was asked to go, if it was.
    #[serde(default, rename = "deletionTimestamp", deserialize_with = "time")]
    pub deleted: Option<SystemTime>,
}

/// What made an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct OwnerReference {
    /// Kind of the owner.
    #[serde(deserialize_with = "read_word")]
    pub kind: Arc<str>,
    /// Its name.
    #[serde(deserialize_with = "read_word")]
    pub name: Arc<str>,
    /// Whether it is the one that controls the object.
    #[serde(default, deserialize_with = "or_default")]
    pub controller: bool,
}

impl Metadata {
    pub(super) fn read(object: &Value, cluster_scoped: bool) -> Result<Self, FieldError> {
        let mut read: Self = section(object, "metadata")?;
        if read.name.is_empty() {
            return Err(FieldError::new(
                "metadata.name",
                "is missing.",
                "Give the object a name.",
            ));
        }
        if cluster_scoped {
            read.namespace = "".into();
        } else if read.namespace.is_empty() {
            read.namespace = "default".into();
        }
        Ok(read)
    }

    /// A label's value.
    pub fn label(&self, key: &str) -> Option<&Arc<str>> {
        self.labels.get(key)
    }

    /// Oldest first: by time of creation, those that tell one before those that do not, then by namespace and name.
    pub fn by_age(&self, other: &Self) -> Ordering {
        let rank = |it: &Self| (it.created.is_none(), it.created.unwrap_or(UNIX_EPOCH));
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.namespace.cmp(&other.namespace))
            .then_with(|| self.name.cmp(&other.name))
    }
}

/// RFC 3339 in UTC, as the API server writes it.
fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<SystemTime>, D::Error> {
    let written: Option<String> = Option::deserialize(input)?;
    written
        .map(|written| {
            humantime::parse_rfc3339(&written)
                .map_err(|_| de::Error::custom(format!("{written:?} is no time like 2026-01-31T12:00:00Z")))
        })
        .transpose()
}
