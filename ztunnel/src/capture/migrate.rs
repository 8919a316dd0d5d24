//! `net.ipv4.tcp_migrate_req` of a captured pod: connections that wait at a listener of ours which is closed go to
//! another that shares its port, instead of being reset. The second belt of an upgrade, where sockets could not be
//! handed over (design 17). Best effort: an older kernel does not have it.

use std::{fs, io, sync::Once};

use act::net::Netns;

use super::{
    programs::{ProgramError, nft, nft_tells},
    rules::TABLE,
};

/// Where it is; a container sees its own `/proc/sys` read-only, and the host's by process 1.
const PATHS: [&str; 2] = [
    "/proc/sys/net/ipv4/tcp_migrate_req",
    "/proc/1/root/proc/sys/net/ipv4/tcp_migrate_req",
];
/// An empty chain in our table: it was off, and we turned it on. A flush of the table keeps it.
const WAS_OFF: &str = "tcp_migrate_req_was_off";

/// It is said once that it cannot be set: what keeps us from it keeps us everywhere.
static SAID: Once = Once::new();

/// Turns it on in a namespace where our table stands, and remembers there that it was off.
pub(super) async fn on(netns: &Netns) {
    if is_on(netns) != Some(false) {
        return;
    }
    let mark = format!("add chain inet {TABLE} {WAS_OFF}\n");
    let done = match nft(netns, &mark).await {
        Ok(_) => write(netns, "1").map_err(|why| why.to_string()),
        Err(why) => Err(why.to_string()),
    };
    if let Err(why) = done {
        SAID.call_once(|| {
            tracing::warn!(
                why,
                "tcp_migrate_req cannot be set in pods: a ztunnel that hangs loses what waits at its listeners"
            )
        });
    }
}

/// Turns it off again where we turned it on; before our table goes.
///
/// # Errors
/// When nft cannot be asked.
pub(super) async fn back(netns: &Netns) -> Result<(), ProgramError> {
    let chains = nft_tells(netns, &["list", "chains", "inet"]).await?;
    let ours = format!("chain {WAS_OFF} {{");
    if chains.lines().any(|line| line.trim() == ours)
        && let Err(why) = write(netns, "0")
    {
        tracing::warn!(%why, "tcp_migrate_req cannot be turned off again in a pod");
    }
    Ok(())
}

fn is_on(netns: &Netns) -> Option<bool> {
    let told = netns.run(|| fs::read_to_string(PATHS[0])).ok()?;
    Some(told.trim() != "0")
}

fn write(netns: &Netns, value: &str) -> io::Result<()> {
    let [own, hosts] = PATHS;
    netns.run(|| fs::write(own, value).or_else(|_| fs::write(hosts, value)))
}
