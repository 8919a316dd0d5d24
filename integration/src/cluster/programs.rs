//! The programs a cluster needs of this machine, and the Debian packages they come in.

use std::path::Path;

use act::process::Failure;

use crate::isolate::found;

/// Programs and their packages.
const PROGRAMS: [(&str, &str); 13] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("sysctl", "procps"),
    ("cp", "coreutils"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("iptables", "iptables"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
];

/// Where Debian puts the CNI plugins.
pub(super) const PLUGINS: &str = "/usr/lib/cni";

/// Whether everything is there.
///
/// # Errors
/// One sentence with what is missing and the remedy.
pub(super) fn are_there() -> Result<(), Failure> {
    if !rustix::process::geteuid().is_root() {
        return Err(Failure(
            "a kubelet needs root: run it as root, or in a virtual machine of yours".into(),
        ));
    }
    let mut missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| !found(program)).collect();
    if !Path::new(PLUGINS).join("bridge").exists() {
        missing.push(("CNI plugins", "containernetworking-plugins"));
    }
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
        let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
        packages.dedup();
        return Err(Failure(format!(
            "missing: {}; install it with `apt-get install {}`",
            names.join(", "),
            packages.join(" ")
        )));
    }
    if !Path::new("/proc/sys/net/bridge").exists() {
        return Err(Failure(
            "this kernel does not show bridged packets to the packet filter: `modprobe br_netfilter`".into(),
        ));
    }
    Ok(())
}
