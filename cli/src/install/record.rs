//! What an installation remembers of itself: its version and the values given, in the ConfigMap `weft-install`, so
//! that an upgrade keeps them.

use serde_json::{Value, json};

use super::{MANAGER, cluster_api::ClusterApi, object::Object, values::ValueOptions};

const NAME: &str = "weft-install";

/// What is remembered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Record {
    /// Version that installed last.
    pub(crate) version: String,
    /// The values given, without the chart's own.
    pub(crate) values: Value,
}

impl Record {
    /// What is to be remembered of an installation with these values.
    ///
    /// # Errors
    /// When the values cannot be read.
    pub(crate) fn of(values: &ValueOptions) -> Result<Self, String> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            values: values.given()?,
        })
    }

    /// The ConfigMap.
    ///
    /// # Errors
    /// When the values are no YAML.
    pub(crate) fn object(&self, namespace: &str) -> Result<Object, String> {
        let values = serde_yaml::to_string(&self.values).map_err(|error| error.to_string())?;
        let mut object = Object::new(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": { "name": NAME, "namespace": namespace },
            "data": { "version": self.version, "values.yaml": values },
        }))?;
        object.mark(MANAGER);
        Ok(object)
    }
}

/// What the installation in a namespace remembers; none where there is none.
///
/// # Errors
/// When it cannot be read.
pub(crate) async fn read(api: &ClusterApi, namespace: &str) -> Result<Option<Record>, String> {
    let asked = Record {
        version: String::new(),
        values: Value::Null,
    };
    let Some(found) = api.get(&asked.object(namespace)?).await? else {
        return Ok(None);
    };
    let written = found["data"]["values.yaml"].as_str().unwrap_or_default();
    let values = serde_yaml::from_str(written).map_err(|error| {
        format!("ConfigMap {namespace}/{NAME} holds no values ({error}): give them all, with --reset-values")
    })?;
    Ok(Some(Record {
        version: super::text(&found["data"], "version").to_owned(),
        values,
    }))
}
