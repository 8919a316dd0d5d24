//! `integration/laws.md` and `integration/defects.md` name only tests that exist, each in the file it says.

use std::{fs, path::Path, process::Command};

#[test]
fn every_law_names_a_test_that_exists() {
    assert!(rows("laws.md") > 0, "integration/laws.md holds no law");
}

#[test]
fn every_defect_names_a_test_that_exists() {
    assert!(rows("defects.md") > 0, "integration/defects.md holds no defect");
}

/// Looks at every row of a table, and says how many there are.
fn rows(table: &str) -> usize {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let laws = fs::read_to_string(root.join("integration").join(table)).expect("the table is there");
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "*.rs"])
        .current_dir(&root)
        .output()
        .expect("git runs");
    let listed = String::from_utf8(listed.stdout).expect("paths are UTF-8");
    let sources: Vec<_> = listed
        .lines()
        .filter_map(|file| Some((file, fs::read_to_string(root.join(file)).ok()?)))
        .collect();
    let mut rows = 0;
    for row in laws
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| law ") && !line.starts_with("| defect "))
    {
        rows += 1;
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [law, tests, tier] = cells[..] else {
            panic!("a row has law, tests and tier: {row}")
        };
        assert!(
            ["pure", "timed", "loopback", "world", "cluster", "hostile"].contains(&tier),
            "{law}: unknown tier {tier}"
        );
        for test in tests.split(", ").map(|test| test.trim_matches('`')) {
            let (file, name) = test
                .split_once("::")
                .unwrap_or_else(|| panic!("{law}: {test} is not file::test"));
            let holds = |(path, text): &(&str, String)| {
                Path::new(path).file_stem().is_some_and(|stem| stem == file) && text.contains(&format!("fn {name}("))
            };
            assert!(sources.iter().any(holds), "{law}: no test {test}");
        }
    }
    rows
}
