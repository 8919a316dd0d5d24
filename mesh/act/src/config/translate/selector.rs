//! `selector: {matchLabels: …}` of our policies.

use std::{collections::BTreeMap, sync::Arc};

use super::written::{Field, below};
use crate::config::objects::FieldError;

/// Labels that must be there; none: everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selector(BTreeMap<Arc<str>, Arc<str>>);

impl Selector {
    /// Reads it, or says why not.
    pub(super) fn read(field: &Field<'_>) -> Result<Self, FieldError> {
        let fields = field
            .fields()
            .ok_or_else(|| field.error("is empty or no object.", "Write matchLabels below it, or remove it."))?;
        if let Some((unknown, meant)) = field.unknown(&["matchLabels"]).into_iter().next() {
            return Err(unknown.unknown_error(meant, "a selector has matchLabels alone"));
        }
        let Some(labels) = field.get("matchLabels") else {
            debug_assert!(fields.is_empty());
            return Ok(Self::default());
        };
        let written = labels
            .fields()
            .ok_or_else(|| labels.error("is empty or no object.", "Write labels and their values below it."))?;
        let mut wanted = BTreeMap::new();
        for (key, value) in written {
            let value = value.as_str().ok_or_else(|| {
                FieldError::new(
                    below(&labels.path, key),
                    "is no text.",
                    "Write the label's value in quotes.",
                )
            })?;
            wanted.insert(key.as_str().into(), value.into());
        }
        Ok(Self(wanted))
    }

    pub(super) fn matches(&self, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
        is_subset(&self.0, labels)
    }

    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Whether every label wanted is there.
pub(super) fn is_subset(wanted: &BTreeMap<Arc<str>, Arc<str>>, labels: &BTreeMap<Arc<str>, Arc<str>>) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}
