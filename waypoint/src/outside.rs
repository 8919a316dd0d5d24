//! Hosts outside the mesh that a request or connection goes to: resolved before anybody can be connected to.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use decide::{
    hop::hop_to_resolved,
    model::{ExternalService, Refusal, Workload},
    pick::Choice,
    snapshot::Snapshot,
};
use tokio::time::timeout;

use crate::{
    choose::{Choosing, Chosen, Judged, outward},
    waypoint::Waypoint,
};

/// A host that is to be resolved, for what was allowed to go there.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unresolved {
    /// The ExternalService that was addressed.
    pub(crate) service: Arc<ExternalService>,
    /// Name to resolve.
    pub(crate) host: Arc<str>,
    /// Port to connect to.
    pub(crate) port: u16,
    /// What the policies said.
    pub(crate) judged: Judged,
}

impl Waypoint {
    /// What was chosen, its host resolved if it has one. `own`: our own pod; `avoid`: what failed a moment ago.
    ///
    /// # Errors
    /// Why it cannot be reached.
    pub(crate) async fn settle(
        &self,
        choosing: Choosing,
        snapshot: &Snapshot,
        own: &Workload,
        avoid: &[SocketAddr],
    ) -> Result<Chosen, Refusal> {
        let unresolved = match choosing {
            Choosing::Chosen(chosen) => return Ok(chosen),
            Choosing::Unresolved(unresolved) => unresolved,
        };
        let Unresolved {
            service, host, port, ..
        } = &unresolved;
        let nowhere = |why: Arc<str>| Refusal::NoExternalEndpoint(service.key.clone(), why);
        let found = timeout(self.settings.resolve, self.names.addresses(host))
            .await
            .map_err(|_| nowhere(format!("{host} is not resolved in time").into()))?
            .map_err(nowhere)?;
        let addresses: Vec<SocketAddr> = found.iter().map(|address| SocketAddr::new(*address, *port)).collect();
        let load = |address: IpAddr| self.loads.of(address);
        let choice = Choice {
            random: fastrand::u64(..),
            load: &load,
            avoid,
        };
        let hop = hop_to_resolved(snapshot, own, service, &addresses, &choice);
        let chosen = outward(&hop, SocketAddr::new(IpAddr::from([0, 0, 0, 0]), *port))?;
        Ok(Chosen {
            judged: unresolved.judged,
            ..chosen
        })
    }
}
