//! The chart this command carries. Comes in: values. Goes out: the objects of an installation, in the order in which
//! they are applied.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{object::Object, schema, template::Templates, values::ValueOptions};

/// Every file of `manifests/chart`, by its path in it.
const FILES: &[(&str, &str)] = &include!(concat!(env!("OUT_DIR"), "/chart.rs"));

/// What is rendered for whom.
#[derive(Debug, Clone)]
pub(crate) struct Release<'a> {
    /// Namespace of the mesh.
    pub(crate) namespace: &'a str,
    /// Who manages the objects: value of `app.kubernetes.io/managed-by`.
    pub(crate) service: &'a str,
    /// The values given.
    pub(crate) values: &'a ValueOptions,
}

/// The chart's own values with their comments.
///
/// # Errors
/// When the chart holds none.
pub(crate) fn values() -> Result<&'static str, String> {
    file("values.yaml")
}

/// The CustomResourceDefinitions of our kinds.
///
/// # Errors
/// When one is no YAML.
pub(crate) fn definitions() -> Result<Vec<Object>, String> {
    let texts = FILES.iter().filter(|(name, _)| name.starts_with("crds/"));
    let all: Result<Vec<_>, _> = texts.map(|(name, text)| objects(name, text)).collect();
    Ok(all?.into_iter().flatten().collect())
}

/// Every object of the templates, filled, in the order in which they are applied.
///
/// # Errors
/// When the values do not fit the chart's schema, or a template cannot be filled with them.
pub(crate) fn render(release: &Release<'_>) -> Result<Vec<Object>, String> {
    let values = checked(release.values)?;
    let mut templates = Templates::default();
    for (name, text) in FILES.iter().filter(|(name, _)| name.starts_with("templates/")) {
        templates.add(name, text).map_err(|error| error.to_string())?;
    }
    let chart: Value = serde_yaml::from_str(file("Chart.yaml")?).map_err(|error| format!("Chart.yaml: {error}"))?;
    let scope = json!({
        "Values": values,
        "Release": { "Name": "weft", "Namespace": release.namespace, "Service": release.service },
        "Chart": { "Name": chart["name"], "Version": chart["version"], "AppVersion": chart["appVersion"] },
    });
    let mut all = Vec::new();
    for (name, text) in templates.render(&scope).map_err(|error| error.to_string())? {
        all.extend(objects(&name, &text)?);
    }
    all.sort_by_key(Object::order);
    Ok(all)
}

/// The values an installation has, once they fit the schema.
fn checked(given: &ValueOptions) -> Result<Value, String> {
    let own = serde_yaml::from_str(values()?).map_err(|error| format!("values.yaml: {error}"))?;
    let values = given.over(own)?;
    let law =
        serde_json::from_str(file("values.schema.json")?).map_err(|error| format!("values.schema.json: {error}"))?;
    let faults = schema::faults(&law, &values, "");
    if faults.is_empty() {
        Ok(values)
    } else {
        Err(format!(
            "these values do not fit (all are listed by weft install --show-values):\n  {}",
            faults.join("\n  ")
        ))
    }
}

fn file(name: &str) -> Result<&'static str, String> {
    let found = FILES.iter().find(|(path, _)| *path == name);
    found
        .map(|(_, text)| *text)
        .ok_or_else(|| format!("this command was built without the chart's {name}"))
}

fn objects(name: &str, text: &str) -> Result<Vec<Object>, String> {
    let mut all = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = Value::deserialize(document).map_err(|error| format!("{name}: {error}"))?;
        if !value.is_null() {
            all.push(Object::new(value).map_err(|why| format!("{name}: {why}"))?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests;
