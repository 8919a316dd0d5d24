//! The schema of a CustomResourceDefinition, applied to a value: unknown fields, defaults, validation, rules.

use std::collections::BTreeMap;

use crds::rule::{self, Rule};
use regex::Regex;
use serde_json::{Map, Value};

use super::shown;
use crate::config::{document::push_key, objects::FieldError};

/// Fields every object has at its top.
pub(super) const ALWAYS: [&str; 3] = ["apiVersion", "kind", "metadata"];
/// Most faults, and most unknown fields, told of one object.
const MOST: usize = 32;

/// Every keyword that is understood. A schema that uses another is a defect of ours, and a test finds it.
const KEYWORDS: [&str; 21] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "items",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "nullable",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// A schema, ready to be applied.
#[derive(Debug)]
pub(super) struct Schema {
    expected: Expected,
    default: Option<Value>,
    allowed: Vec<Value>,
    pattern: Option<Regex>,
    /// Of characters, items, fields, or the number itself: whatever the type counts.
    smallest: Option<f64>,
    largest: Option<f64>,
    items: Option<Box<Self>>,
    fields: BTreeMap<String, Self>,
    required: Vec<String>,
    others: Others,
    rules: Vec<&'static Rule>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Object,
    Array,
    String,
    Boolean,
    Integer,
    Number,
}

/// Fields that a schema does not name.
#[derive(Debug)]
enum Others {
    /// Dropped, and told.
    Pruned,
    /// Kept, and told.
    Kept,
    /// A map: each is like this.
    Like(Box<Schema>),
}

/// What has been found in one object.
#[derive(Debug)]
struct Findings<'a> {
    faults: &'a mut Vec<FieldError>,
    unknown: &'a mut Vec<FieldError>,
}

impl Schema {
    /// Reads an `openAPIV3Schema`.
    ///
    /// # Errors
    /// The keyword or rule that is not understood.
    pub(super) fn compile(schema: &Value) -> Result<Self, String> {
        let keywords = schema.as_object().ok_or("a schema is not an object")?;
        if let Some(unknown) = keywords.keys().find(|keyword| !KEYWORDS.contains(&keyword.as_str())) {
            return Err(format!("a schema uses {unknown}, which admission does not understand"));
        }
        let expected = Expected::compile(schema)?;
        let child = |schema: &Value| Self::compile(schema).map(Box::new);
        let fields = schema["properties"].as_object().into_iter().flatten();
        let (smallest, largest) = expected.limits(schema);
        let pattern = schema["pattern"].as_str().map(Regex::new).transpose();
        let texts = |list: &Value| {
            list.as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect()
        };
        Ok(Self {
            expected,
            default: schema.get("default").cloned(),
            allowed: schema["enum"].as_array().cloned().unwrap_or_default(),
            pattern: pattern.map_err(|error| error.to_string())?,
            smallest,
            largest,
            items: schema.get("items").map(child).transpose()?,
            fields: fields
                .map(|(name, schema)| Ok((name.clone(), Self::compile(schema)?)))
                .collect::<Result<_, String>>()?,
            required: texts(&schema["required"]),
            others: match schema.get("additionalProperties") {
                Some(each) => Others::Like(child(each)?),
                None if schema["x-kubernetes-preserve-unknown-fields"] == true => Others::Kept,
                None => Others::Pruned,
            },
            rules: rules(&schema["x-kubernetes-validations"])?,
        })
    }

    /// Prunes, defaults and validates an object; what was found is appended.
    pub(super) fn admit(&self, object: &mut Value, faults: &mut Vec<FieldError>, unknown: &mut Vec<FieldError>) {
        let mut findings = Findings { faults, unknown };
        self.apply(object, &mut String::new(), &mut findings);
    }

    /// Recursion is bounded by the schema's own depth.
    fn apply(&self, value: &mut Value, path: &mut String, findings: &mut Findings<'_>) {
        if !self.expected.is(value) {
            return findings.fault(path, self.expected.wrong(value), self.expected.remedy());
        }
        let before = findings.faults.len();
        match value {
            Value::Object(fields) => self.apply_fields(fields, path, findings),
            Value::Array(items) => {
                let length = path.len();
                for (index, item) in items.iter_mut().enumerate() {
                    path.push_str(&format!("[{index}]"));
                    if let Some(schema) = &self.items {
                        schema.apply(item, path, findings);
                    }
                    path.truncate(length);
                }
            }
            _ => {}
        }
        self.validate(value, path, findings);
        // As an API server: rules judge only what is valid by itself.
        if findings.faults.len() == before {
            for rule in self.rules.iter().filter(|rule| !(rule.holds)(value)) {
                findings.fault(path, format!("breaks a rule: {}.", rule.message), "Correct it.");
            }
        }
    }

    fn apply_fields(&self, fields: &mut Map<String, Value>, path: &mut String, findings: &mut Findings<'_>) {
        let top = path.is_empty();
        let length = path.len();
        fields.retain(|name, value| {
            if top && ALWAYS.contains(&name.as_str()) {
                return true;
            }
            push_key(path, name);
            let schema = match (&self.others, self.fields.get(name)) {
                (_, Some(schema)) => Some(schema),
                (Others::Like(schema), None) => Some(&**schema),
                _ => None,
            };
            match schema {
                Some(_) if value.is_null() => findings.fault(
                    path,
                    "is there, but empty.".into(),
                    "Write what it should hold, or remove it.",
                ),
                Some(schema) => schema.apply(value, path, findings),
                None => findings.unknown(path, name, self.fields.keys()),
            }
            path.truncate(length);
            schema.is_some() || matches!(self.others, Others::Kept)
        });
        for (name, schema) in &self.fields {
            if let Some(default) = schema.default.as_ref().filter(|_| !fields.contains_key(name)) {
                fields.insert(name.clone(), default.clone());
            }
        }
        for name in self.required.iter().filter(|name| !fields.contains_key(*name)) {
            push_key(path, name);
            findings.fault(path, "is missing.".into(), "Write it.");
            path.truncate(length);
        }
    }

    fn validate(&self, value: &Value, path: &str, findings: &mut Findings<'_>) {
        let (count, counted) = count(value);
        if let Some(smallest) = self.smallest.filter(|smallest| count < *smallest) {
            let what = match (smallest, counted) {
                (_, "") => format!("is less than {smallest}."),
                (1.0, "characters") => "is empty.".into(),
                (1.0, _) => "is there, but holds nothing.".into(),
                _ => format!("has {count} {counted}, less than {smallest}."),
            };
            findings.fault(path, what, "Write what it should hold, or remove it.");
        }
        if let Some(largest) = self.largest.filter(|largest| count > *largest) {
            let what = match counted {
                "" => format!("is more than {largest}."),
                _ => format!("has {count} {counted}, more than {largest}."),
            };
            findings.fault(path, what, "Write less.");
        }
        if !self.allowed.is_empty() && !self.allowed.contains(value) {
            let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let allowed: Vec<String> = self.allowed.iter().map(text).collect();
            let what = format!("{} is none of {}.", shown(&text(value)), allowed.join(", "));
            findings.fault(path, what, "Write one of these.");
        }
        if let (Some(pattern), Some(text)) = (&self.pattern, value.as_str())
            && !pattern.is_match(text)
        {
            let what = format!("{} does not match {pattern}.", shown(text));
            findings.fault(path, what, "Correct it.");
        }
    }
}

impl Expected {
    fn compile(schema: &Value) -> Result<Self, String> {
        match schema["type"].as_str() {
            Some("object") => Ok(Self::Object),
            Some("array") => Ok(Self::Array),
            Some("string") => Ok(Self::String),
            Some("boolean") => Ok(Self::Boolean),
            Some("integer") => Ok(Self::Integer),
            Some("number") => Ok(Self::Number),
            other => Err(format!(
                "a schema has the type {other:?}, which admission does not understand"
            )),
        }
    }

    /// The keywords that limit a value of this type.
    fn limits(self, schema: &Value) -> (Option<f64>, Option<f64>) {
        let (smallest, largest) = match self {
            Self::Object => ("minProperties", "maxProperties"),
            Self::Array => ("minItems", "maxItems"),
            Self::String => ("minLength", "maxLength"),
            Self::Boolean | Self::Integer | Self::Number => ("minimum", "maximum"),
        };
        (schema[smallest].as_f64(), schema[largest].as_f64())
    }

    fn is(self, value: &Value) -> bool {
        match self {
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => value.is_i64() || value.is_u64(),
            Self::Number => value.is_number(),
        }
    }

    fn wrong(self, value: &Value) -> String {
        let name = |expected: Self| match expected {
            Self::Object => "an object",
            Self::Array => "a list",
            Self::String => "a string",
            Self::Boolean => "a boolean",
            Self::Integer => "an integer",
            Self::Number => "a number",
        };
        let found = match value {
            Value::Null => "empty",
            Value::Bool(_) => name(Self::Boolean),
            Value::Number(_) => name(Self::Number),
            Value::String(_) => name(Self::String),
            Value::Array(_) => name(Self::Array),
            Value::Object(_) => name(Self::Object),
        };
        format!("is {found}, not {}.", name(self))
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Object => "Write its fields below it, indented.",
            Self::Array => "Write a list: one `- ` an item.",
            Self::String => "Quote it.",
            Self::Boolean => "Write true or false.",
            Self::Integer | Self::Number => "Write a number, without quotes.",
        }
    }
}

impl Findings<'_> {
    fn fault(&mut self, path: &str, what: String, remedy: &str) {
        if self.faults.len() < MOST {
            self.faults.push(FieldError::new(path, what, remedy));
        }
    }

    fn unknown<'a>(&mut self, path: &str, name: &str, known: impl Iterator<Item = &'a String>) {
        if self.unknown.len() < MOST {
            self.unknown.push(unknown_field(path, name, known.map(String::as_str)));
        }
    }
}

/// Drops the fields of an object that are not known, and tells them.
pub(super) fn prune(value: &mut Value, path: &str, unknown: &mut Vec<FieldError>, known: impl Fn(&str) -> bool) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    fields.retain(|name, _| {
        if known(name) {
            return true;
        }
        if unknown.len() < MOST {
            let mut field = path.to_owned();
            push_key(&mut field, name);
            unknown.push(unknown_field(&field, name, std::iter::empty()));
        }
        false
    });
}

/// Whether a field is absent or empty.
pub(super) fn null_or_absent(object: &Value, field: &str) -> bool {
    object.get(field).is_none_or(Value::is_null)
}

fn unknown_field<'a>(path: &str, name: &str, known: impl Iterator<Item = &'a str>) -> FieldError {
    let remedy = match known.into_iter().find(|known| is_near(known, name)) {
        Some(known) => format!("Did you mean {known}?"),
        None => "Remove it, or write the field you mean.".into(),
    };
    FieldError::new(path, "is not a field that is known here.", remedy)
}

/// Whether one is the other with at most two letters added, left out or changed, or two swapped.
fn is_near(known: &str, written: &str) -> bool {
    let (known, written): (Vec<char>, Vec<char>) = (
        known.to_lowercase().chars().collect(),
        written.to_lowercase().chars().take(64).collect(),
    );
    let mut row: Vec<usize> = (0..=known.len()).collect();
    for (above, found) in written.iter().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        let mut next = vec![left];
        for (wanted, up) in known.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(wanted != found)).min(up + 1).min(left + 1);
            diagonal = *up;
            next.push(left);
        }
        row = next;
    }
    row.last()
        .is_some_and(|distance| *distance <= 2 && *distance < known.len())
}

/// What limits count in a value, and the word for it.
#[allow(clippy::cast_precision_loss, reason = "lengths are far below 2^52")]
fn count(value: &Value) -> (f64, &'static str) {
    match value {
        Value::String(text) => (text.chars().count() as f64, "characters"),
        Value::Array(items) => (items.len() as f64, "items"),
        Value::Object(fields) => (fields.len() as f64, "fields"),
        other => (other.as_f64().unwrap_or_default(), ""),
    }
}

fn rules(validations: &Value) -> Result<Vec<&'static Rule>, String> {
    let twin = |validation: &Value| {
        let cel = validation["rule"].as_str().unwrap_or_default();
        let found = rule::ALL.into_iter().find(|rule| rule.cel == cel);
        found.ok_or_else(|| format!("a schema has the rule {cel}, which admission does not know"))
    };
    validations.as_array().into_iter().flatten().map(twin).collect()
}
