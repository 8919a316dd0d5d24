//! Every metric is described: Prometheus shows what it means.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use regex::Regex;

#[test]
fn every_metric_is_described() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "*.rs"])
        .current_dir(&root)
        .output()
        .expect("git runs");
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let used = Regex::new(r#"metrics::(?:counter|gauge|histogram)!\(\s*"([a-z_]+)""#).expect("a pattern");
    let told = Regex::new(r#"(?:\(|describe_[a-z]+!\()\s*"((?:istio|weft)_[a-z_]+)",\s*""#).expect("a pattern");
    let (mut all, mut described) = (BTreeSet::new(), BTreeSet::new());
    for file in listed.lines() {
        let Ok(text) = fs::read_to_string(root.join(file)) else {
            continue;
        };
        all.extend(used.captures_iter(&text).map(|found| found[1].to_owned()));
        described.extend(told.captures_iter(&text).map(|found| found[1].to_owned()));
    }
    assert!(all.len() > 20, "{all:?}");
    let silent: Vec<_> = all.difference(&described).collect();
    assert!(silent.is_empty(), "not described: {silent:?}");
}
