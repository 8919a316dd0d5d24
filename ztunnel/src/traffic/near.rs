//! Connections between two pods of this node, handed over in memory (design 13). Comes in: a client's socket, and
//! the proof of who the client is. Goes out: a socket of the application, once the other pod's own traffic has let
//! the connection in, by the verdict that HBONE would have met. Where anything is missing, HBONE it is.

use std::{
    net::SocketAddr,
    num::NonZeroU128,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

use act::{
    certs::Leaf,
    hbone::{Patience, printable, relay_plain},
    telemetry::{Connection, FlowLabels, Outcome, Security},
    tls::Peer,
};
use decide::model::{Addressed, Identity, Refusal, Workload};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{Direction, Traffic, arrival::Admitted, live::Tracked};

/// Another captured pod of this node.
pub struct Neighbour {
    /// Its connections, on the worker that asks.
    pub traffic: Traffic,
    /// Counts this one among them, for the whole pod.
    pub place: Option<OwnedSemaphorePermit>,
    /// Cancelled when all of them are to end at once.
    pub ended: CancellationToken,
}

/// Finds a pod of this node by its UID. `None`: it is not served here, or is about to be no longer.
pub type Neighbours = Arc<dyn Fn(&str) -> Option<Neighbour> + Send + Sync>;

/// Whom a connection is for.
pub(super) struct Wanted<'a> {
    /// UID of the pod.
    pub(super) workload: &'a str,
    /// Who it must be.
    pub(super) expected: &'a Identity,
    /// Its address and port.
    pub(super) to: SocketAddr,
    /// What was addressed by name, if it was.
    pub(super) service: Option<&'a Addressed>,
    /// The trace it belongs to, as both pods' logs name it.
    pub(super) trace: Option<NonZeroU128>,
}

/// A connection that the other pod let in.
pub(super) struct Arrived {
    app: TcpStream,
    tracked: Tracked,
    connection: Connection,
    ended: CancellationToken,
    _places: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl Traffic {
    /// Hands a connection of this pod to another of this node. `None`: it must take the wire, because a leaf is
    /// missing, the other pod is not served here, or the client's address is none of this pod's own, which only the
    /// wire would correct.
    pub(super) async fn hand_over(
        &self,
        leaf: &Leaf,
        source: &Workload,
        client: SocketAddr,
        wanted: &Wanted<'_>,
    ) -> Option<Result<Arrived, Refusal>> {
        let now = SystemTime::now();
        if !source.addresses.contains(&client.ip()) {
            return None;
        }
        let peer = Peer::captured_here(leaf, now).filter(|peer| *peer.identity() == source.identity)?;
        let neighbour = (self.pod().neighbours)(wanted.workload)?;
        let theirs = neighbour.traffic.pod().certificates.current(wanted.expected)?;
        Peer::captured_here(&theirs, now).filter(|peer| peer.identity() == wanted.expected)?;
        let deadline = self.pod().options.pool.deadline;
        let there = neighbour.traffic.clone();
        let arrived = timeout(deadline, there.arrive(&peer, client, wanted, neighbour)).await;
        Some(arrived.unwrap_or_else(|_| {
            Err(Refusal::DeadlineExceeded(
                format!("{} was not reached within {deadline:?}", wanted.to).into(),
            ))
        }))
    }

    /// Takes a connection of another pod of this node, as [`Traffic::hbone`] takes one from the wire.
    async fn arrive(
        &self,
        peer: &Peer,
        client: SocketAddr,
        wanted: &Wanted<'_>,
        neighbour: Neighbour,
    ) -> Result<Arrived, Refusal> {
        let (identity, to) = (peer.identity(), wanted.to);
        let labels = |own: Option<Arc<Workload>>| FlowLabels {
            service: wanted.service.cloned(),
            trace: wanted.trace,
            security: Security::SameNode,
            ..self.arrival(Some(identity), client, to, own)
        };
        let refused = |own, refusal: &Refusal| {
            Connection::refused(labels(own), refusal);
            as_told(refusal)
        };
        let place = self.place(to).map_err(|refusal| refused(None, &refusal))?;
        let tracked = self.registry().track(Direction::SameNode, client, to, Some(identity));
        let admitted = tokio::select! {
            admitted = self.admit(&tracked, client, to) => admitted,
            () = neighbour.ended.cancelled() => return Err(as_told(&Refusal::Draining)),
        };
        let Admitted { own, allowed_by, app } =
            admitted.map_err(|rejected| refused(rejected.own, &rejected.refusal))?;
        metrics::counter!("weft_same_node_connections_total").increment(1);
        Ok(Arrived {
            app,
            tracked,
            connection: Connection::open(FlowLabels {
                allowed_by: allowed_by.map(Box::new),
                ..labels(Some(own))
            }),
            ended: neighbour.ended,
            _places: (place, neighbour.place),
        })
    }
}

impl Arrived {
    /// Passes everything between the client and the application, until both have finished or either pod's side is
    /// to be cut. Tells of it for the other pod; answers how it ended for this one.
    pub(super) async fn carry(
        self,
        client: TcpStream,
        patience: &Patience,
        cut: impl Future<Output = Outcome>,
        count: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Outcome {
        let Self {
            app,
            tracked,
            mut connection,
            ended,
            _places: places,
        } = self;
        let theirs = AtomicBool::new(false);
        let stop = async {
            tokio::select! {
                outcome = cut => outcome,
                outcome = tracked.cut() => {
                    theirs.store(true, Relaxed);
                    outcome
                }
                () = ended.cancelled() => Outcome::Drained,
            }
        };
        let outcome = relay_plain(client, app, patience, stop, &mut |sent, received| {
            count(sent, received);
            connection.count(sent, received);
        })
        .await;
        let other = match &outcome {
            Outcome::Cut(refusal) => Outcome::Reset(format!("the other pod's side was cut: {refusal}").into()),
            outcome => outcome.clone(),
        };
        let (here, there) = if theirs.load(Relaxed) {
            (other, outcome)
        } else {
            (outcome, other)
        };
        connection.finish(&there);
        drop(places);
        here
    }
}

/// A refusal as the client's side hears it through HBONE: so much, and no more.
fn as_told(refusal: &Refusal) -> Refusal {
    let said = format!("{}: {}", refusal.label(), printable(&refusal.to_string()));
    Refusal::RefusedByPeer(refusal.status(), said.into())
}
