//! One stream of a client's tunnel: who opened it, and for what.

use std::{net::SocketAddr, sync::Arc};

use act::{hbone::Traceparent, telemetry::Party, tls::Peer};
use http::{HeaderMap, header::FORWARDED};

use crate::{activity::Activity, waypoint::Waypoint};

/// A client as one stream of its tunnel shows it.
pub(crate) struct Client {
    /// Us.
    pub(crate) waypoint: Arc<Waypoint>,
    /// Who it is.
    pub(crate) peer: Peer,
    /// Where its tunnel comes from: what policies judge.
    pub(crate) remote: SocketAddr,
    /// The address and port it is told to have: what servers are told.
    pub(crate) told: SocketAddr,
    /// What the stream was opened for.
    pub(crate) authority: SocketAddr,
    /// The trace it belongs to, if it says so as it must.
    pub(crate) trace: Option<Traceparent>,
    /// What happens on it.
    pub(crate) activity: Arc<Activity>,
}

impl Client {
    /// The namespace it is of.
    pub(crate) fn namespace(&self) -> &str {
        self.peer.identity().namespace()
    }

    /// The client for telemetry: its workload is known by its address, if that is the peer's.
    pub(crate) fn source(&self) -> Party {
        let snapshot = self.waypoint.reader.load();
        Party {
            workload: snapshot
                .workload_at(self.told.ip())
                .filter(|workload| workload.identity == *self.peer.identity())
                .cloned(),
            identity: Some(self.peer.identity().clone()),
            address: Some(self.told),
        }
    }
}

/// The client's address by the tunnel's `forwarded: for="…"` (RFC 7239), where it may be believed: it agrees
/// with where the tunnel comes from, or the peer is itself a waypoint, which speaks for others.
pub(crate) fn told(headers: &HeaderMap, remote: SocketAddr, peer_is_waypoint: impl Fn() -> bool) -> SocketAddr {
    let claimed = || {
        let value = headers.get(FORWARDED)?.to_str().ok()?;
        let pairs = value.split([',', ';']);
        let address = pairs
            .filter_map(|pair| pair.trim().split_once('='))
            .find_map(|(name, value)| name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"')))?;
        address.parse::<SocketAddr>().ok()
    };
    claimed()
        .filter(|claimed| claimed.ip().to_canonical() == remote.ip().to_canonical() || peer_is_waypoint())
        .unwrap_or(remote)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_tells_its_port_but_not_another_address() {
        let remote: SocketAddr = "10.1.0.7:50000".parse().unwrap();
        for (claim, from_waypoint, believed) in [
            ("for=\"10.1.0.7:40000\";host=web.shop", false, "10.1.0.7:40000"),
            ("for=\"10.1.0.9:40000\"", false, "10.1.0.7:50000"),
            ("for=\"10.1.0.9:40000\"", true, "10.1.0.9:40000"),
            ("for=unknown", true, "10.1.0.7:50000"),
            ("", true, "10.1.0.7:50000"),
        ] {
            let headers = [(FORWARDED, claim.parse().unwrap())].into_iter().collect();
            assert_eq!(
                told(&headers, remote, || from_waypoint),
                believed.parse().unwrap(),
                "{claim}"
            );
        }
        assert_eq!(told(&HeaderMap::new(), remote, || true), remote);
    }
}
