//! A node's file system: a root of its own, in which the host's programs are seen read-only and everything a node
//! writes (`/etc`, `/opt`, `/run`, `/var`) is its own. Nothing of it is seen outside the node's mount namespace.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use act::process::Failure;
use rustix::{
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
        mount_remount, unmount,
    },
    process::{chdir, pivot_root},
};

use super::{cgroup, spec::NodeSpec};
use crate::cluster::components::NODE_PROGRAMS;

/// Directories of the host's root that are programs and libraries, or lead to them.
const PROGRAMS: [&str; 6] = ["usr", "bin", "sbin", "lib", "lib32", "lib64"];

/// Makes this process' mount namespace the node's: its root, its `/run`, its cgroup.
///
/// # Errors
/// Names what cannot be mounted or made.
pub(super) fn enter(name: &str, node: &NodeSpec) -> Result<(), Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure(format!("{name} cannot have a file system of its own: {error}"));
    build(&node.root, &node.kubernetes).map_err(|error| failed(&error))?;
    chdir(&node.root)
        .and_then(|()| pivot_root(".", "."))
        .and_then(|()| unmount(".", UnmountFlags::DETACH))
        .and_then(|()| chdir("/"))
        // A pod that mounts HostToContainer sees what the node mounts later.
        .and_then(|()| mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC))
        .and_then(|()| rustix::system::sethostname(name.as_bytes()))
        .map_err(|error| failed(&error))?;
    // A machine that was switched off remembers no process.
    cgroup::remove(&node.cgroup)?;
    cgroup::make(&format!("{}/kubelet", node.cgroup))
}

fn build(root: &Path, kubernetes: &Path) -> io::Result<()> {
    let at = |part: &str| root.join(part);
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    mount_bind(root, root)?;
    for part in PROGRAMS {
        programs(&Path::new("/").join(part), &at(part))?;
    }
    for part in ["dev", "proc", "sys", "run", "tmp"] {
        fs::create_dir_all(at(part))?;
    }
    mount_bind_recursive("/dev", at("dev"))?;
    mount("proc", at("proc"), "proc", MountFlags::empty(), None)?;
    mount("sysfs", at("sys"), "sysfs", MountFlags::empty(), None)?;
    mount_bind_recursive("/sys/fs/cgroup", at("sys/fs/cgroup"))?;
    mount("tmpfs", at("run"), "tmpfs", MountFlags::empty(), Some(c"mode=755"))?;
    mount("tmpfs", at("tmp"), "tmpfs", MountFlags::empty(), Some(c"mode=1777"))?;
    fs::create_dir_all(at("run/netns"))?;
    let inside = root.join(NODE_PROGRAMS.trim_start_matches('/')).join("kubernetes");
    fs::File::options().create(true).append(true).open(&inside)?;
    mount_bind(kubernetes, inside).map_err(io::Error::from)
}

/// Shows one of the host's directories of programs in the node, read-only; a link stays a link.
fn programs(host: &Path, here: &PathBuf) -> io::Result<()> {
    if let Ok(target) = fs::read_link(host) {
        return if here.is_symlink() {
            Ok(())
        } else {
            symlink(target, here)
        };
    }
    if !host.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(here)?;
    mount_bind(host, here)?;
    mount_remount(here, MountFlags::BIND | MountFlags::RDONLY, c"").map_err(io::Error::from)
}
