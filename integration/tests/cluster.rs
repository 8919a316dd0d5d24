//! The test cluster comes up, and leaves nothing behind. Needs root and what `make cluster-tools` installs, and
//! minutes where Kubernetes is not built yet: `cargo test -p integration --test cluster -- --ignored`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

fn cluster(directory: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_weft-cluster"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .arg("--dir")
        .arg(directory)
        .args(words)
        .output()
        .unwrap()
}

fn succeeds(directory: &Path, words: &[&str]) -> String {
    let output = cluster(directory, words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The first process of the cluster, and every process whose command line names its directory.
fn processes(directory: &Path) -> Vec<String> {
    let named = directory.display().to_string();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&named)
    })
    .map(|entry| entry.file_name().to_string_lossy().into_owned())
    .collect()
}

/// Cgroups of the cluster's nodes, in every hierarchy; the name is the one that `status` prints.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let hierarchies = fs::read_dir("/sys/fs/cgroup").unwrap().flatten();
    hierarchies
        .map(|hierarchy| hierarchy.path())
        .chain([PathBuf::from("/sys/fs/cgroup")])
        .filter_map(|hierarchy| fs::read_dir(hierarchy).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|it| it.to_string_lossy().starts_with(name))
        })
        .collect()
}

#[test]
#[ignore = "needs root, containerd and Kubernetes"]
fn a_killed_cluster_leaves_nothing_and_the_next_one_starts() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("cluster");
    succeeds(&directory, &["up", "--nodes", "1"]);
    let name = succeeds(&directory, &["kubectl", "config", "current-context"]);
    let name = name.trim();
    assert!(!cgroups(name).is_empty(), "a running node has cgroups");
    let second = cluster(&directory, &["up"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("runs in"), "{said}");

    let net = succeeds(&directory, &["env"]);
    let first = net.split("/proc/").nth(1).unwrap().split('/').next().unwrap();
    let killed = Command::new("kill").args(["-KILL", first]).status().unwrap();
    assert!(killed.success());
    assert!(
        !cluster(&directory, &["status"]).status.success(),
        "a killed cluster has no status"
    );
    succeeds(&directory, &["up", "--nodes", "1"]);
    assert!(succeeds(&directory, &["kubectl", "get", "nodes"]).contains("node1"));

    succeeds(&directory, &["down"]);
    assert!(!directory.exists());
    assert_eq!(cgroups(name), Vec::<PathBuf>::new());
    assert_eq!(processes(&directory), Vec::<String>::new());
}
