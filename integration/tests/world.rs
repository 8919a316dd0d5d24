//! The world stands, and leaves nothing behind. Needs the programs that `make tools` installs, and root or user
//! namespaces.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, SystemTime},
};

fn demo(run: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_weft-demo"));
    command
        .args(["--no-mesh", "--run"])
        .arg(run)
        .arg("--config")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/demo"))
        .stdin(Stdio::null());
    command
}

/// Processes that belong to a run directory, by their command lines.
fn processes(run: &Path) -> Vec<String> {
    let run = run.display().to_string();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
        .filter(|line| line.contains(&run))
        .collect()
}

fn until(most: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = SystemTime::now() + most;
    while SystemTime::now() < end {
        if condition() {
            return true;
        }
        sleep(Duration::from_millis(50));
    }
    condition()
}

#[test]
fn pods_and_services_reach_each_other_and_the_capture_tells_the_truth() {
    let home = tempfile::tempdir().unwrap();
    let output = demo(&home.path().join("run")).arg("--check").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let failed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{failed}");
    assert!(said.contains("10 passed, 0 failed"), "{said}");
}

#[test]
fn a_killed_world_leaves_nothing_and_the_next_one_starts() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    for _ in 0..2 {
        let _ = fs::remove_dir_all(run.join("logs"));
        let mut child = demo(&run).stdout(Stdio::null()).spawn().unwrap();
        let started = until(Duration::from_secs(30), || run.join("logs/traffic-0.log").exists());
        assert!(started, "the world does not start");
        assert!(processes(&run).len() > 1);
        child.kill().unwrap();
        child.wait().unwrap();
        let gone = until(Duration::from_secs(5), || processes(&run).is_empty());
        assert!(gone, "still there: {:?}", processes(&run));
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&run.display().to_string()));
    }
}

#[test]
fn a_run_directory_belongs_to_one_world() {
    let home = tempfile::tempdir().unwrap();
    let run = home.path().join("run");
    let mut first = demo(&run).stdout(Stdio::null()).spawn().unwrap();
    assert!(until(Duration::from_secs(30), || run
        .join("logs/traffic-0.log")
        .exists()));
    let second = demo(&run).output().unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        said.contains("another world runs in it; choose another with --run"),
        "{said}"
    );
}
