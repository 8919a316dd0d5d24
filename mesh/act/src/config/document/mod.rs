//! One file's text as documents: values, and the line of every field.
//!
//! In: bytes that anybody may have written. Out: every document of the file, or the one reason why none of it is
//! used. Scalars are read as `kubectl` reads them (YAML 1.1 where that matters: `yes` and `on` are booleans).
//! Everything is bounded: bytes, documents, depth, and what aliases expand to.

mod node;
mod pages;
mod scalar;
mod tree;

use std::collections::HashMap;

use serde_json::Value;

use node::Node;
pub(in crate::config) use node::push_key;
pub use pages::{Page, pages};

/// Largest file, in bytes.
pub const MAX_BYTES: usize = 4 << 20;
/// Most documents of one file, items of lists counted.
pub const MAX_DOCUMENTS: usize = 10_000;
/// Deepest nesting of one document.
pub const MAX_DEPTH: usize = 64;
/// Largest document with its aliases written out, in bytes of text and [`VALUE_WEIGHT`] for each value.
pub const MAX_WEIGHT: usize = 16 << 20;
/// What each value counts beside its text.
pub const VALUE_WEIGHT: usize = 16;

/// One Kubernetes object as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its value; always an object.
    pub value: Value,
    /// The line it begins at, from 1.
    pub line: u32,
    /// Lines of its fields by path: `spec.rules[0].from[0].source.ipBlocks[1]`, `metadata.labels[weft.dev/use-waypoint]`.
    pub lines: HashMap<String, u32>,
}

/// Why a file is not used, with the line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what} {remedy}")]
pub struct Unreadable {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong, one sentence.
    pub what: String,
    /// What the user can do, one sentence.
    pub remedy: String,
}

/// Reads a file: YAML or JSON, any number of documents, lists (`kind: List`) taken apart.
///
/// # Errors
/// The first thing that cannot be read. Then nothing of the file is used: half of it could mean something else.
pub fn read(bytes: &[u8]) -> Result<Vec<Document>, Unreadable> {
    let mut documents = Vec::new();
    for page in pages(bytes)? {
        documents.extend(page.read()?);
        at_most_documents(documents.len(), page.line)?;
    }
    Ok(documents)
}

/// Refuses more documents than a file may have.
///
/// # Errors
/// Where there are, with the line given.
pub fn at_most_documents(count: usize, line: u32) -> Result<(), Unreadable> {
    if count <= MAX_DOCUMENTS {
        return Ok(());
    }
    let what = format!("The file holds more than {MAX_DOCUMENTS} objects.");
    Err(Unreadable::new(line, what, "Split it into several files."))
}

impl Unreadable {
    fn new(line: u32, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            line,
            what: what.into(),
            remedy: remedy.into(),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, Unreadable> {
    if bytes.len() > MAX_BYTES {
        let what = format!("The file has {} bytes, more than {MAX_BYTES}.", bytes.len());
        return Err(Unreadable::new(1, what, "Split it into several files."));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = bytes.get(..error.valid_up_to()).unwrap_or_default();
        Unreadable::new(line_after(before), "This is not UTF-8.", "Save the file as UTF-8.")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // The parser takes a NUL for the end: what follows would silently be ignored.
    let control = |c: char| c.is_control() && !matches!(c, '\t' | '\n' | '\r' | '\u{85}');
    if let Some(at) = text.find(control) {
        let before = text.get(..at).unwrap_or_default();
        let what = "There is a control character that YAML does not allow.";
        return Err(Unreadable::new(line_after(before.as_bytes()), what, "Remove it."));
    }
    Ok(text)
}

fn line_after(before: &[u8]) -> u32 {
    let breaks = before.iter().filter(|byte| **byte == b'\n').count();
    u32::try_from(breaks).map_or(u32::MAX, |breaks| breaks.saturating_add(1))
}

/// Takes lists apart; `of` is what the items of a typed list (`PodList`) are, if they do not say so themselves.
fn collect(root: &Node, of: Option<(&str, &str)>, documents: &mut Vec<Document>) -> Result<(), Unreadable> {
    if root.is_null() {
        return Ok(());
    }
    if !root.is_map() {
        let what = "This document is not an object.";
        let remedy = "Write apiVersion, kind and metadata as its fields.";
        return Err(Unreadable::new(root.line, what, remedy));
    }
    let kind = root.text("kind").unwrap_or_default();
    if let (Some(element), Some(items)) = (kind.strip_suffix("List"), root.items("items")) {
        let of = (root.text("apiVersion").unwrap_or_default(), element);
        for item in items {
            collect(item, (!element.is_empty()).then_some(of), documents)?;
        }
        return Ok(());
    }
    at_most_documents(documents.len() + 1, root.line)?;
    let (mut value, lines) = root.flatten();
    if let (Some((api_version, kind)), Some(fields)) = (of, value.as_object_mut()) {
        fields.entry("apiVersion").or_insert_with(|| api_version.into());
        fields.entry("kind").or_insert_with(|| kind.into());
    }
    documents.push(Document {
        value,
        line: root.line,
        lines,
    });
    Ok(())
}

#[cfg(test)]
mod tests;
