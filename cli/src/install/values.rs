//! The values a person gives: files and `--set a.b=c`, laid over the chart's own.

use std::{fs, path::PathBuf};

use serde_json::{Map, Value, json};

/// How the chart is filled.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct ValueOptions {
    /// Set a value of the chart; several are separated by commas, a list stands in braces; `weft install
    /// --show-values` lists them all
    #[arg(long = "set", value_name = "A.B=VALUE")]
    pub(crate) set: Vec<String>,
    /// YAML file with values of the chart; later files win, --set wins over all
    #[arg(short = 'f', long = "values", value_name = "FILE")]
    pub(crate) values: Vec<PathBuf>,
    /// What this command lays over the chart's own values, before anybody's.
    #[arg(skip)]
    pub(crate) beneath: Value,
    /// Values given before, at an installation that is upgraded.
    #[arg(skip)]
    pub(crate) before: Value,
}

impl ValueOptions {
    /// The chart's own values with those given laid over them.
    ///
    /// # Errors
    /// When a file cannot be read, or an assignment is none.
    pub(crate) fn over(&self, mut values: Value) -> Result<Value, String> {
        if !self.beneath.is_null() {
            lay(&mut values, self.beneath.clone());
        }
        lay(&mut values, self.given()?);
        Ok(values)
    }

    /// The values given, now and before, without the chart's own.
    ///
    /// # Errors
    /// When a file cannot be read, or an assignment is none.
    pub(crate) fn given(&self) -> Result<Value, String> {
        let mut values = json!({});
        if !self.before.is_null() {
            lay(&mut values, self.before.clone());
        }
        for file in &self.values {
            let unread = |error: &dyn std::fmt::Display| format!("--values {}: {error}", file.display());
            let text = fs::read_to_string(file).map_err(|error| unread(&error))?;
            let given: Value = serde_yaml::from_str(&text).map_err(|error| unread(&error))?;
            match given {
                Value::Null => {}
                Value::Object(_) => lay(&mut values, given),
                _ => return Err(unread(&"it is no map of values")),
            }
        }
        for text in &self.set {
            for assignment in split(text, ',') {
                lay(
                    &mut values,
                    assigned(&assignment).map_err(|why| format!("--set {assignment}: {why}"))?,
                );
            }
        }
        Ok(values)
    }
}

/// Lays one value over another: maps are merged, anything else is replaced.
fn lay(under: &mut Value, over: Value) {
    match (under, over) {
        (Value::Object(under), Value::Object(over)) => {
            for (key, value) in over {
                lay(under.entry(key).or_insert(Value::Null), value);
            }
        }
        (under, over) => *under = over,
    }
}

/// `a.b=c` as `{a: {b: c}}`.
fn assigned(text: &str) -> Result<Value, String> {
    let (path, value) = text.split_once('=').ok_or("it is not of the form a.b=value")?;
    let mut found = scalar_or_list(value);
    let names = split(path, '.');
    if names.iter().any(|name| name.trim().is_empty()) {
        return Err("a name before the = is empty".into());
    }
    if path.contains('[') {
        return Err("single items of a list cannot be set: give the whole list, as in a={x,y}".into());
    }
    for name in names.into_iter().rev() {
        found = Value::Object(Map::from_iter([(name.replace('\\', ""), found)]));
    }
    Ok(found)
}

fn scalar_or_list(text: &str) -> Value {
    match text.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
        Some("") => Value::Array(Vec::new()),
        Some(inside) => split(inside, ',').iter().map(|item| scalar(item)).collect(),
        None => scalar(text),
    }
}

/// A number or truth value where it is written as one, else text.
fn scalar(text: &str) -> Value {
    match text {
        "true" => Value::Bool(true),
        "false" => Value::Bool(false),
        "null" => Value::Null,
        _ => match text.parse::<i64>() {
            // Helm leaves `007` the text it is.
            Ok(number) if number.to_string() == text => number.into(),
            _ => Value::String(text.replace('\\', "")),
        },
    }
}

/// Cuts at a separator, but not inside braces and not after a backslash.
fn split(text: &str, separator: char) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut depth, mut escaped) = (0_usize, false);
    for c in text.chars() {
        match c {
            '{' if !escaped => depth += 1,
            '}' if !escaped => depth = depth.saturating_sub(1),
            _ => {}
        }
        if c == separator && depth == 0 && !escaped {
            parts.push(String::new());
        } else if let Some(last) = parts.last_mut() {
            last.push(c);
        }
        escaped = c == '\\' && !escaped;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(texts: &[&str]) -> Result<Value, String> {
        let options = ValueOptions {
            set: texts.iter().map(|it| (*it).to_owned()).collect(),
            ..ValueOptions::default()
        };
        options.over(json!({"ca": {"replicas": 2, "life": "24h"}, "list": ["a"]}))
    }

    #[test]
    fn what_is_set_is_laid_over_what_was_there() {
        for (texts, wanted) in [
            (
                &["ca.replicas=3"][..],
                json!({"ca": {"replicas": 3, "life": "24h"}, "list": ["a"]}),
            ),
            (
                &["list={x,2}"],
                json!({"ca": {"replicas": 2, "life": "24h"}, "list": ["x", 2]}),
            ),
            (
                &["list={},ca.life=1h"],
                json!({"ca": {"replicas": 2, "life": "1h"}, "list": []}),
            ),
            (
                &["a.b\\.c=true"],
                json!({"a": {"b.c": true}, "ca": {"replicas": 2, "life": "24h"}, "list": ["a"]}),
            ),
            (&["ca=1", "ca=x=y"], json!({"ca": "x=y", "list": ["a"]})),
        ] {
            assert_eq!(set(texts), Ok(wanted), "{texts:?}");
        }
    }

    #[test]
    fn what_is_no_assignment_is_refused() {
        for text in ["ca", "=1", "a..b=1", "a[0]=1"] {
            assert!(set(&[text]).unwrap_err().starts_with("--set "), "{text}");
        }
    }
}
