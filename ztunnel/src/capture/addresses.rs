//! The addresses of a network namespace, as `ip -j address` tells them.

use std::{collections::BTreeSet, net::IpAddr};

use act::net::Netns;
use serde::Deserialize;

use super::programs::{ProgramError, ip_tells};

/// Most addresses that count, of the host or of one pod.
const MOST: usize = 256;
/// Interfaces whose addresses are not the host's own: loopback, and where kube-proxy (IPVS) and node-local DNS
/// keep Service addresses.
const NOT_OURS: [&str; 3] = ["lo", "kube-ipvs0", "nodelocaldns"];

#[derive(Deserialize)]
struct Interface {
    ifname: String,
    #[serde(default)]
    addr_info: Vec<Address>,
}

#[derive(Deserialize)]
struct Address {
    local: Option<IpAddr>,
    #[serde(default)]
    scope: String,
}

/// Every address of global scope, at most [`MOST`].
///
/// # Errors
/// [`ProgramError`].
pub(super) async fn addresses(netns: &Netns) -> Result<BTreeSet<IpAddr>, ProgramError> {
    let told = ip_tells(netns, &["-j", "address", "show"]).await?;
    parse(&told).ok_or_else(|| ProgramError::Failed {
        program: "ip",
        said: "its JSON cannot be read".to_owned(),
    })
}

fn parse(told: &str) -> Option<BTreeSet<IpAddr>> {
    let interfaces: Vec<Interface> = serde_json::from_str(told).ok()?;
    let own = interfaces
        .into_iter()
        .filter(|interface| !NOT_OURS.contains(&interface.ifname.as_str()));
    let addresses = own.flat_map(|interface| interface.addr_info);
    let global = addresses.filter(|address| address.scope == "global");
    Some(global.filter_map(|address| address.local).take(MOST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_global_scope_but_not_those_of_services() {
        let told = r#"[{"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8,"scope":"host"},
            {"family":"inet","local":"10.96.0.99","scope":"global"}]},
          {"ifname":"cni0","addr_info":[{"family":"inet","local":"10.244.1.1","scope":"global"},
            {"family":"inet6","local":"fd00:1::1","scope":"global","tentative":true},
            {"family":"inet6","local":"fe80::1","scope":"link"}]},
          {"ifname":"kube-ipvs0","addr_info":[{"local":"10.96.0.1","scope":"global"}]},
          {"ifname":"tun0"}, {"ifname":"ppp0","addr_info":[{}]}]"#;
        let expected = ["10.244.1.1", "fd00:1::1"].map(|it| it.parse().unwrap());
        assert_eq!(parse(told), Some(BTreeSet::from(expected)));
        assert_eq!(parse("[]"), Some(BTreeSet::new()));
        for nonsense in ["", "{}", r#"[{"addr_info":[]}]"#] {
            assert_eq!(parse(nonsense), None, "{nonsense}");
        }
    }
}
