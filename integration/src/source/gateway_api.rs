//! The CustomResourceDefinitions of Gateway API, from its Go module: fetched once into the module cache, never committed.

use std::{fs, path::PathBuf, process::Command};

use act::process::Failure;
use serde::Deserialize;
use serde_json::Value;

/// The release whose standard channel is used.
pub const VERSION: &str = "v1.4.0";
const MODULE: &str = "sigs.k8s.io/gateway-api";
const STANDARD: &str = "config/crd/standard";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Download {
    dir: PathBuf,
}

/// Every definition of the standard channel.
///
/// # Errors
/// When the module cannot be fetched or read.
pub fn definitions() -> Result<Vec<Value>, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure(format!("{MODULE}@{VERSION} cannot be fetched by go: {why}"));
    let fetched = Command::new("go")
        .args(["mod", "download", "-json", &format!("{MODULE}@{VERSION}")])
        .current_dir("/")
        .output()
        .map_err(|error| failed(&error))?;
    if !fetched.status.success() {
        return Err(failed(&String::from_utf8_lossy(&fetched.stdout).trim()));
    }
    let download: Download = serde_json::from_slice(&fetched.stdout).map_err(|error| failed(&error))?;
    let folder = download.dir.join(STANDARD);
    let unread = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be read: {error}", folder.display()));
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(|error| unread(&error))? {
        let path = entry.map_err(|error| unread(&error))?.path();
        let text = fs::read_to_string(&path).map_err(|error| unread(&error))?;
        let value: Value = serde_yaml::from_str(&text).map_err(|error| unread(&error))?;
        if value["kind"] == "CustomResourceDefinition" {
            found.push(value);
        }
    }
    if found.is_empty() {
        return Err(unread(&"it holds no definition"));
    }
    Ok(found)
}
