//! The capabilities that the programs of a node need: whoever lacks one says so at once, and does not fail at every pod.

use act::process::Failure;

/// A capability (capabilities(7)): its bit and its name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Capability(u32, &'static str);

/// Enters network namespaces.
pub(crate) const SYS_ADMIN: Capability = Capability(21, "CAP_SYS_ADMIN");
/// Changes networks, marks sockets, keeps source addresses.
pub(crate) const NET_ADMIN: Capability = Capability(12, "CAP_NET_ADMIN");
/// Looks at other processes as a debugger does.
pub(crate) const SYS_PTRACE: Capability = Capability(19, "CAP_SYS_PTRACE");

/// Whether this process holds all of these.
///
/// # Errors
/// One sentence that names those it does not. What cannot be found out counts as held.
pub(crate) fn require(needed: &[Capability]) -> Result<(), Failure> {
    let missing = effective().map_or_else(Vec::new, |held| missing(held, needed));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure(format!(
        "cannot work without {}: run it as root, or give it what is missing",
        missing.join(", ")
    )))
}

fn missing(held: u64, needed: &[Capability]) -> Vec<&'static str> {
    let lacks = |capability: &&Capability| held & (1 << capability.0) == 0;
    needed.iter().filter(lacks).map(|capability| capability.1).collect()
}

/// `CapEff` of `/proc/self/status`; `None` when it cannot be read.
fn effective() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(held.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_privilege_that_is_missing_is_named() {
        let needed = [SYS_ADMIN, NET_ADMIN];
        for (held, named) in [
            (0, &["CAP_SYS_ADMIN", "CAP_NET_ADMIN"][..]),
            (1 << 12, &["CAP_SYS_ADMIN"]),
            (1 << 21, &["CAP_NET_ADMIN"]),
            (1 << 21 | 1 << 12, &[]),
            (u64::MAX, &[]),
        ] {
            assert_eq!(missing(held, &needed), named, "{held:x}");
        }
    }
}
