//! Where this node's kubelet lives: its cgroup of the v2 hierarchy, by which nftables tells its sockets from
//! those of other processes. Comes in: `/proc` and the cgroup file system. Goes out: a cgroup, or why there is none.

use std::{
    fs,
    os::linux::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::capture::cgroup::pod_uid;

/// Below it nftables looks for cgroups.
const CGROUPS: &str = "/sys/fs/cgroup";
/// Processes that are kubelets, or hold one, by their `comm`.
const NAMES: [&str; 4] = ["kubelet", "kubelite", "k3s-server", "k3s-agent"];

/// A cgroup, as nftables names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KubeletCgroup {
    /// Path below `/sys/fs/cgroup`.
    pub(super) path: String,
    /// Its depth in the hierarchy.
    pub(super) level: usize,
    /// Its inode: another one is another cgroup, of which loaded rules know nothing.
    inode: u64,
    /// The kubelet, unless the cgroup was given.
    pid: Option<u32>,
}

/// Why there is no such cgroup. Each is one sentence with its remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoCgroup {
    #[error("no kubelet is seen on this node: share the host's process IDs with weft-cni, or give --kubelet-cgroup")]
    NoKubelet,
    #[error(
        "the file system of cgroup v2 is not seen below {CGROUPS}: mount the host's {CGROUPS} there, on a host that has cgroup v2"
    )]
    NoHierarchy,
    #[error(
        "the kubelet (process {0}) is in the root of cgroup v2, where every process may be: start it in a cgroup of its own, as systemd does"
    )]
    Root(u32),
    #[error(
        "cgroup {path} of the kubelet is not seen at {at}: mount the host's {CGROUPS}, or give --kubelet-cgroup as the host names it"
    )]
    NotSeen { path: String, at: PathBuf },
    #[error("processes {0} and {1} both look like this node's kubelet: say which with --kubelet-cgroup")]
    Several(u32, u32),
    #[error("process {0} may be the kubelet, but its network cannot be looked at: run weft-cni with CAP_SYS_PTRACE")]
    NotPermitted(u32),
    #[error("nftables cannot name the cgroup {0:?}: give the kubelet's cgroup a plain name")]
    BadName(String),
}

impl NoCgroup {
    /// Whether it may be otherwise in a moment: a kubelet that restarts.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NoKubelet | Self::NotSeen { .. })
    }
}

impl KubeletCgroup {
    /// The cgroup that was given, else that of this node's kubelet.
    pub(super) fn find(given: Option<&str>) -> Result<Self, NoCgroup> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let hierarchy = hierarchy(&mounts).ok_or(NoCgroup::NoHierarchy)?;
        match given {
            Some(path) => Self::at(&hierarchy, path, None),
            None => {
                let kubelet = one(kubelets(Path::new("/proc"))?)?;
                Self::at(&hierarchy, &kubelet.cgroup, Some(kubelet.pid))
            }
        }
    }

    /// Whether what was found still is so.
    pub(super) fn is_current(&self) -> bool {
        let at = Path::new(CGROUPS).join(&self.path);
        fs::metadata(&at).is_ok_and(|found| found.st_ino() == self.inode) && self.pid.is_none_or(|pid| holds(&at, pid))
    }

    /// The cgroup of this path, which holds the process.
    fn at(hierarchy: &str, path: &str, pid: Option<u32>) -> Result<Self, NoCgroup> {
        // seen from a cgroup namespace, what is outside begins with `/..`
        let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        parts.drain(..parts.iter().take_while(|part| **part == "..").count());
        let path = parts.join("/");
        if path.contains(|c: char| c == '"' || c.is_control()) || parts.contains(&"..") {
            return Err(NoCgroup::BadName(path));
        }
        if parts.is_empty() {
            return Err(NoCgroup::Root(pid.unwrap_or_default()));
        }
        let named = Path::new(hierarchy).join(&path);
        let at = Path::new(CGROUPS).join(&named);
        let not_seen = || NoCgroup::NotSeen {
            path: path.clone(),
            at: at.clone(),
        };
        let found = fs::metadata(&at).map_err(|_| not_seen())?;
        if pid.is_some_and(|pid| !holds(&at, pid)) {
            return Err(not_seen());
        }
        Ok(Self {
            path: named.to_string_lossy().into_owned(),
            level: parts.len(),
            inode: found.st_ino(),
            pid,
        })
    }
}

/// Where the v2 hierarchy is mounted, below [`CGROUPS`]: "" or, beside v1, such as `unified`.
fn hierarchy(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        if !kind.starts_with("cgroup2 ") {
            return None;
        }
        let point = mount.split(' ').nth(4)?.strip_prefix(CGROUPS)?;
        (point.is_empty() || point.starts_with('/')).then(|| point.trim_start_matches('/').to_owned())
    })
}

/// Whether a process is in a cgroup itself.
fn holds(cgroup: &Path, pid: u32) -> bool {
    let members = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    members.lines().any(|member| member.parse() == Ok(pid))
}

/// A process that may be a kubelet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Process {
    pid: u32,
    /// Its cgroup of the v2 hierarchy.
    cgroup: String,
}

/// The one kubelet there is. Processes of one cgroup are as good as one.
fn one(found: Vec<Process>) -> Result<Process, NoCgroup> {
    let mut found = found.into_iter();
    let first = found.next().ok_or(NoCgroup::NoKubelet)?;
    match found.find(|other| other.cgroup != first.cgroup) {
        Some(other) => Err(NoCgroup::Several(first.pid, other.pid)),
        None => Ok(first),
    }
}

/// Kubelets of root in this network, outside every pod: names are free for everybody to take.
fn kubelets(proc: &Path) -> Result<Vec<Process>, NoCgroup> {
    let network = |pid: &str| fs::metadata(proc.join(pid).join("ns/net")).map(|it| (it.st_dev(), it.st_ino()));
    let Ok(ours) = network("self") else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(proc).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some((name, pid)) = name.to_str().and_then(|name| Some((name, name.parse().ok()?))) else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        if !NAMES.contains(&read("comm").trim_end()) || !is_roots(&read("status")) {
            continue;
        }
        let cgroups = read("cgroup");
        let Some(cgroup) = v2(&cgroups) else { continue };
        if of_a_pod(&cgroups) {
            continue;
        }
        match network(name) {
            Ok(theirs) if theirs == ours => found.push(Process { pid, cgroup }),
            Ok(_) => {}
            Err(why) if why.kind() == std::io::ErrorKind::PermissionDenied => return Err(NoCgroup::NotPermitted(pid)),
            // it ended meanwhile
            Err(_) => {}
        }
    }
    Ok(found)
}

/// `0::/system.slice/kubelet.service` of `/proc/<pid>/cgroup`.
fn v2(cgroups: &str) -> Option<String> {
    cgroups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .map(str::to_owned)
}

/// Pods are below `kubepods` or `kubepods.slice`; a cgroup namespace may hide that part.
fn of_a_pod(cgroups: &str) -> bool {
    pod_uid(cgroups).is_some()
        || cgroups
            .split(['/', '\n'])
            .any(|part| part == "kubepods" || part == "kubepods.slice")
}

/// Whether the effective user of `/proc/<pid>/status` is root.
fn is_roots(status: &str) -> bool {
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    ids.and_then(|ids| ids.split_ascii_whitespace().nth(1)) == Some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hierarchy_is_found_beside_v1_and_alone() {
        let alone = "25 30 0:23 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(hierarchy(alone).as_deref(), Some(""));
        let hybrid = "25 30 0:23 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      26 25 0:24 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n\
                      27 25 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu";
        assert_eq!(hierarchy(hybrid).as_deref(), Some("unified"));
        for none in [
            "27 25 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu",
            "26 25 0:24 / /mnt/cgroup rw - cgroup2 cgroup2 rw",
            "26 25 0:24 / /sys/fs/cgroup2 rw - cgroup2 cgroup2 rw",
            "",
        ] {
            assert_eq!(hierarchy(none), None, "{none}");
        }
    }

    #[test]
    fn a_name_alone_makes_no_kubelet() {
        assert!(is_roots("Name:\tkubelet\nUid:\t0\t0\t0\t0\n"));
        assert!(!is_roots("Name:\tkubelet\nUid:\t0\t1000\t0\t0\n"));
        assert!(!is_roots(""));
        for pods in [
            "0::/kubepods.slice/kubepods-burstable.slice/x",
            "4:memory:/node1/kubepods/burstable/podx\n0::/",
            "0::/../../../burstable/pod0a1b2c3d-0a1b-0a1b-0a1b-0a1b2c3d4e5f/x",
        ] {
            assert!(of_a_pod(pods), "{pods}");
        }
        assert!(!of_a_pod("4:memory:/\n0::/system.slice/kubelet.service"));
        assert_eq!(
            v2("9:name=systemd:/\n0::/system.slice/k\n").as_deref(),
            Some("/system.slice/k")
        );
        assert_eq!(v2("9:name=systemd:/\n"), None);
    }

    #[test]
    fn two_kubelets_of_different_cgroups_are_none() {
        let process = |pid, cgroup: &str| Process {
            pid,
            cgroup: cgroup.to_owned(),
        };
        assert_eq!(one(vec![]), Err(NoCgroup::NoKubelet));
        assert_eq!(one(vec![process(1, "/a"), process(2, "/a")]), Ok(process(1, "/a")));
        assert_eq!(
            one(vec![process(1, "/a"), process(2, "/b")]),
            Err(NoCgroup::Several(1, 2))
        );
    }

    #[test]
    fn the_root_and_what_nftables_cannot_name_are_no_cgroup_of_the_kubelet() {
        let at = |path: &str| KubeletCgroup::at("unified", path, Some(7)).unwrap_err();
        assert_eq!(at("/"), NoCgroup::Root(7));
        assert_eq!(at("/../.."), NoCgroup::Root(7));
        assert!(matches!(at("/a\"b"), NoCgroup::BadName(_)));
        assert!(matches!(at("/a/../b"), NoCgroup::BadName(_)));
        let absent = at("/../../absent.slice/kubelet.service");
        assert!(matches!(absent, NoCgroup::NotSeen { path, .. } if path == "absent.slice/kubelet.service"));
    }
}
