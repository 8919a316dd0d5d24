//! Connections that the pod makes.

use std::{net::SocketAddr, sync::Arc};

use act::{
    hbone::{relay, relay_plain},
    net::{SocketOptions, reset},
    telemetry::{Connection, FlowLabels},
};
use decide::{
    hop::{Hop, hop, hop_to_resolved},
    model::{Refusal, Workload},
    pick::Choice,
    snapshot::Snapshot,
};
use tokio::{
    io::Interest,
    net::TcpStream,
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, timeout},
};

use super::{
    Direction, Traffic,
    courtesy::refuse_kindly,
    hold::Answer,
    leg::{Leg, Way, departure},
    live::{Asked, Judged, Tracked},
    loads::Load,
    pod::refuse,
    proof,
    retry::{Retry, is_the_endpoints},
};
use crate::dns::{self, Names};

/// Where name servers listen (RFC 1035 4.2).
const NAME_SERVER: u16 = 53;

/// A connection whose destination was reached, with what counts it.
struct Departed {
    socket: TcpStream,
    way: Way,
    connection: Connection,
    tracked: Tracked,
    load: Load,
    place: OwnedSemaphorePermit,
}

/// A destination that was reached.
struct Reached {
    labels: Box<FlowLabels>,
    way: Way,
    load: Load,
    /// What judges it here, if something outside was addressed.
    judging: Box<[Asked]>,
}

/// A destination that was not.
struct Unreached {
    labels: Box<FlowLabels>,
    refusal: Refusal,
    /// Whether a waypoint was on the way: then HTTP must have been meant.
    waypoint: bool,
}

/// What a snapshot says.
type Said = (Arc<Snapshot>, Arc<Workload>, Hop);

impl Traffic {
    /// The whole life of a connection that the pod's application made.
    pub fn outbound(&self, socket: TcpStream) -> impl Future<Output = ()> + use<> {
        let (traffic, departing) = (self.clone(), self.clone());
        // Boxed, and made here: a connection that only relays keeps no room for how it came about.
        let departing = Box::pin(async move { departing.depart(socket).await });
        async move {
            let Some(Departed {
                socket,
                way,
                mut connection,
                tracked,
                load,
                place,
            }) = departing.await
            else {
                return;
            };
            let patience = traffic.patience();
            let mut count = |sent, received| connection.count(sent, received);
            let cut = tracked.cut();
            let outcome = match way {
                Way::Tunnel(stream) => relay(socket, stream, patience, cut, &mut count).await,
                // Boxed, so that those in tunnels keep no room for these.
                Way::Plain(server) => Box::pin(relay_plain(socket, server, patience, cut, &mut count)).await,
                Way::Near(arrived) => Box::pin(arrived.carry(socket, patience, cut, &mut count)).await,
            };
            drop((load, place));
            connection.finish(&outcome);
        }
    }

    /// Reaches the destination. `None`: the connection is over, and was told of.
    async fn depart(&self, socket: TcpStream) -> Option<Departed> {
        let Some((client, to)) = self.ends(&socket) else {
            reset(socket);
            return None;
        };
        SocketOptions::set_local(&socket);
        let place = if proof::is_meant(to) {
            self.room()
        } else {
            self.place(to)
        };
        let place = match place {
            Ok(place) => place,
            Err(refusal) => {
                refuse(socket, departure(None, client, to), &refusal);
                return None;
            }
        };
        let socket = match to.port() {
            NAME_SERVER => self.unless_named(socket).await?,
            _ => socket,
        };
        let mut tracked = self.registry().track(Direction::Outbound, client, to, None);
        let reached = tokio::select! {
            reached = self.reach(client, to) => reached,
            // The client is gone: nobody is left to dial for.
            _ = socket.ready(Interest::ERROR) => return None,
        };
        let reached = reached.and_then(|reached| self.still(&mut tracked, reached));
        let Reached { labels, way, load, .. } = match reached {
            Ok(reached) => reached,
            Err(unreached) => {
                self.turn_away(socket, to, unreached).await;
                return None;
            }
        };
        Some(Departed {
            socket,
            way,
            connection: Connection::open(labels),
            tracked,
            load,
            place,
        })
    }

    /// Takes note of who makes a connection, and judges it by what holds now if it goes outside: what held when its way
    /// was chosen may be long ago, and from now on it is judged again whenever that changes.
    fn still(&self, tracked: &mut Tracked, mut reached: Reached) -> Result<Reached, Unreached> {
        let Some(source) = &reached.labels.source.workload else {
            return Ok(reached);
        };
        tracked.departs(source);
        if reached.judging.is_empty() {
            return Ok(reached);
        }
        let judging = std::mem::take(&mut reached.judging);
        match tracked.judge_outside(&self.pod().reader, source, judging) {
            Ok(Judged { allowed_by, would_deny }) => {
                reached.labels.allowed_by = allowed_by.map(Box::new);
                reached.labels.would_deny = would_deny.map(Box::new);
                Ok(reached)
            }
            Err(refusal) => Err(Unreached {
                labels: reached.labels,
                refusal,
                waypoint: false,
            }),
        }
    }

    /// Tells a client, in the way it understands, that its destination was not reached.
    async fn turn_away(&self, socket: TcpStream, to: SocketAddr, unreached: Unreached) {
        let Unreached {
            labels,
            refusal,
            waypoint,
        } = unreached;
        if proof::is_meant(to) {
            proof::tell(socket, *labels, &refusal).await;
        } else if waypoint {
            refuse_kindly(socket, *labels, &refusal, self.pod().options.courtesy).await;
        } else {
            refuse(socket, *labels, &refusal);
        }
    }

    /// Answers a connection to a name server itself, if it asks for a name that only the mesh knows.
    async fn unless_named(&self, socket: TcpStream) -> Option<TcpStream> {
        let pod = self.pod();
        let names = Names {
            uid: pod.uid.clone(),
            reader: pod.reader.clone(),
            netns: pod.dialer.netns.clone(),
            queries: pod.options.queries,
        };
        match names.any() {
            true => dns::serve_stream(&names, socket).await,
            false => Some(socket),
        }
    }

    /// Reaches the destination: by another endpoint, or once more, where that may help. Nothing was sent yet.
    async fn reach(&self, client: SocketAddr, to: SocketAddr) -> Result<Reached, Unreached> {
        let failed = self.failures().recent(Instant::now());
        let mut retry = Retry::new(&self.pod().options, failed);
        let mut last: Option<Unreached> = None;
        loop {
            let (snapshot, source, hop) = match self.hop(retry.since(), to, retry.avoid()).await {
                Ok(said) => said,
                Err(refusal) => {
                    let own = self.pod().reader.load().workload(&self.pod().uid).cloned();
                    return Err(Unreached {
                        labels: Box::new(departure(own.as_ref(), client, to)),
                        waypoint: matches!(refusal, Refusal::WaypointUnavailable(_)),
                        refusal,
                    });
                }
            };
            let mut leg = Leg::new(&snapshot, &source, hop, client, to);
            if let Some(last) = last.take_if(|_| retry.tried(leg.endpoint)) {
                match retry.pause() {
                    Some(pause) => sleep(pause).await,
                    None => return Err(last),
                }
            }
            let load = self.loads().add(leg.endpoint.ip());
            let refusal = match self.follow(&mut leg, &source, client, retry.since()).await {
                Ok(way) => {
                    self.failures().forget(leg.endpoint);
                    return Ok(Reached {
                        labels: Box::new(leg.labels),
                        way,
                        load,
                        judging: leg.judging,
                    });
                }
                Err(refusal) => refusal,
            };
            if is_the_endpoints(&refusal) {
                self.failures().note(leg.endpoint, Instant::now());
            }
            let again = retry.may_help(leg.endpoint, leg.dialled(), &refusal);
            let unreached = Unreached {
                waypoint: leg.is_waypoint(),
                labels: Box::new(leg.labels),
                refusal,
            };
            if !again {
                return Err(unreached);
            }
            last = Some(unreached);
        }
    }

    /// Where to, by the first snapshot that says it.
    async fn hop(&self, since: Instant, to: SocketAddr, avoid: &[SocketAddr]) -> Result<Said, Refusal> {
        let said = self.held_hop(since, to, avoid).await?;
        let (snapshot, source, Hop::Resolve { service, host, port }) = said else {
            return Ok(said);
        };
        let found = timeout(self.pod().options.connect, self.pod().options.names.addresses(&host)).await;
        let nowhere = |why: Arc<str>| Refusal::NoExternalEndpoint(service.key.clone(), why);
        let found = found
            .map_err(|_| nowhere(format!("{host} is not resolved in time").into()))?
            .map_err(nowhere)?;
        let addresses: Vec<SocketAddr> = found.iter().map(|address| SocketAddr::new(*address, port)).collect();
        let choice = Choice {
            random: fastrand::u64(..),
            load: &|address| self.loads().of(address),
            avoid,
        };
        match hop_to_resolved(&snapshot, &source, &service, &addresses, &choice) {
            Hop::Hold(refusal) | Hop::Refuse(refusal) => Err(refusal),
            hop => Ok((snapshot, source, hop)),
        }
    }

    async fn held_hop(&self, since: Instant, to: SocketAddr, avoid: &[SocketAddr]) -> Result<Said, Refusal> {
        self.held(since, |snapshot| {
            let Some(source) = snapshot.workload(&self.pod().uid) else {
                return Answer::Later(Refusal::NotConfigured);
            };
            let choice = Choice {
                random: fastrand::u64(..),
                load: &|address| self.loads().of(address),
                avoid,
            };
            match hop(snapshot, source, to, &choice) {
                Hop::Hold(refusal) => Answer::Later(refusal),
                Hop::Refuse(refusal) => Answer::Now(Err(refusal)),
                hop => Answer::Now(Ok((snapshot.clone(), source.clone(), hop))),
            }
        })
        .await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<T, F: Future>(_life: impl Fn(T) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_outbound_connection_is_a_small_task() {
        let bytes = size(|(traffic, socket): (&'static Traffic, TcpStream)| traffic.outbound(socket));
        assert!(bytes <= 640, "{bytes} bytes");
    }
}
