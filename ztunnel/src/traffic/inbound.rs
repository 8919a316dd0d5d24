//! Connections towards the pod that came by HBONE.

use std::{net::SocketAddr, sync::Arc};

use act::{
    hbone::{Incoming, Stream, Tunnel, relay},
    net::reset,
    telemetry::{Connection, FlowLabels, Outcome},
    tls::Peer,
};
use decide::model::{Addressed, Refusal, ServiceKey, Workload};
use tokio::{net::TcpStream, sync::OwnedSemaphorePermit, time::Instant};

use super::{Direction, Traffic, arrival::Admitted, bounds::HANDSHAKES, live::Tracked, proof};

/// Who is behind the streams of one tunnel.
struct Behind {
    peer: Peer,
    client: SocketAddr,
}

/// A stream whose application was reached, with what counts it.
struct Arrived {
    stream: Stream,
    app: TcpStream,
    connection: Connection,
    tracked: Tracked,
    place: OwnedSemaphorePermit,
}

impl Traffic {
    /// The whole life of an HBONE connection towards the pod, and of every stream in it.
    pub async fn hbone(&self, socket: TcpStream) {
        let Some((client, to)) = self.ends(&socket) else {
            return reset(socket);
        };
        let handshake = self.handshakes().begin();
        let accepted = tokio::select! {
            accepted = Box::pin(self.authenticated(socket)) => accepted,
            () = handshake.ousted() => Err(HANDSHAKES.reached(self.pod().options.unauthenticated)),
        };
        drop(handshake);
        let (mut tunnel, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(refusal) => return Connection::refused(self.arrival(None, client, to, None), &refusal),
        };
        let behind = Arc::new(Behind { peer, client });
        let mut leaving = false;
        loop {
            tokio::select! {
                incoming = tunnel.next() => match incoming {
                    Some(incoming) => {
                        tokio::spawn(self.stream(incoming, behind.clone()));
                    }
                    None => return,
                },
                () = self.draining().cancelled(), if !leaving => {
                    leaving = true;
                    tunnel.drain();
                }
            }
        }
    }

    async fn authenticated(&self, socket: TcpStream) -> Result<(Tunnel, Peer), Refusal> {
        let since = Instant::now();
        let own = self.own(since).await?;
        let leaf = self.leaf(&own.identity, since).await?;
        Tunnel::accept(socket, &leaf, self.tunnel()).await
    }

    /// The whole life of one CONNECT.
    fn stream(&self, incoming: Incoming, behind: Arc<Behind>) -> impl Future<Output = ()> + use<> {
        let (traffic, arriving) = (self.clone(), self.clone());
        // Boxed, and made here: a connection that only relays keeps no room for how it came about.
        let arriving = Box::pin(async move { arriving.arrive_by_hbone(incoming, &behind).await });
        async move {
            let Some(Arrived {
                stream,
                app,
                mut connection,
                tracked,
                place,
            }) = arriving.await
            else {
                return;
            };
            let mut count = |received, sent| connection.count(sent, received);
            let outcome = relay(app, stream, traffic.patience(), tracked.cut(), &mut count).await;
            drop(place);
            connection.finish(&outcome);
        }
    }

    /// Judges what a CONNECT asks for, and connects it to the application. `None`: it came to nothing, and was told of.
    async fn arrive_by_hbone(&self, mut incoming: Incoming, behind: &Behind) -> Option<Arrived> {
        let (identity, client) = (behind.peer.identity(), behind.client);
        let asked = incoming.authority();
        if let Some(to) = asked.as_ref().ok().copied().filter(|to| proof::is_meant(*to)) {
            self.prove(incoming, behind.peer.identity(), to).await;
            return None;
        }
        let to = asked.clone().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let service = self.service_named(incoming.host());
        let trace = incoming.traceparent().map(|trace| trace.trace());
        let labels = |own: Option<Arc<Workload>>| FlowLabels {
            service: service.clone(),
            trace,
            ..self.arrival(Some(identity), client, to, own)
        };
        let place = match asked.and_then(|to| self.place(to)) {
            Ok(place) => place,
            Err(refusal) => {
                Connection::refused(labels(None), &refusal);
                incoming.refuse(&refusal);
                return None;
            }
        };
        let tracked = self.registry().track(Direction::Inbound, client, to, Some(identity));
        let admitted = tokio::select! {
            admitted = self.admit(&tracked, client, to) => admitted,
            () = incoming.gone() => return None,
        };
        let Admitted { own, allowed_by, app } = match admitted {
            Ok(admitted) => admitted,
            Err(rejected) => {
                Connection::refused(labels(rejected.own), &rejected.refusal);
                incoming.refuse(&rejected.refusal);
                return None;
            }
        };
        let connection = Connection::open(FlowLabels {
            allowed_by: allowed_by.map(Box::new),
            ..labels(Some(own))
        });
        match incoming.accept() {
            Ok(stream) => Some(Arrived {
                stream,
                app,
                connection,
                tracked,
                place,
            }),
            Err(error) => {
                reset(app);
                connection.finish(&Outcome::Reset(error.to_string().into()));
                None
            }
        }
    }

    /// The Service of this host name (`<name>.<namespace>.svc…`), if there is one: a label, not a fact.
    fn service_named(&self, host: Option<&str>) -> Option<Addressed> {
        let mut parts = host?.splitn(3, '.');
        let key = ServiceKey {
            name: parts.next()?.into(),
            namespace: parts.next()?.into(),
        };
        self.pod()
            .reader
            .load()
            .services
            .get(&key)
            .map(|service| Addressed::Service(service.key.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<T, F: Future>(_life: impl Fn(T) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_inbound_connection_is_a_small_task() {
        let bytes = size(
            |(traffic, incoming, behind): (&'static Traffic, Incoming, Arc<Behind>)| traffic.stream(incoming, behind),
        );
        assert!(bytes <= 640, "{bytes} bytes");
    }
}
