//! One value of a document, with its line.

use std::{collections::HashMap, fmt::Write, rc::Rc};

use serde_json::{Map, Value};

use super::VALUE_WEIGHT;

/// Longest path a line is kept for, in bytes; a longer one is placed by what it stands in.
const MAX_PATH: usize = 512;
/// Most lines kept of one document; later fields are placed by what they stand in.
const MAX_LINES: usize = 50_000;

/// One value, with its line. An alias shares the value it names.
#[derive(Debug)]
pub(super) struct Node {
    /// Where it begins, from 1.
    pub(super) line: u32,
    /// Its weight with aliases written out, as [`super::MAX_WEIGHT`] counts; saturates.
    pub(super) weight: usize,
    /// Levels below and including it.
    pub(super) height: usize,
    content: Content,
}

/// What a [`Node`] holds.
#[derive(Debug)]
pub(super) enum Content {
    /// Null, boolean, number or string.
    Scalar(Value),
    /// A sequence.
    List(Vec<Rc<Node>>),
    /// A mapping, as written, each key with its line.
    Map(Vec<Entry>),
}

/// One field of a mapping.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Its key.
    pub(super) key: Rc<str>,
    /// The key's line.
    pub(super) line: u32,
    /// Its value.
    pub(super) node: Rc<Node>,
}

impl Node {
    pub(super) fn new(line: u32, content: Content) -> Self {
        let (mut weight, mut height) = (VALUE_WEIGHT, 0);
        let mut add = |text: usize, child: &Self| {
            weight = weight.saturating_add(text).saturating_add(child.weight);
            height = height.max(child.height);
        };
        match &content {
            Content::List(items) => items.iter().for_each(|item| add(0, item)),
            Content::Map(entries) => entries.iter().for_each(|entry| add(entry.key.len(), &entry.node)),
            Content::Scalar(Value::String(text)) => weight = weight.saturating_add(text.len()),
            Content::Scalar(_) => {}
        }
        Self {
            line,
            weight,
            height: height + 1,
            content,
        }
    }

    /// Whether it is null, or nothing.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.content, Content::Scalar(Value::Null))
    }

    /// Whether it is a mapping.
    pub(super) fn is_map(&self) -> bool {
        matches!(self.content, Content::Map(_))
    }

    /// Its fields, if it is a mapping.
    pub(super) fn entries(&self) -> Option<&[Entry]> {
        match &self.content {
            Content::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Its items, if it is a sequence.
    pub(super) fn list(&self) -> Option<&[Rc<Self>]> {
        match &self.content {
            Content::List(items) => Some(items),
            _ => None,
        }
    }

    /// A field that is a string.
    pub(super) fn text(&self, field: &str) -> Option<&str> {
        match &self.field(field)?.content {
            Content::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }

    /// A field that is a sequence.
    pub(super) fn items(&self, field: &str) -> Option<&[Rc<Self>]> {
        self.field(field)?.list()
    }

    /// The value, and the line of every field in it by path.
    pub(super) fn flatten(&self) -> (Value, HashMap<String, u32>) {
        let mut lines = HashMap::new();
        let value = self.write(&mut String::new(), &mut lines);
        (value, lines)
    }

    fn field(&self, field: &str) -> Option<&Self> {
        let entry = self.entries()?.iter().find(|entry| &*entry.key == field)?;
        Some(&entry.node)
    }

    /// Recursion is bounded: no tree is higher than [`super::MAX_DEPTH`].
    fn write(&self, path: &mut String, lines: &mut HashMap<String, u32>) -> Value {
        let before = path.len();
        match &self.content {
            Content::Scalar(value) => value.clone(),
            Content::List(items) => {
                let mut values = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    // Writing to a String does not fail.
                    let _ = write!(path, "[{index}]");
                    keep(lines, path, item.line);
                    values.push(item.write(path, lines));
                    path.truncate(before);
                }
                Value::Array(values)
            }
            Content::Map(entries) => {
                let mut values = Map::with_capacity(entries.len());
                for entry in entries {
                    push_key(path, &entry.key);
                    keep(lines, path, entry.line);
                    values.insert(entry.key.to_string(), entry.node.write(path, lines));
                    path.truncate(before);
                }
                Value::Object(values)
            }
        }
    }
}

fn keep(lines: &mut HashMap<String, u32>, path: &str, line: u32) {
    if path.len() <= MAX_PATH && lines.len() < MAX_LINES {
        lines.insert(path.to_owned(), line);
    }
}

/// Adds a field to a path: `.name`, or `[name]` where a name holds anything else than letters, digits, `-` and `_`.
pub(in crate::config) fn push_key(path: &mut String, key: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if key.is_empty() || !key.chars().all(plain) {
        path.push('[');
        path.push_str(key);
        path.push(']');
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(key);
    }
}
