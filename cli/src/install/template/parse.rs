//! Text into nodes.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Node, Pipeline, Place, TemplateError, Term};

/// What a file is cut into: text, or what stands between braces.
enum Piece {
    Text(String),
    Action(String, Place),
}

/// A block that waits for its `end`.
struct Open {
    kind: Kind,
    place: Place,
    /// What was collected for the branch that is being read.
    body: Vec<Node>,
}

enum Kind {
    File,
    Define(String),
    If {
        condition: Option<Pipeline>,
        branches: Vec<(Pipeline, Vec<Node>)>,
    },
    With {
        over: Pipeline,
        first: Option<Vec<Node>>,
    },
    Range {
        over: Pipeline,
        first: Option<Vec<Node>>,
    },
}

/// Reads a file; its definitions go to `definitions`.
pub(super) fn parse(
    file: &str,
    text: &str,
    definitions: &mut BTreeMap<String, Vec<Node>>,
) -> Result<Vec<Node>, TemplateError> {
    let start = Place {
        file: file.to_owned(),
        line: 1,
    };
    let mut stack = vec![Open::new(Kind::File, start)];
    for piece in pieces(file, text)? {
        match piece {
            Piece::Text(text) => push(&mut stack, Node::Text(text)),
            Piece::Action(action, place) => act(&mut stack, &action, place, definitions)?,
        }
    }
    match stack.pop() {
        Some(Open {
            kind: Kind::File, body, ..
        }) => Ok(body),
        Some(open) => Err(open.place.error(format!("{} has no end", open.kind.name()))),
        None => Ok(Vec::new()),
    }
}

fn act(
    stack: &mut Vec<Open>,
    action: &str,
    place: Place,
    definitions: &mut BTreeMap<String, Vec<Node>>,
) -> Result<(), TemplateError> {
    let (word, rest) = action.split_once(char::is_whitespace).unwrap_or((action, ""));
    match word {
        "if" => {
            let kind = Kind::If {
                condition: Some(pipeline(rest, &place)?),
                branches: Vec::new(),
            };
            stack.push(Open::new(kind, place));
        }
        "with" => {
            let over = pipeline(rest, &place)?;
            stack.push(Open::new(Kind::With { over, first: None }, place));
        }
        "range" => {
            let over = pipeline(rest, &place)?;
            stack.push(Open::new(Kind::Range { over, first: None }, place));
        }
        "define" => {
            let terms = terms(rest, &place)?;
            let [Term::Literal(Value::String(name))] = terms.as_slice() else {
                return Err(place.error("define takes one name in quotes"));
            };
            stack.push(Open::new(Kind::Define(name.clone()), place));
        }
        "else" => otherwise(stack, rest.trim(), &place)?,
        "end" => {
            let done = stack.pop().filter(|_| !stack.is_empty());
            let open = done.ok_or_else(|| place.error("end belongs to nothing"))?;
            if let Some(node) = open.close(definitions) {
                push(stack, node);
            }
        }
        _ => push(stack, Node::Print(pipeline(action, &place)?)),
    }
    Ok(())
}

fn otherwise(stack: &mut [Open], rest: &str, place: &Place) -> Result<(), TemplateError> {
    let lost = || place.error("else belongs to nothing");
    let open = stack.last_mut().ok_or_else(lost)?;
    let body = std::mem::take(&mut open.body);
    match &mut open.kind {
        Kind::If { condition, branches } => {
            branches.push((condition.take().ok_or_else(lost)?, body));
            if let Some(next) = rest.strip_prefix("if ") {
                *condition = Some(pipeline(next, place)?);
            }
        }
        Kind::With { first, .. } | Kind::Range { first, .. } if first.is_none() && rest.is_empty() => {
            *first = Some(body);
        }
        _ => return Err(lost()),
    }
    Ok(())
}

fn push(stack: &mut [Open], node: Node) {
    if let Some(open) = stack.last_mut() {
        open.body.push(node);
    }
}

impl Open {
    fn new(kind: Kind, place: Place) -> Self {
        Self {
            kind,
            place,
            body: Vec::new(),
        }
    }

    /// The node it became; none for a definition.
    fn close(self, definitions: &mut BTreeMap<String, Vec<Node>>) -> Option<Node> {
        let last = self.body;
        match self.kind {
            Kind::File => None,
            Kind::Define(name) => {
                definitions.insert(name, last);
                None
            }
            Kind::If {
                condition: Some(condition),
                mut branches,
            } => {
                branches.push((condition, last));
                Some(Node::If(branches, Vec::new()))
            }
            Kind::If { branches, .. } => Some(Node::If(branches, last)),
            Kind::With { over, first } => Some(match first {
                Some(first) => Node::With(over, first, last),
                None => Node::With(over, last, Vec::new()),
            }),
            Kind::Range { over, first } => Some(match first {
                Some(first) => Node::Range(over, first, last),
                None => Node::Range(over, last, Vec::new()),
            }),
        }
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::File => "the file",
            Self::Define(_) => "define",
            Self::If { .. } => "if",
            Self::With { .. } => "with",
            Self::Range { .. } => "range",
        }
    }
}

/// Cuts a file at its braces; `{{-` and `-}}` take the white space beside them.
fn pieces(file: &str, text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    while let Some(at) = rest.find("{{") {
        let before = &rest[..at];
        let place = Place {
            file: file.to_owned(),
            line: 1 + text[..text.len() - rest.len() + at].matches('\n').count(),
        };
        let inside = &rest[at + 2..];
        let end = inside.find("}}").ok_or_else(|| place.error("{{ has no }}"))?;
        let (action, trims_before, trims_after) = bare(&inside[..end]);
        let before = if trim { before.trim_start() } else { before };
        let before = if trims_before { before.trim_end() } else { before };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.to_owned()));
        }
        if !(action.starts_with("/*") && action.ends_with("*/")) {
            pieces.push(Piece::Action(action.to_owned(), place));
        }
        trim = trims_after;
        rest = &inside[end + 2..];
    }
    let last = if trim { rest.trim_start() } else { rest };
    if !last.is_empty() {
        pieces.push(Piece::Text(last.to_owned()));
    }
    Ok(pieces)
}

/// An action without its trim markers, and whether it had them.
fn bare(inside: &str) -> (&str, bool, bool) {
    let marked = |rest: &str| rest.starts_with(char::is_whitespace);
    let (inside, before) = match inside.strip_prefix('-') {
        Some(rest) if marked(rest) => (rest, true),
        _ => (inside, false),
    };
    let (inside, after) = match inside.strip_suffix('-') {
        Some(rest) if rest.ends_with(char::is_whitespace) => (rest, true),
        _ => (inside, false),
    };
    (inside.trim(), before, after)
}

fn pipeline(text: &str, place: &Place) -> Result<Pipeline, TemplateError> {
    let mut words = words(text, place)?.into_iter().peekable();
    let parsed = commands(&mut words, place)?;
    if words.next().is_some() {
        return Err(place.error("a parenthesis is closed that was not opened"));
    }
    Ok(parsed)
}

fn terms(text: &str, place: &Place) -> Result<Vec<Term>, TemplateError> {
    Ok(pipeline(text, place)?.commands.into_iter().flatten().collect())
}

type Words = std::iter::Peekable<std::vec::IntoIter<String>>;

/// Commands up to the end, or to the parenthesis that closes them, which stays.
fn commands(words: &mut Words, place: &Place) -> Result<Pipeline, TemplateError> {
    let mut commands = vec![Vec::new()];
    while let Some(word) = words.next_if(|word| word != ")") {
        if word == "|" {
            commands.push(Vec::new());
        } else {
            let term = term(word, words, place)?;
            if let Some(command) = commands.last_mut() {
                command.push(term);
            }
        }
    }
    if commands.iter().any(Vec::is_empty) {
        return Err(place.error("nothing stands where a value or function should"));
    }
    Ok(Pipeline {
        place: place.clone(),
        commands,
    })
}

fn term(word: String, words: &mut Words, place: &Place) -> Result<Term, TemplateError> {
    if word == "(" {
        let nested = commands(words, place)?;
        words.next().ok_or_else(|| place.error("a parenthesis is not closed"))?;
        return Ok(Term::Nested(nested));
    }
    if word.starts_with('"') {
        let text = serde_json::from_str(&word).map_err(|error| place.error(format!("{word}: {error}")))?;
        return Ok(Term::Literal(text));
    }
    if word == "true" || word == "false" {
        return Ok(Term::Literal(Value::Bool(word == "true")));
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Term::Literal(number.into()));
    }
    let fields = |path: &str| path.split('.').filter(|it| !it.is_empty()).map(str::to_owned).collect();
    if let Some(path) = word.strip_prefix('$') {
        if !path.is_empty() && !path.starts_with('.') {
            return Err(place.error("variables are not of the part of the template language that weft reads"));
        }
        return Ok(Term::Path {
            from_root: true,
            fields: fields(path),
        });
    }
    if word.starts_with('.') {
        return Ok(Term::Path {
            from_root: false,
            fields: fields(&word),
        });
    }
    Ok(Term::Word(word))
}

/// Cuts an action into words; text in quotes keeps its quotes.
fn words(text: &str, place: &Place) -> Result<Vec<String>, TemplateError> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '|' | '(' | ')' => 1,
            '"' => quoted(rest).ok_or_else(|| place.error("a text has no end"))?,
            _ => rest
                .find(|c: char| c.is_whitespace() || "|()\"".contains(c))
                .unwrap_or(rest.len()),
        };
        words.push(rest[..length].to_owned());
        rest = rest[length..].trim_start();
    }
    Ok(words)
}

/// Length of the quoted text that stands first.
fn quoted(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(at + 1),
            _ => {}
        }
    }
    None
}
