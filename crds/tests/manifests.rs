//! The committed CustomResourceDefinitions are what the types say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::Value;

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../manifests")
        .join(name)
}

fn file(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

/// Compares a file with what it should hold, or rewrites it.
fn is(path: &Path, wanted: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        fs::write(path, wanted).expect("the manifest can be written");
    }
    let found = fs::read_to_string(path).unwrap_or_default();
    assert!(
        found == wanted,
        "{} differs from the types: run UPDATE=1 cargo test -p crds",
        path.display()
    );
}

#[test]
fn committed_yaml_is_what_the_types_say() {
    for crd in crds::all() {
        let wanted = serde_yaml::to_string(&crd).expect("a CRD is plain data");
        is(&folder("crds").join(file(&crd)), &wanted);
    }
}

#[test]
fn committed_admission_policies_are_what_the_types_say() {
    for (crd, objects) in crds::all().iter().zip(crds::fields::policies()) {
        let texts = objects.map(|object| serde_yaml::to_string(&object).expect("plain data"));
        is(&folder("policies").join(file(crd)), &texts.join("---\n"));
    }
}

#[test]
fn no_manifest_is_left_of_a_type_that_is_gone() {
    let known: BTreeSet<_> = crds::all().iter().map(file).collect();
    for name in ["crds", "policies"] {
        let found: BTreeSet<_> = fs::read_dir(folder(name))
            .expect("the folder is there")
            .map(|entry| {
                entry
                    .expect("it can be listed")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(found, known, "{name}");
    }
}

#[test]
fn every_field_is_explained() {
    for crd in crds::all() {
        let schema = serde_json::to_value(&crd.spec.versions[0].schema).expect("plain data");
        let silent = silent(&schema["openAPIV3Schema"], &crd.spec.names.kind);
        assert_eq!(silent, Vec::<String>::new());
    }
}

/// Paths of the fields without a description.
fn silent(schema: &Value, path: &str) -> Vec<String> {
    let fields = schema["properties"].as_object().into_iter().flatten();
    let below = fields.flat_map(|(name, field)| {
        let path = format!("{path}.{name}");
        let mut found = silent(field, &path);
        if field["description"].as_str().is_none_or(str::is_empty) {
            found.push(path);
        }
        found
    });
    let each = ["items", "additionalProperties"]
        .into_iter()
        .filter(|key| schema[key].is_object());
    below.chain(each.flat_map(|key| silent(&schema[key], path))).collect()
}
