//! Cgroups of a node: made in every hierarchy of this machine (version 1, 2 or both), removed when the node is gone.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use act::process::Failure;

/// Where cgroup hierarchies are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// How often a busy cgroup is tried again, 50 ms apart: its processes were killed and are still ending.
const TRIES: u32 = 100;

/// The root of every hierarchy, from the text of `/proc/self/mountinfo`: mount point and kind, sorted, each once.
pub(crate) fn hierarchies(mountinfo: &str) -> Vec<(PathBuf, Kind)> {
    let mut found: Vec<_> = mountinfo
        .lines()
        .filter_map(|line| {
            let (mount, kind) = line.split_once(" - ")?;
            let kind = match kind.split(' ').next()? {
                "cgroup" => Kind::V1,
                "cgroup2" => Kind::V2,
                _ => return None,
            };
            let point = mount.split(' ').nth(4)?;
            point.starts_with(ROOT).then(|| (PathBuf::from(point), kind))
        })
        .collect();
    found.sort();
    found.dedup();
    found
}

/// A version of cgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One hierarchy for each controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// Where a cgroup is in the version 2 hierarchy; `None` where there is none.
pub(crate) fn unified(cgroup: &str) -> Option<PathBuf> {
    let (root, _) = mounted().ok()?.into_iter().find(|(_, kind)| *kind == Kind::V2)?;
    Some(root.join(cgroup))
}

/// Makes a cgroup in every hierarchy.
///
/// # Errors
/// Names the directory that cannot be made.
pub(super) fn make(cgroup: &str) -> Result<(), Failure> {
    for (root, kind) in mounted()? {
        let directory = root.join(cgroup);
        fs::create_dir_all(&directory)
            .map_err(|error| Failure(format!("the cgroup {} cannot be made: {error}", directory.display())))?;
        // A version 1 cpuset begins empty, and an empty one holds no process.
        if kind == Kind::V1 && root.join("cpuset.cpus").exists() {
            for ancestor in Path::new(cgroup).ancestors().collect::<Vec<_>>().into_iter().rev() {
                for file in ["cpuset.cpus", "cpuset.mems"] {
                    copy_setting(&root, &root.join(ancestor), file)?;
                }
            }
        }
    }
    Ok(())
}

/// Files a process' number is written to, to move it into the cgroup in every hierarchy.
///
/// # Errors
/// When the hierarchies cannot be read.
pub(super) fn doors(cgroup: &str) -> Result<Vec<PathBuf>, Failure> {
    Ok(mounted()?
        .into_iter()
        .map(|(root, _)| root.join(cgroup).join("cgroup.procs"))
        .collect())
}

/// Removes a cgroup and what is below it from every hierarchy, and waits for its processes to be gone.
///
/// # Errors
/// Names the cgroup that stays busy.
pub(crate) fn remove(cgroup: &str) -> Result<(), Failure> {
    for (root, _) in mounted()? {
        remove_tree(&root.join(cgroup))?;
    }
    Ok(())
}

fn remove_tree(directory: &Path) -> Result<(), Failure> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path())?;
        }
    }
    let mut last = None;
    for _ in 0..TRIES {
        match fs::remove_dir(directory) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => last = Some(error),
        }
        thread::sleep(Duration::from_millis(50));
    }
    let why = last.map_or_else(String::new, |error| error.to_string());
    Err(Failure(format!(
        "the cgroup {} cannot be removed: {why}",
        directory.display()
    )))
}

fn copy_setting(from: &Path, to: &Path, file: &str) -> Result<(), Failure> {
    let target = to.join(file);
    let set = fs::read_to_string(&target).is_ok_and(|text| !text.trim().is_empty());
    if set {
        return Ok(());
    }
    fs::read_to_string(from.join(file))
        .and_then(|text| fs::write(&target, text))
        .map_err(|error| Failure(format!("{} cannot be set: {error}", target.display())))
}

fn mounted() -> Result<Vec<(PathBuf, Kind)>, Failure> {
    let text = fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Failure(format!("/proc/self/mountinfo cannot be read: {error}")))?;
    let found = hierarchies(&text);
    if found.is_empty() {
        return Err(Failure(format!(
            "no cgroups are mounted below {ROOT}, which a kubelet needs"
        )));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found_once_each() {
        let text = "30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu rw,nosuid shared:9 - cgroup cgroup rw,cpu\n\
                    31 30 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                    32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    33 30 0:28 / /elsewhere rw - cgroup2 cgroup2 rw\n";
        let found = hierarchies(text);
        assert_eq!(
            found,
            [
                (PathBuf::from("/sys/fs/cgroup/cpu"), Kind::V1),
                (PathBuf::from("/sys/fs/cgroup/unified"), Kind::V2)
            ]
        );
        assert_eq!(hierarchies("1 0 8:1 / / rw - ext4 /dev/sda rw"), []);
    }
}
