//! Which pod a process belongs to. Comes in: its `/proc/<pid>/cgroup`. Goes out: the pod's UID, if all that is
//! written agrees. Pure.
//!
//! The kubelet names a pod's cgroup after its UID: `…/kubepods/burstable/pod<uid>/…` (driver cgroupfs) or
//! `…/kubepods-burstable-pod<uid>.slice/…` with `_` for `-` (driver systemd). What a container makes below its
//! own cgroup comes further to the right, so the leftmost name counts: no pod can claim to be another.

/// Shortest and longest UID: a UUID, or the hash that a static pod has instead.
const LENGTHS: std::ops::RangeInclusive<usize> = 8..=64;

/// The UID of the pod whose cgroup a process is in. `None` for other processes, and where the lines (one a
/// hierarchy in cgroup v1) name different pods.
pub(super) fn pod_uid(cgroups: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for line in cgroups.lines() {
        let Some(uid) = line.splitn(3, ':').nth(2).and_then(uid_in) else {
            continue;
        };
        match &found {
            Some(other) if *other != uid => return None,
            _ => found = Some(uid),
        }
    }
    found
}

/// The leftmost pod in a path, below the kubelet's own cgroup. A path that begins above our own cgroup namespace
/// (`/..`) may have lost that part.
fn uid_in(path: &str) -> Option<String> {
    let mut below_kubelet = path.starts_with("/..");
    for component in path.split('/') {
        // runc under a wrong driver writes `<slice>:cri-containerd:<id>`
        let name = component.split(':').next().unwrap_or(component);
        let (name, slice) = match name.strip_suffix(".slice") {
            Some(name) => (name, true),
            None => (name, false),
        };
        below_kubelet |= name.split('-').any(|part| part == "kubepods");
        if !below_kubelet {
            continue;
        }
        let uid = if slice {
            name.rsplit_once("-pod").map(|(_, uid)| uid.replace('_', "-"))
        } else {
            name.strip_prefix("pod").map(str::to_owned)
        };
        if let Some(uid) = uid.filter(|uid| is_uid(uid)) {
            return Some(uid);
        }
    }
    None
}

fn is_uid(text: &str) -> bool {
    LENGTHS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";
    const OTHER: &str = "ffffffff-1111-2222-3333-444455556666";

    #[test]
    fn every_spelling_of_a_pods_cgroup_is_understood() {
        let slice = UID.replace('-', "_");
        for path in [
            format!("0::/kubepods/pod{UID}/abc"),
            format!("0::/kubepods/burstable/pod{UID}/abc/init.scope"),
            format!("12:cpu,cpuacct:/node1/kubepods/besteffort/pod{UID}/abc\n0::/"),
            format!("3:memory:/kubepods/pod{UID}/abc\n1:name=systemd:/kubepods/pod{UID}/abc\n0::/"),
            format!(
                "0::/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-abc.scope"
            ),
            format!("0::/kubepods.slice/kubepods-pod{slice}.slice/crio-abc.scope"),
            format!(
                "0::/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{slice}.slice/cri-containerd-abc.scope"
            ),
            format!("1:name=systemd:/system.slice/kubepods-besteffort-pod{slice}.slice:cri-containerd:abc"),
            // seen from inside another pod's cgroup namespace
            format!("0::/../../pod{UID}/abc"),
            format!("0::/../../kubepods-burstable-pod{slice}.slice/cri-containerd-abc.scope"),
        ] {
            assert_eq!(pod_uid(&path).as_deref(), Some(UID), "{path}");
        }
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        assert_eq!(pod_uid(&format!("0::/kubepods/pod{hash}/abc")).as_deref(), Some(hash));
    }

    #[test]
    fn other_processes_belong_to_no_pod() {
        for path in [
            "",
            "0::/",
            "0::/system.slice/containerd.service",
            "0::/kubepods/burstable",
            "0::/kubepods.slice/kubepods-burstable.slice",
            "0::/kubepods/podman/abc",
            "0::/kubepods/pod/abc",
            "no cgroup file",
            &format!("0::/user.slice/pod{UID}/abc"),
            &format!("0::/pod{UID}"),
        ] {
            assert_eq!(pod_uid(path), None, "{path}");
        }
    }

    #[test]
    fn a_cgroup_made_inside_a_pod_names_no_other_pod() {
        let path = format!("0::/kubepods/pod{UID}/abc/kubepods/pod{OTHER}/def");
        assert_eq!(pod_uid(&path).as_deref(), Some(UID));
        let path = format!("0::/../pod{UID}/abc/pod{OTHER}");
        assert_eq!(pod_uid(&path).as_deref(), Some(UID));
    }

    #[test]
    fn hierarchies_that_disagree_name_nobody() {
        let lines = format!("2:cpu:/kubepods/pod{UID}/abc\n3:memory:/kubepods/pod{OTHER}/abc");
        assert_eq!(pod_uid(&lines), None);
    }

    proptest! {
        #[test]
        fn no_cgroup_file_panics(text in ".{0,200}", path in "(/(kubepods|pod|\\.\\.|[a-f0-9:._-]{0,9})(\\.slice)?){0,6}") {
            let _ = pod_uid(&text);
            let _ = pod_uid(&format!("0::{path}"));
        }
    }
}
