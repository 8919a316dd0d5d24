//! Nodes and values into text.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Node, Pipeline, Place, TemplateError, Term};

/// How deep definitions may include one another.
const DEPTH: usize = 16;

type Definitions = BTreeMap<String, Vec<Node>>;

/// What `.` and `$` mean at one place.
#[derive(Clone, Copy)]
struct Scope<'a> {
    root: &'a Value,
    here: &'a Value,
    definitions: &'a Definitions,
    depth: usize,
}

/// Fills a file.
pub(super) fn render(nodes: &[Node], values: &Value, definitions: &Definitions) -> Result<String, TemplateError> {
    let scope = Scope {
        root: values,
        here: values,
        definitions,
        depth: 0,
    };
    scope.nodes(nodes)
}

impl<'a> Scope<'a> {
    fn nodes(self, nodes: &[Node]) -> Result<String, TemplateError> {
        let mut text = String::new();
        for node in nodes {
            text.push_str(&self.node(node)?);
        }
        Ok(text)
    }

    fn node(self, node: &Node) -> Result<String, TemplateError> {
        match node {
            Node::Text(text) => Ok(text.clone()),
            Node::Print(pipeline) => printed(&self.pipeline(pipeline)?, &pipeline.place),
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    if holds(&self.pipeline(condition)?) {
                        return self.nodes(body);
                    }
                }
                self.nodes(otherwise)
            }
            Node::With(over, body, otherwise) => {
                let value = self.pipeline(over)?;
                if holds(&value) {
                    self.at(&value).nodes(body)
                } else {
                    self.nodes(otherwise)
                }
            }
            Node::Range(over, body, otherwise) => match self.pipeline(over)? {
                Value::Array(all) if !all.is_empty() => all.iter().map(|each| self.at(each).nodes(body)).collect(),
                Value::Array(_) => self.nodes(otherwise),
                _ => Err(over.place.error("range wants a list")),
            },
        }
    }

    fn at<'b>(self, here: &'b Value) -> Scope<'b>
    where
        'a: 'b,
    {
        Scope {
            root: self.root,
            here,
            definitions: self.definitions,
            depth: self.depth,
        }
    }

    fn pipeline(self, pipeline: &Pipeline) -> Result<Value, TemplateError> {
        let mut passed = None;
        for command in &pipeline.commands {
            passed = Some(self.command(command, passed, &pipeline.place)?);
        }
        passed.ok_or_else(|| pipeline.place.error("nothing stands where a value should"))
    }

    fn command(self, terms: &[Term], passed: Option<Value>, place: &Place) -> Result<Value, TemplateError> {
        let (Some(Term::Word(function)), rest) = (terms.first(), terms.get(1..).unwrap_or_default()) else {
            return match (terms, passed) {
                ([one], None) => self.term(one, place),
                _ => Err(place.error("a value takes no arguments")),
            };
        };
        let mut arguments = rest
            .iter()
            .map(|term| self.term(term, place))
            .collect::<Result<Vec<_>, _>>()?;
        arguments.extend(passed);
        if function == "include" {
            return self.include(&arguments, place);
        }
        call(function, &arguments).map_err(|why| place.error(why))
    }

    fn term(self, term: &Term, place: &Place) -> Result<Value, TemplateError> {
        match term {
            Term::Literal(value) => Ok(value.clone()),
            Term::Nested(pipeline) => self.pipeline(pipeline),
            Term::Word(word) => call(word, &[]).map_err(|why| place.error(why)),
            Term::Path { from_root, fields } => {
                let mut found = if *from_root { self.root } else { self.here };
                for field in fields {
                    let missing = || place.error(format!("there is no value {}", fields.join(".")));
                    found = found.get(field).ok_or_else(missing)?;
                }
                Ok(found.clone())
            }
        }
    }

    fn include(self, arguments: &[Value], place: &Place) -> Result<Value, TemplateError> {
        let [Value::String(name), here] = arguments else {
            return Err(place.error("include takes a name and a value"));
        };
        let body = self.definitions.get(name);
        let body = body.ok_or_else(|| place.error(format!("there is no definition {name}")))?;
        if self.depth >= DEPTH {
            return Err(place.error(format!("definitions include one another deeper than {DEPTH}")));
        }
        let inner = Scope {
            depth: self.depth + 1,
            root: here,
            here,
            definitions: self.definitions,
        };
        inner.nodes(body).map(Value::String)
    }
}

fn call(function: &str, arguments: &[Value]) -> Result<Value, String> {
    Ok(match (function, arguments) {
        ("quote", [value]) => Value::String(serde_json::to_string(&plain(value)?).map_err(|error| error.to_string())?),
        ("toYaml", [value]) => {
            let yaml = serde_yaml::to_string(value).map_err(|error| error.to_string())?;
            Value::String(yaml.trim_end().to_owned())
        }
        ("nindent", [Value::Number(by), Value::String(text)]) => Value::String(format!("\n{}", indented(by, text))),
        ("indent", [Value::Number(by), Value::String(text)]) => Value::String(indented(by, text)),
        ("default", [fallback, value]) => if holds(value) { value } else { fallback }.clone(),
        ("not", [value]) => Value::Bool(!holds(value)),
        ("eq", [one, other]) => Value::Bool(one == other),
        ("ne", [one, other]) => Value::Bool(one != other),
        ("int", [Value::Number(number)]) => number.as_i64().ok_or("a number is no integer")?.into(),
        ("gt", [Value::Number(one), Value::Number(other)]) => Value::Bool(one.as_i64() > other.as_i64()),
        ("and", [.., last]) => arguments.iter().find(|it| !holds(it)).unwrap_or(last).clone(),
        ("or", [.., last]) => arguments.iter().find(|it| holds(it)).unwrap_or(last).clone(),
        (
            "quote" | "toYaml" | "nindent" | "indent" | "default" | "not" | "eq" | "ne" | "gt" | "int" | "and" | "or",
            _,
        ) => {
            return Err(format!("{function} does not take these arguments"));
        }
        _ => {
            return Err(format!(
                "function {function} is not of the part of the template language that weft reads"
            ));
        }
    })
}

fn indented(by: &serde_json::Number, text: &str) -> String {
    let blanks = " ".repeat(usize::try_from(by.as_u64().unwrap_or(0)).unwrap_or(0).min(64));
    let lines: Vec<_> = text.split('\n').map(|line| format!("{blanks}{line}")).collect();
    lines.join("\n")
}

/// What the language takes for true: anything but false, zero, null and the empty.
fn holds(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

fn printed(value: &Value, place: &Place) -> Result<String, TemplateError> {
    plain(value).map_err(|why| place.error(why))
}

fn plain(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        Value::Null => Err("a value is null".into()),
        Value::Array(_) | Value::Object(_) => Err("a map or list cannot be printed: use toYaml".into()),
    }
}
