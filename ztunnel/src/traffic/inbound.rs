//! Connections towards the pod that came by HBONE.

use std::{net::SocketAddr, pin::pin, sync::Arc};

use act::{
    hbone::{Incoming, Tunnel, relay},
    net::reset,
    telemetry::{Connection, FlowLabels, Outcome},
    tls::Peer,
};
use decide::model::{Addressed, Refusal, ServiceKey, Workload};
use tokio::{net::TcpStream, time::Instant};

use super::{Direction, Traffic, arrival::Admitted, bounds::HANDSHAKES, proof};

/// Who is behind the streams of one tunnel.
struct Behind {
    peer: Peer,
    client: SocketAddr,
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
                        let (traffic, behind) = (self.clone(), behind.clone());
                        tokio::spawn(async move { traffic.stream(incoming, &behind).await });
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
    async fn stream(&self, mut incoming: Incoming, behind: &Behind) {
        let (identity, client) = (behind.peer.identity(), behind.client);
        let asked = incoming.authority();
        if let Some(to) = asked.as_ref().ok().copied().filter(|to| proof::is_meant(*to)) {
            return Box::pin(self.prove(incoming, behind.peer.identity(), to)).await;
        }
        let to = asked.clone().unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let service = self.service_named(incoming.host());
        let trace = incoming.traceparent().map(|trace| trace.trace());
        let labels = |own: Option<Arc<Workload>>| FlowLabels {
            service: service.clone(),
            trace,
            ..self.arrival(Some(identity), client, to, own)
        };
        let _place = match asked.and_then(|to| self.place(to)) {
            Ok(place) => place,
            Err(refusal) => {
                Connection::refused(labels(None), &refusal);
                return incoming.refuse(&refusal);
            }
        };
        let mut tracked = self.registry().track(Direction::Inbound, client, to, Some(identity));
        let admitted = tokio::select! {
            // Boxed, so that a connection that only relays keeps no room for how it came about.
            admitted = Box::pin(self.admit(&tracked, client, to)) => admitted,
            () = incoming.gone() => return,
        };
        let Admitted { own, allowed_by, app } = match admitted {
            Ok(admitted) => admitted,
            Err(rejected) => {
                Connection::refused(labels(rejected.own), &rejected.refusal);
                return incoming.refuse(&rejected.refusal);
            }
        };
        let mut connection = Connection::open(FlowLabels {
            allowed_by,
            ..labels(Some(own))
        });
        let outcome = match incoming.accept() {
            Ok(stream) => {
                let patience = self.patience();
                relay(app, stream, patience, pin!(tracked.cut()), &mut |received, sent| {
                    connection.count(sent, received);
                })
                .await
            }
            Err(error) => {
                reset(app);
                Outcome::Reset(error.to_string().into())
            }
        };
        connection.finish(&outcome);
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
            |(traffic, incoming, behind): (&'static Traffic, Incoming, &'static Behind)| {
                traffic.stream(incoming, behind)
            },
        );
        assert!(bytes <= 2304, "{bytes} bytes");
    }
}
