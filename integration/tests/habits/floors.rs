//! A module uses only lower floors or its own children; crates depend downwards only.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Floors inside `decide`, lowest first. Modules of one floor may use one another.
const DECIDE: &[&[&str]] = &[
    &["model"],
    &["snapshot"],
    &[
        "entitle", "forward", "hop", "path", "pick", "route", "verdict", "verify", "why",
    ],
];

/// Floors inside `act`, lowest first.
const ACT: &[&[&str]] = &[
    &["courtesy", "net", "resolve", "telemetry"],
    &["certs", "config"],
    &["tls"],
    &["authority", "hbone"],
    &["admin", "process"],
];

/// Which workspace crates each may depend on.
const CRATES: &[(&str, &[&str])] = &[
    ("crds", &[]),
    ("decide", &["crds"]),
    ("act", &["crds", "decide"]),
    ("ztunnel", &["act", "decide"]),
    ("waypoint", &["act", "decide"]),
    ("ca", &["act", "decide"]),
    ("weft", &["act", "crds", "decide"]),
    ("integration", &["act", "crds", "decide", "ztunnel"]),
    ("fuzz", &["act", "ca", "decide", "ztunnel"]),
];

/// What no pure crate may name.
const IO: &[&str] = &[
    "tokio",
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::process",
    "SystemTime",
    "Instant",
    "fastrand",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn modules_use_only_lower_floors() {
    assert_eq!(breaches("mesh/decide/src", DECIDE), Vec::<String>::new());
    assert_eq!(breaches("mesh/act/src", ACT), Vec::<String>::new());
}

#[test]
fn every_module_has_its_floor() {
    for (folder, floors) in [("mesh/decide/src", DECIDE), ("mesh/act/src", ACT)] {
        let drawn: BTreeSet<_> = floors
            .iter()
            .flat_map(|floor| floor.iter().map(|it| (*it).to_owned()))
            .collect();
        let found: BTreeSet<_> = sources(&root().join(folder))
            .iter()
            .filter_map(|file| module(file, folder))
            .collect();
        assert_eq!(found, drawn, "{folder}");
    }
}

#[test]
fn decisions_know_no_clock_no_network_no_randomness() {
    let mut found = Vec::new();
    for file in sources(&root().join("mesh/decide/src")) {
        for (line, text) in code(&file) {
            if let Some(name) = IO.iter().find(|name| text.contains(**name)) {
                found.push(format!("{}:{line}: {name}", file.display()));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn crates_depend_downwards_only() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--format-version=1"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");
    let drawn: BTreeMap<_, _> = CRATES.iter().copied().collect();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("a name");
        let allowed = drawn.get(name).unwrap_or_else(|| panic!("{name} is not drawn"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = dependency["name"].as_str().expect("a name");
            let ours = drawn.contains_key(used) && dependency["path"].is_string();
            assert!(!ours || allowed.contains(&used), "{name} must not depend on {used}");
        }
    }
}

fn breaches(folder: &str, floors: &[&[&str]]) -> Vec<String> {
    let height = |name: &str| floors.iter().position(|floor| floor.contains(&name));
    let mut found = Vec::new();
    for file in sources(&root().join(folder)) {
        let Some(own) = module(&file, folder) else { continue };
        for (line, text) in code(&file) {
            for used in text
                .split("crate::")
                .skip(1)
                .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
            {
                let Some(used) = used.filter(|used| *used != own) else {
                    continue;
                };
                if height(used).is_some_and(|used| Some(used) > height(&own)) {
                    found.push(format!(
                        "{}:{line}: {own} uses {used}, which stands above it",
                        file.display()
                    ));
                }
            }
        }
    }
    found
}

/// The first-level module a file belongs to; `None` for `lib.rs`.
fn module(file: &Path, folder: &str) -> Option<String> {
    let inside = file.strip_prefix(root().join(folder)).ok()?;
    let name = inside
        .components()
        .next()?
        .as_os_str()
        .to_str()?
        .trim_end_matches(".rs")
        .to_owned();
    (name != "lib").then_some(name)
}

/// Lines of code outside comments and test modules.
fn code(file: &Path) -> Vec<(usize, String)> {
    let test_file = file
        .file_stem()
        .is_some_and(|stem| stem == "tests" || stem == "naive" || stem == "testing");
    if test_file {
        return Vec::new();
    }
    let text = fs::read_to_string(file).expect("sources are readable");
    text.lines()
        .enumerate()
        .map(|(line, text)| (line + 1, text.trim().to_owned()))
        .take_while(|(_, text)| text != "#[cfg(test)]")
        .filter(|(_, text)| !text.starts_with("//"))
        .collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder is readable").flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|it| it == "rs") {
            files.push(path);
        }
    }
    files
}
