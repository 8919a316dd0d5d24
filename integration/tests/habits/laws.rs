//! `integration/laws.md` names only tests that exist.

use std::{fs, path::Path, process::Command};

#[test]
fn every_law_names_a_test_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let laws = fs::read_to_string(root.join("integration/laws.md")).expect("integration/laws.md is there");
    let files = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "*.rs"])
        .current_dir(&root)
        .output();
    let files = String::from_utf8(files.expect("git runs").stdout).expect("paths are UTF-8");
    let sources: String = files
        .lines()
        .filter_map(|file| fs::read_to_string(root.join(file)).ok())
        .collect();
    let mut rows = 0;
    for row in laws
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| law") && !line.starts_with("| --"))
    {
        rows += 1;
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [law, tests, tier] = cells[..] else {
            panic!("a row has law, test and tier: {row}")
        };
        assert!(
            ["pure", "timed", "loopback", "world", "hostile"].contains(&tier),
            "{law}: unknown tier {tier}"
        );
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            let name = test.rsplit("::").next().unwrap_or(test);
            assert!(sources.contains(&format!("fn {name}(")), "{law}: no test {test}");
        }
    }
    assert!(rows > 0, "integration/laws.md holds no law");
}
