//! `selector: {matchLabels: …}` of our policies.

use decide::model::Labels;

use super::written::{Field, below};
use crate::config::objects::{FieldError, word};

/// Labels that must be there; none: everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Selector(Labels);

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
        let mut wanted = Vec::new();
        for (key, value) in written {
            let value = value.as_str().ok_or_else(|| {
                FieldError::new(
                    below(&labels.path, key),
                    "is no text.",
                    "Write the label's value in quotes.",
                )
            })?;
            wanted.push((word(key), word(value)));
        }
        Ok(Self(wanted.into_iter().collect()))
    }

    pub(super) fn matches(&self, labels: &Labels) -> bool {
        self.0.is_subset_of(labels)
    }

    /// Whether it selects everything.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
