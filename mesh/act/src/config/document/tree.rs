//! Events of the YAML parser as trees of [`Node`]s: aliases shared, merge keys applied, duplicates refused.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    rc::Rc,
};

use saphyr_parser::{Event, Parser, Tag};

use super::{
    MAX_DEPTH, MAX_DOCUMENTS, MAX_WEIGHT, Unreadable,
    node::{Content, Entry, Node},
    scalar,
};

/// The root of each document of a text that begins at a line of its file.
pub(super) fn read(text: &str, first: u32) -> Result<Vec<Rc<Node>>, Unreadable> {
    let mut tree = Tree::default();
    let line = |line: usize| number(line).saturating_add(first - 1);
    for event in Parser::new_from_str(&ended(text)) {
        let (event, span) = event.map_err(|error| {
            let what = format!("This is not YAML: {}.", error.info());
            Unreadable::new(line(error.marker().line()), what, "Correct it, or finish writing it.")
        })?;
        tree.take(event, line(span.start.line()))?;
    }
    Ok(tree.roots)
}

/// The parser takes the end of a text for a line of a block scalar that has nothing in it; before a marker it does not.
fn ended(text: &str) -> Cow<'_, str> {
    let last = text.trim_end().rsplit('\n').next().unwrap_or_default();
    match text.ends_with('\n') && last.contains(['|', '>']) {
        true => Cow::Owned(format!("{text}...\n")),
        false => Cow::Borrowed(text),
    }
}

/// What has been read so far.
#[derive(Debug, Default)]
struct Tree {
    roots: Vec<Rc<Node>>,
    open: Vec<Open>,
    anchors: HashMap<usize, Rc<Node>>,
}

/// A sequence or mapping whose end has not come yet.
#[derive(Debug)]
struct Open {
    line: u32,
    anchor: usize,
    /// Of the values in it so far, aliases written out.
    weight: usize,
    content: Unfinished,
}

#[derive(Debug)]
enum Unfinished {
    List(Vec<Rc<Node>>),
    Map(Fields),
}

#[derive(Debug, Default)]
struct Fields {
    entries: Vec<Entry>,
    seen: HashMap<Rc<str>, u32>,
    merged: Vec<Rc<Node>>,
    /// The key whose value comes next, with its line.
    key: Option<(Rc<str>, u32)>,
}

impl Tree {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), Unreadable> {
        match event {
            Event::DocumentStart(_) => self.anchors.clear(),
            Event::Alias(anchor) => {
                let node = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                    let what = "An alias stands inside the value it names.";
                    Unreadable::new(line, what, "Write the value out.")
                })?;
                self.add(node, line)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                if self.takes_key(&text, line)? {
                    return Ok(());
                }
                let value = scalar::read(&text, style, tag.as_deref())
                    .map_err(|what| Unreadable::new(line, what, "Write the value without a tag."))?;
                self.finish(Node::new(line, Content::Scalar(value)), anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(line, anchor, tag.as_deref(), "seq", Unfinished::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                self.open(line, anchor, tag.as_deref(), "map", Unfinished::Map(Fields::default()))?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    let anchor = open.anchor;
                    self.finish(open.close()?, anchor)?;
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn open(
        &mut self,
        line: u32,
        anchor: usize,
        tag: Option<&Tag>,
        expected: &str,
        content: Unfinished,
    ) -> Result<(), Unreadable> {
        if let Some(tag) = tag.filter(|tag| !(tag.is_yaml_core_schema() && tag.suffix == expected)) {
            let what = format!("The tag {tag} is not known here.");
            return Err(Unreadable::new(line, what, "Write the value without a tag."));
        }
        self.no_key_expected(line)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(too_deep(line));
        }
        self.open.push(Open {
            line,
            anchor,
            weight: 0,
            content,
        });
        Ok(())
    }

    /// Whether this scalar is the key of the innermost mapping; if so it is kept.
    fn takes_key(&mut self, text: &str, line: u32) -> Result<bool, Unreadable> {
        let Some(fields) = self.expecting_key() else {
            return Ok(false);
        };
        let key: Rc<str> = text.into();
        if let Some(first) = fields.seen.insert(key.clone(), line) {
            let what = format!("The field {:?} is there twice, first on line {first}.", shown(text));
            return Err(Unreadable::new(line, what, "Keep one of them."));
        }
        fields.key = Some((key, line));
        Ok(true)
    }

    fn no_key_expected(&mut self, line: u32) -> Result<(), Unreadable> {
        match self.expecting_key() {
            None => Ok(()),
            Some(_) => {
                let what = "A field's name is a sequence or mapping.";
                Err(Unreadable::new(
                    line,
                    what,
                    "Write a string; quote what stands in braces.",
                ))
            }
        }
    }

    fn expecting_key(&mut self) -> Option<&mut Fields> {
        match self.open.last_mut().map(|open| &mut open.content) {
            Some(Unfinished::Map(fields)) if fields.key.is_none() => Some(fields),
            _ => None,
        }
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Unreadable> {
        let (line, node) = (node.line, Rc::new(node));
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        self.add(node, line)
    }

    /// Adds a finished value to what it stands in.
    fn add(&mut self, node: Rc<Node>, line: u32) -> Result<(), Unreadable> {
        self.no_key_expected(line)?;
        if self.open.len() + node.height > MAX_DEPTH {
            return Err(too_deep(line));
        }
        let Some(open) = self.open.last_mut() else {
            if self.roots.len() >= MAX_DOCUMENTS {
                let what = format!("The file holds more than {MAX_DOCUMENTS} documents.");
                return Err(Unreadable::new(line, what, "Split it into several files."));
            }
            self.roots.push(node);
            return Ok(());
        };
        open.weight = open.weight.saturating_add(node.weight);
        if open.weight > MAX_WEIGHT {
            let what = "This document is too large with its aliases written out.";
            return Err(Unreadable::new(line, what, "Write less of it, or less often."));
        }
        match &mut open.content {
            Unfinished::List(items) => items.push(node),
            Unfinished::Map(fields) => fields.add(node),
        }
        Ok(())
    }
}

impl Fields {
    fn add(&mut self, node: Rc<Node>) {
        match self.key.take() {
            Some((key, _)) if &*key == "<<" => self.merged.push(node),
            Some((key, line)) => self.entries.push(Entry { key, line, node }),
            None => {}
        }
    }

    /// `<<: *base` and `<<: [*one, *two]`: fields of others where there are none of our own, earlier ones first.
    fn merge(&mut self, line: u32) -> Result<(), Unreadable> {
        let mut sources = Vec::new();
        for merged in std::mem::take(&mut self.merged) {
            match merged.list() {
                Some(list) => sources.extend(list.iter().cloned()),
                None => sources.push(merged),
            }
        }
        let mut seen: HashSet<Rc<str>> = self.entries.iter().map(|entry| entry.key.clone()).collect();
        for source in sources {
            let Some(entries) = source.entries() else {
                let what = "`<<` merges something that is no mapping.";
                return Err(Unreadable::new(line, what, "Write the fields out."));
            };
            let new = entries.iter().filter(|entry| seen.insert(entry.key.clone()));
            self.entries.extend(new.cloned());
        }
        Ok(())
    }
}

impl Open {
    fn close(self) -> Result<Node, Unreadable> {
        let content = match self.content {
            Unfinished::List(items) => Content::List(items),
            Unfinished::Map(mut fields) => {
                fields.merge(self.line)?;
                Content::Map(fields.entries)
            }
        };
        Ok(Node::new(self.line, content))
    }
}

fn too_deep(line: u32) -> Unreadable {
    let what = format!("This is nested deeper than {MAX_DEPTH} levels.");
    Unreadable::new(line, what, "Write it flatter.")
}

fn number(line: usize) -> u32 {
    u32::try_from(line.max(1)).unwrap_or(u32::MAX)
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}
