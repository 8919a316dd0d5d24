//! Reading a `spec` as written: a value and where it stands.

use std::fmt;

use serde_json::{Map, Value};

use crate::config::{document::push_key, objects::FieldError};

/// A value and its path.
#[derive(Debug, Clone)]
pub(super) struct Field<'a> {
    pub(super) path: String,
    pub(super) value: &'a Value,
}

impl<'a> Field<'a> {
    pub(super) fn spec(value: &'a Value) -> Self {
        Self {
            path: "spec".to_owned(),
            value,
        }
    }

    /// A field of this object; none if this is no object or has no such field. An explicit null is there: what
    /// somebody wrote and left empty was meant to hold something.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        self.value.get(key).map(|value| Field {
            path: below(&self.path, key),
            value,
        })
    }

    /// As [`Self::get`], for objects whose nulls mean nothing.
    pub(super) fn some(&self, key: &str) -> Option<Self> {
        self.get(key).filter(|field| !field.value.is_null())
    }

    /// The elements of this list; `None` if it is none.
    pub(super) fn items(&self) -> Option<Vec<Self>> {
        let items = self.value.as_array()?.iter().enumerate();
        Some(
            items
                .map(|(index, value)| Field {
                    path: format!("{}[{index}]", self.path),
                    value,
                })
                .collect(),
        )
    }

    /// The fields of this object; `None` if it is none.
    pub(super) fn fields(&self) -> Option<&'a Map<String, Value>> {
        self.value.as_object()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.value.as_str()
    }

    /// A port number, 1 to 65535.
    pub(super) fn port(&self) -> Option<u16> {
        let number = u16::try_from(self.value.as_u64()?).ok()?;
        (number != 0).then_some(number)
    }

    /// The fields of this object that are not among `known`, each with what it was perhaps meant to be.
    pub(super) fn unknown(&self, known: &[&'static str]) -> Vec<(Self, Option<&'static str>)> {
        let fields = self.fields().into_iter().flatten();
        fields
            .filter(|(key, _)| !known.contains(&key.as_str()))
            .map(|(key, value)| {
                let field = Field {
                    path: below(&self.path, key),
                    value,
                };
                let meant = known.iter().find(|it| looks_like(it, key)).copied();
                (field, meant)
            })
            .collect()
    }

    pub(super) fn error(&self, what: impl Into<String>, remedy: impl Into<String>) -> FieldError {
        FieldError::new(self.path.clone(), what, remedy)
    }

    /// The error of a field that nobody knows.
    pub(super) fn unknown_error(&self, meant: Option<&str>, consequence: impl fmt::Display) -> FieldError {
        let remedy = match meant {
            Some(meant) => format!("Did you mean {meant}?"),
            None => "Remove it, or write the field that was meant.".to_owned(),
        };
        self.error(format!("is no field the mesh knows; {consequence}."), remedy)
    }
}

/// The path of a field of what stands at `path`.
pub(super) fn below(path: &str, key: &str) -> String {
    let mut path = path.to_owned();
    push_key(&mut path, key);
    path
}

/// A text as a person wrote it, quoted and cut short.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 100;
    match text.char_indices().nth(LONGEST) {
        None => format!("{text:?}"),
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
    }
}

/// Whether one is perhaps the other misspelt: the same letters in any case or order, or one too many or too few.
fn looks_like(known: &str, written: &str) -> bool {
    let letters = |text: &str| {
        let mut letters: Vec<char> = text.to_ascii_lowercase().chars().take(64).collect();
        letters.sort_unstable();
        letters
    };
    let (a, b) = (letters(known), letters(written));
    let (long, short) = if a.len() >= b.len() { (&a, &b) } else { (&b, &a) };
    if long.len() - short.len() > 1 || short.len() < 2 {
        return false;
    }
    let mut rest = long.clone();
    for letter in short {
        match rest.iter().position(|it| it == letter) {
            Some(index) => drop(rest.remove(index)),
            None => rest.push('\u{0}'),
        }
    }
    rest.len() <= 1 || (rest.len() == 2 && rest.contains(&'\u{0}') && long.len() > 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_field_is_recognised_and_a_foreign_one_is_not() {
        for (known, written, alike) in [
            ("from", "form", true),
            ("from", "From", true),
            ("rules", "rule", true),
            ("selector", "selectors", true),
            ("targetRefs", "targetRef", true),
            ("principals", "principels", true),
            ("from", "to", false),
            ("action", "dryRun", false),
            ("methods", "hosts", false),
        ] {
            assert_eq!(looks_like(known, written), alike, "{known} {written}");
        }
    }

    #[test]
    fn long_text_is_cut_at_a_character() {
        assert_eq!(shown("a"), "\"a\"");
        assert_eq!(shown(&"ä".repeat(200)).chars().count(), 103);
    }
}
