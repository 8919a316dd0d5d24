//! For an API server: a ValidatingAdmissionPolicy a kind that refuses fields nobody knows, and fields left empty.
//!
//! In: the schemas of our kinds, which keep what they do not know. Out: one policy and its binding a kind, that
//! walk every object of the schema, name the field at fault, and what was perhaps meant.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Value, json};

/// A step from an object of the schema to the next below it.
#[derive(Debug, Clone)]
enum Step {
    /// A field that is an object.
    Field(String),
    /// The objects of a list.
    Items(String),
    /// The objects of a map.
    Values(String),
}

/// One object of a schema.
#[derive(Debug, Clone)]
struct Level {
    /// From `spec`.
    path: Vec<Step>,
    known: Vec<String>,
}

/// The policy and its binding for each kind, as Kubernetes objects.
pub fn policies() -> Vec<[Value; 2]> {
    crate::all().iter().map(of_kind).collect()
}

/// What they are called: `authorizationpolicies.weft.dev`.
fn of_kind(crd: &CustomResourceDefinition) -> [Value; 2] {
    let plural = &crd.spec.names.plural;
    let name = format!("{plural}.{}", crd.spec.group);
    let schema = crd.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap_or_default();
    let mut levels = Vec::new();
    descend(
        &schema["openAPIV3Schema"]["properties"]["spec"],
        Vec::new(),
        &mut levels,
    );
    let mut variables = vec![json!({"name": "spec", "expression": "dyn(object.spec)"})];
    variables.extend(levels.iter().flat_map(Level::variables));
    let validations: Vec<Value> = levels.iter().map(Level::validation).collect();
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": [{
                "apiGroups": [crd.spec.group],
                "apiVersions": ["*"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [plural],
            }]},
            "variables": variables,
            "validations": validations,
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    });
    [policy, binding]
}

/// Every object of a schema that names its fields.
fn descend(schema: &Value, path: Vec<Step>, levels: &mut Vec<Level>) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    levels.push(Level {
        path: path.clone(),
        known: fields.keys().cloned().collect(),
    });
    for (name, field) in fields {
        let below = [
            (field, Step::Field(name.clone())),
            (&field["items"], Step::Items(name.clone())),
            (&field["additionalProperties"], Step::Values(name.clone())),
        ];
        for (schema, step) in below {
            let mut path = path.clone();
            path.push(step);
            descend(schema, path, levels);
        }
    }
}

impl Level {
    /// The first field at fault of this level, in a list that is else empty; and what was meant by it.
    fn variables(&self) -> [Value; 2] {
        let (wrong, meant) = self.names();
        let fine = self.fine("variables.spec", &self.path);
        let first = self.first("variables.spec", &self.path);
        let found = format!("{fine} ? [] : [{first}]");
        let near = format!(
            "variables.{wrong}.size() == 0 ? [] : {}.filter(name, name.startsWith(variables.{wrong}[0]) || \
             variables.{wrong}[0].startsWith(name) || \
             sets.equivalent(name.lowerAscii().split(''), variables.{wrong}[0].lowerAscii().split('')))",
            self.list()
        );
        [
            json!({"name": wrong, "expression": found}),
            json!({"name": meant, "expression": near}),
        ]
    }

    fn validation(&self) -> Value {
        let (wrong, meant) = self.names();
        let at = self.shown();
        let known = self.known.join(", ");
        let message = format!(
            "'{at}.' + variables.{wrong}[0] + (variables.{wrong}[0] in {} ? \
             ' is there, but empty: write what it should hold, or remove it' : \
             ' is no field the mesh knows' + (variables.{meant}.size() > 0 ? \
             ': did you mean ' + variables.{meant}[0] + '?' : '; it knows {known}'))",
            self.list()
        );
        json!({
            "expression": format!("variables.{wrong}.size() == 0"),
            "message": format!("a field of {at} is unknown or empty; it knows {known}"),
            "messageExpression": message,
            "reason": "Invalid",
        })
    }

    /// Whether every field of every object of this level is known and holds something, beginning `at` an object.
    fn fine(&self, at: &str, path: &[Step]) -> String {
        let Some((step, below)) = path.split_first() else {
            return format!("{at}.all(field, field in {} && {at}[field] != null)", self.list());
        };
        let name = step.name();
        let each = variable(below);
        let rest = match step {
            Step::Field(_) => self.fine(&format!("{at}.{name}"), below),
            Step::Items(_) => format!("{at}.{name}.all({each}, {})", self.fine(&each, below)),
            Step::Values(_) => {
                let value = format!("{at}.{name}[{each}]");
                format!("{at}.{name}.all({each}, {})", self.fine(&value, below))
            }
        };
        format!("(!has({at}.{name}) || {at}.{name} == null || {rest})")
    }

    /// The first field for which [`Self::fine`] does not hold.
    fn first(&self, at: &str, path: &[Step]) -> String {
        let Some((step, below)) = path.split_first() else {
            return format!(
                "{at}.filter(field, !(field in {}) || {at}[field] == null)[0]",
                self.list()
            );
        };
        let name = step.name();
        let each = variable(below);
        let next = match step {
            Step::Field(_) => format!("{at}.{name}"),
            Step::Items(_) => format!("{at}.{name}.filter({each}, !{})[0]", self.fine(&each, below)),
            Step::Values(_) => {
                let value = format!("{at}.{name}[{each}]");
                format!(
                    "{at}.{name}[{at}.{name}.filter({each}, !{})[0]]",
                    self.fine(&value, below)
                )
            }
        };
        self.first(&next, below)
    }

    /// Names of the two variables.
    fn names(&self) -> (String, String) {
        let path: Vec<&str> = self.path.iter().map(Step::name).collect();
        let path = path.join("_");
        let below = if path.is_empty() { "spec".into() } else { path };
        (format!("wrong_in_{below}"), format!("meant_in_{below}"))
    }

    /// As a person reads it: `spec.rules[].from[].source`.
    fn shown(&self) -> String {
        let mut shown = "spec".to_owned();
        for step in &self.path {
            shown.push('.');
            shown.push_str(step.name());
            shown.push_str(match step {
                Step::Field(_) => "",
                Step::Items(_) => "[]",
                Step::Values(_) => ".*",
            });
        }
        shown
    }

    /// The known fields, as CEL.
    fn list(&self) -> String {
        let quoted: Vec<String> = self.known.iter().map(|name| format!("'{name}'")).collect();
        format!("[{}]", quoted.join(", "))
    }
}

impl Step {
    fn name(&self) -> &str {
        match self {
            Self::Field(name) | Self::Items(name) | Self::Values(name) => name,
        }
    }
}

/// A name for each level of nesting.
fn variable(below: &[Step]) -> String {
    format!("each{}", below.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(kind: &str) -> Vec<String> {
        let all = crate::all();
        let crd = all.iter().find(|crd| crd.spec.names.kind == kind).expect("a kind");
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("plain data");
        let mut levels = Vec::new();
        descend(
            &schema["openAPIV3Schema"]["properties"]["spec"],
            Vec::new(),
            &mut levels,
        );
        levels.iter().map(Level::shown).collect()
    }

    #[test]
    fn every_object_of_a_schema_is_looked_at() {
        assert_eq!(
            paths("AuthorizationPolicy"),
            [
                "spec",
                "spec.provider",
                "spec.rules[]",
                "spec.rules[].from[]",
                "spec.rules[].from[].source",
                "spec.rules[].to[]",
                "spec.rules[].to[].operation",
                "spec.rules[].when[]",
                "spec.selector",
                "spec.targetRefs[]",
            ]
        );
        assert_eq!(
            paths("PeerAuthentication"),
            ["spec", "spec.mtls", "spec.portLevelMtls.*", "spec.selector"]
        );
    }

    #[test]
    fn the_walk_to_a_level_takes_absent_fields_for_nothing_to_complain_of() {
        let level = Level {
            path: vec![Step::Items("rules".into())],
            known: vec!["from".into(), "to".into()],
        };
        assert_eq!(
            level.fine("s", &level.path),
            "(!has(s.rules) || s.rules == null || \
             s.rules.all(each0, each0.all(field, field in ['from', 'to'] && each0[field] != null)))"
        );
    }
}
