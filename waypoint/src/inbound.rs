//! Tunnels of clients, and the streams in them: HBONE in, bound authorities only.

use std::{net::SocketAddr, sync::Arc};

use act::{
    hbone::{Incoming, Stream, Tunnel},
    telemetry::{Connection, FlowLabels, Party, Reporter, Security},
    tls::Peer,
};
use bytes::Bytes;
use decide::{
    hop::{Bound, bound},
    model::Refusal,
    verdict::{self, Facts, Verdict, verdict},
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    activity::{Activity, Watched},
    client::{Client, told},
    detect::{Protocol, detect},
    http_server, opaque,
    waypoint::Waypoint,
};

/// What the configuration says a port speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// HTTP: other bytes are refused.
    Http,
    /// No HTTP: passed on as it is.
    Opaque,
    /// Either: what the bytes look like decides.
    Unknown,
}

/// Serves one tunnel from its handshake to its end. Asked to drain, it takes no new streams and serves those
/// there are.
pub(crate) async fn tunnel(waypoint: Arc<Waypoint>, socket: TcpStream, remote: SocketAddr) {
    let (mut tunnel, peer) = match accept(&waypoint, socket).await {
        Ok(accepted) => accepted,
        Err(refusal) => {
            let labels = labels(Party {
                address: Some(remote),
                ..Party::default()
            });
            Connection::refused(labels, &refusal);
            return;
        }
    };
    let draining = waypoint.draining.clone();
    let mut leaving = false;
    loop {
        tokio::select! {
            incoming = tunnel.next() => match incoming {
                Some(incoming) => {
                    tokio::spawn(stream(waypoint.clone(), incoming, peer.clone(), remote));
                }
                None => return,
            },
            () = draining.cancelled(), if !leaving => {
                leaving = true;
                tunnel.drain();
            }
        }
    }
}

async fn accept(waypoint: &Waypoint, socket: TcpStream) -> Result<(Tunnel, Peer), Refusal> {
    let no_leaf = |why: &str| Refusal::NoCertificate(waypoint.identity.clone(), why.into());
    let leaf = timeout(waypoint.settings.hold, waypoint.certificates.leaf(&waypoint.identity))
        .await
        .map_err(|_| no_leaf("none arrived in time"))?
        .map_err(|error| no_leaf(&error.to_string()))?;
    Tunnel::accept(socket, &leaf, &waypoint.settings.tunnel).await
}

/// Serves one stream.
async fn stream(waypoint: Arc<Waypoint>, incoming: Incoming, peer: Peer, remote: SocketAddr) {
    let asked = match incoming.authority() {
        Ok(authority) => is_bound(&waypoint, peer.identity().namespace(), authority)
            .await
            .map(|bound| (authority, bound)),
        Err(refusal) => Err(refusal),
    };
    let (authority, bound) = match asked {
        Ok(asked) => asked,
        Err(refusal) => {
            let labels = labels(Party {
                identity: Some(peer.identity().clone()),
                address: Some(remote),
                ..Party::default()
            });
            Connection::refused(labels, &refusal);
            incoming.refuse(&refusal);
            return;
        }
    };
    let snapshot = waypoint.reader.load();
    let from_waypoint = || {
        let mut waypoints = snapshot.waypoints.values();
        waypoints.any(|other| other.identity == *peer.identity())
    };
    let client = Client {
        told: told(incoming.headers(), remote, from_waypoint),
        waypoint,
        peer,
        remote,
        authority,
        trace: incoming.traceparent(),
        activity: Activity::new(),
    };
    let spoken = spoken(&client, &bound);
    drop((snapshot, bound));
    if spoken == Spoken::Opaque {
        match opaque::open(&client).await {
            Ok(opened) => {
                if let Ok(stream) = incoming.accept() {
                    let io = Watched::new(Bytes::new(), stream.into_io(), client.activity.clone());
                    opened.serve(&client, io).await;
                }
            }
            Err(refusal) => incoming.refuse(&refusal),
        }
    } else if let Ok(stream) = incoming.accept() {
        serve(client, stream, spoken).await;
    }
}

/// What an authority is bound to; waits for the first configuration.
async fn is_bound(waypoint: &Waypoint, namespace: &str, authority: SocketAddr) -> Result<Bound, Refusal> {
    let deadline = Instant::now() + waypoint.settings.hold;
    let mut reader = waypoint.reader.clone();
    let mut snapshot = reader.load();
    loop {
        let known = bound(&snapshot, &waypoint.key, namespace, authority).and_then(|bound| {
            waypoint.own(&snapshot)?;
            Ok(bound)
        });
        match known {
            Err(Refusal::NotConfigured) => {}
            known => return known,
        }
        snapshot = timeout_at(deadline, reader.changed())
            .await
            .map_err(|_| Refusal::NotConfigured)?;
    }
}

/// Serves the bytes of a stream as what they are.
async fn serve(client: Client, stream: Stream, spoken: Spoken) {
    let settings = &client.waypoint.settings;
    // Where HTTP is due, silence is a client that has not asked yet.
    let patience = match spoken {
        Spoken::Http => settings.idle,
        Spoken::Unknown | Spoken::Opaque => settings.detect_timeout,
    };
    let mut io = stream.into_io();
    let Ok((protocol, first)) = detect(&mut io, Some(patience)).await else {
        return;
    };
    let io = Watched::new(first.clone(), io, client.activity.clone());
    match (protocol, spoken) {
        (Protocol::Opaque, Spoken::Http) => {
            // A client that left without a word asked for nothing.
            if !first.is_empty() {
                let refusal = Refusal::Malformed("neither HTTP/1 nor HTTP/2 on a port that speaks HTTP".into());
                Connection::refused(labels(client.source()), &refusal);
            }
        }
        (Protocol::Opaque, _) => {
            if let Ok(opened) = opaque::open(&client).await {
                opened.serve(&client, io).await;
            }
        }
        (Protocol::Http1 | Protocol::Http2, _) => http_server::serve(Arc::new(client), protocol, io).await,
    }
}

/// What a port speaks: as declared; HTTP too where routes stand, or where a policy must read it.
fn spoken(client: &Client, bound: &Bound) -> Spoken {
    let (declared, routed) = match bound {
        Bound::Service(service, port) => {
            let port = service.ports.iter().find(|it| it.port == *port);
            let told = port.and_then(|port| port.app_protocol.as_deref());
            (declared(told), !service.routes.is_empty())
        }
        Bound::External(service, port) => {
            let port = service.port(*port);
            (
                declared(port.as_ref().and_then(|port| port.app_protocol.as_deref())),
                false,
            )
        }
        Bound::Workload(..) => (Spoken::Unknown, false),
    };
    let set = match bound {
        Bound::Service(service, _) => &service.policies,
        Bound::Workload(workload, _) => &workload.policies,
        Bound::External(service, _) => &service.policies,
    };
    let facts = Facts {
        client: verdict::Client::Known {
            peer: Some(client.peer.identity()),
            address: client.remote.ip(),
        },
        destination: client.authority,
        request: None,
    };
    let needs_http = || matches!(verdict(set, &facts), Verdict::NeedsWaypoint(_));
    match declared {
        Spoken::Unknown if routed || needs_http() => Spoken::Http,
        declared => declared,
    }
}

/// What an `appProtocol` means.
fn declared(told: Option<&str>) -> Spoken {
    match told {
        Some("http" | "http2" | "grpc" | "h2c" | "kubernetes.io/h2c" | "kubernetes.io/ws") => Spoken::Http,
        Some("tcp" | "tls" | "https" | "kubernetes.io/wss" | "mysql" | "mongo" | "redis" | "postgres") => {
            Spoken::Opaque
        }
        Some(_) | None => Spoken::Unknown,
    }
}

fn labels(source: Party) -> FlowLabels {
    FlowLabels {
        source,
        security: Security::MutualTls,
        ..FlowLabels::new(Reporter::Waypoint)
    }
}
