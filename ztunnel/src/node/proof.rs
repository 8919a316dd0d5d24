//! What `POST /proof` of this ztunnel does: from inside a pod it serves, one connection to another pod's ztunnel.

use std::{net::IpAddr, sync::Arc};

use act::{
    admin::{Prover, Way},
    config::Reader,
    net::{Dialer, SocketOptions},
};
use decide::{
    model::{Capture, Workload, ports},
    snapshot::Snapshot,
};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use super::NodePods;
use crate::traffic::prove;

/// Proofs made at once: a person asks for one.
const AT_ONCE: usize = 4;

/// Proves ways from the pods of this node.
pub(super) fn prover(pods: NodePods, reader: Reader) -> Prover {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    Arc::new(move |way| {
        let (pods, snapshot, places) = (pods.clone(), reader.load(), places.clone());
        async move {
            let Ok(_place) = places.try_acquire() else {
                return Err(format!("{AT_ONCE} proofs are being made already: ask again"));
            };
            one(&pods, &snapshot, &way).await
        }
        .boxed()
    })
}

async fn one(pods: &NodePods, snapshot: &Snapshot, way: &Way) -> Result<Value, String> {
    let Some(netns) = pods.serving(&way.from) else {
        return Err(format!("no pod with the UID {} is served here", way.from));
    };
    let unknown = || format!("no Pod with the UID {} is known here", way.from);
    let from = snapshot.workload(&way.from).ok_or_else(unknown)?;
    let to = snapshot.workload(&way.to).filter(|to| to.capture == Capture::Captured);
    let Some(to) = to else {
        return Err(format!(
            "the pod with the UID {} is not captured, as far as is known here",
            way.to
        ));
    };
    let Some(address) = address(from, to) else {
        return Err(format!(
            "{}/{} and {}/{} have no address of one family",
            from.namespace, from.name, to.namespace, to.name
        ));
    };
    let dialer = Dialer {
        netns,
        mark: None,
        options: SocketOptions::default(),
    };
    let shown = prove(&dialer, (address, ports::PROOF).into()).await;
    let (identity, took) = shown.map_err(|unproven| unproven.to_string())?;
    if identity != from.identity.to_string() {
        return Err(format!(
            "the other side took {}/{} for {identity}, which is {}",
            from.namespace, from.name, from.identity
        ));
    }
    Ok(json!({
        "identity": identity,
        "peer": to.identity.to_string(),
        "milliseconds": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    }))
}

/// The first address of `to` whose family `from` has as well.
fn address(from: &Workload, to: &Workload) -> Option<IpAddr> {
    let mut all = to.addresses.iter().copied();
    all.find(|ip| from.addresses.iter().any(|own| own.is_ipv4() == ip.is_ipv4()))
}
