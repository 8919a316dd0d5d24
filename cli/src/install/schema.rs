//! The part of JSON Schema that `values.schema.json` is written in. Comes in: the schema and values. Goes out: every
//! fault, as one sentence each. An unknown value is a fault: a misspelt one must not be taken for the default.

use regex::Regex;
use serde_json::Value;

/// Keywords that say nothing about a value.
const REMARKS: [&str; 3] = ["$schema", "title", "description"];

/// Every fault of `value`, which is called `path`.
pub(crate) fn faults(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, value, path, &mut found);
    found
}

fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    // Of a value of another type nothing else need be said.
    if let Some(kind) = schema["type"].as_str().filter(|kind| !is_of(value, kind)) {
        found.push(format!("{path} is {value}, which is no {kind}"));
        return;
    }
    for (keyword, law) in schema.as_object().into_iter().flatten() {
        match keyword.as_str() {
            "enum" => {
                if !law.as_array().is_some_and(|all| all.contains(value)) {
                    found.push(format!("{path} is {value}: it must be one of {law}"));
                }
            }
            "pattern" => pattern(law, value, path, found),
            "minimum" => {
                if value.as_i64() < law.as_i64() {
                    found.push(format!("{path} is {value}, less than {law}"));
                }
            }
            "maximum" => {
                if value.as_i64() > law.as_i64() {
                    found.push(format!("{path} is {value}, more than {law}"));
                }
            }
            "items" => {
                for (at, item) in value.as_array().into_iter().flatten().enumerate() {
                    check(law, item, &format!("{path}[{at}]"), found);
                }
            }
            "type" | "properties" | "additionalProperties" => {}
            word if REMARKS.contains(&word) => {}
            word => found.push(format!("{path}: the schema's keyword {word} is not known to weft")),
        }
    }
    fields(schema, value, path, found);
}

fn fields(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let (Some(fields), known) = (value.as_object(), schema["properties"].as_object()) else {
        return;
    };
    for (name, field) in fields {
        let path = if path.is_empty() {
            name.clone()
        } else {
            format!("{path}.{name}")
        };
        match known.and_then(|known| known.get(name)) {
            Some(law) => check(law, field, &path, found),
            None if schema["additionalProperties"] == false => {
                let all: Vec<_> = known.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
                found.push(format!("there is no value {path}; known are: {}", all.join(", ")));
            }
            None => {}
        }
    }
}

fn pattern(law: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let (Some(law), Some(text)) = (law.as_str(), value.as_str()) else {
        return;
    };
    match Regex::new(law) {
        Ok(pattern) if pattern.is_match(text) => {}
        Ok(_) => found.push(format!("{path} is {value}, which does not match {law}")),
        Err(error) => found.push(format!("{path}: the schema's pattern {law} is none: {error}")),
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_that_does_not_fit_is_named_with_its_path() {
        let schema = json!({
            "type": "object", "additionalProperties": false, "description": "x",
            "properties": {
                "ca": {"type": "object", "additionalProperties": false, "properties": {
                    "replicas": {"type": "integer", "minimum": 1, "maximum": 9},
                    "level": {"type": "string", "enum": ["info"]},
                    "life": {"type": "string", "pattern": "^[0-9]+h$"},
                }},
                "list": {"type": "array", "items": {"type": "string"}},
                "free": {"type": "object"},
            },
        });
        for (value, part) in [
            (
                json!({"ca": {"replica": 1}}),
                "there is no value ca.replica; known are: level, life, replicas",
            ),
            (
                json!({"ca": {"replicas": "two"}}),
                "ca.replicas is \"two\", which is no integer",
            ),
            (json!({"ca": {"replicas": 0}}), "less than 1"),
            (json!({"ca": {"replicas": 10}}), "more than 9"),
            (json!({"ca": {"level": "loud"}}), "one of [\"info\"]"),
            (json!({"ca": {"life": "soon"}}), "does not match"),
            (json!({"list": ["a", 1]}), "list[1] is 1"),
            (json!({"ca": null}), "ca is null"),
        ] {
            let found = faults(&schema, &value, "");
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].contains(part), "{found:?}");
        }
        let fine = json!({"ca": {"replicas": 2, "life": "1h"}, "list": [], "free": {"any": "thing"}});
        assert_eq!(faults(&schema, &fine, ""), Vec::<String>::new());
        assert_eq!(faults(&json!({"oneOf": []}), &fine, "").len(), 1);
    }
}
