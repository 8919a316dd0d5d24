//! The proof of a way. Comes in: a connection that was made inside a captured pod to the proof port (15022) of another
//! captured pod. Goes out: one line from that pod's ztunnel, which names the identity it saw; or one from the ztunnel
//! on this side, which says why not. Never: a byte to or from an application, or a policy asked.
//!
//! A socket without our mark, in the pod's own namespace, goes the whole way that the pod's connections go: redirect,
//! outbound listener, certificate, HBONE over the wire, the other side's listener and its look at who we are. So the
//! line proves capture on both nodes; an application could not write it, for it never learns the peer's identity. A
//! pod may ask as well: it is told its own name, and nothing that a refused CONNECT does not say.

use std::{net::SocketAddr, time::Duration};

use act::{
    hbone::Incoming,
    net::{Dialer, reset},
    telemetry::{Connection, FlowLabels},
};
use bytes::Bytes;
use decide::model::{Identity, Refusal, ports};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

use super::Traffic;

/// Begins the line of a way that was proven; the identity follows.
const PROVEN: &str = "proven ";
/// Begins the line of a way that was not; the reason follows.
const REFUSED: &str = "refused ";
/// The longest line that is read.
const LONGEST: u64 = 4096;
/// How long a line may take to be written.
const WRITTEN: Duration = Duration::from_secs(5);
/// How long a proof may take: longer than a dial, so that a dial's own reason is heard.
const PATIENCE: Duration = Duration::from_secs(12);

/// Why a way was not proven.
#[derive(Debug, thiserror::Error)]
pub enum Unproven {
    /// The pod's own network did not let us out, or not to the ztunnel.
    #[error("no connection from inside the pod to {0}: {1}; the redirect of the pod's connections does not work")]
    NotRedirected(SocketAddr, std::io::Error),
    /// A ztunnel refused; its own words.
    #[error("{0}")]
    Refused(String),
    /// Something answered that was no ztunnel.
    #[error("{0} was answered by something that is no ztunnel: the connection was not captured")]
    Stranger(SocketAddr),
    /// Nobody answered in time.
    #[error(
        "{0} was not answered within {1:?}; a NetworkPolicy that does not admit TCP port 15008 to the pod is a likely cause"
    )]
    Late(SocketAddr, Duration),
}

/// Proves the way from the pod that `dialer` makes sockets in to another pod's address; who we were to the other side.
///
/// # Errors
/// [`Unproven`], with the reason of the side that refused.
pub async fn prove(dialer: &Dialer, to: SocketAddr) -> Result<(String, Duration), Unproven> {
    let since = Instant::now();
    let to = SocketAddr::new(to.ip(), ports::PROOF);
    // Unmarked: the rules redirect it as they redirect the application's.
    let dialer = Dialer {
        mark: None,
        ..dialer.clone()
    };
    let line = timeout(PATIENCE, async {
        let mut socket = dialer.connect(to).await?;
        let mut line = String::new();
        (&mut socket).take(LONGEST).read_to_string(&mut line).await?;
        Ok::<_, std::io::Error>(line)
    });
    match line.await {
        Err(_) => Err(Unproven::Late(to, PATIENCE)),
        Ok(Err(error)) => Err(Unproven::NotRedirected(to, error)),
        Ok(Ok(line)) => match (
            line.trim_end().strip_prefix(PROVEN),
            line.trim_end().strip_prefix(REFUSED),
        ) {
            (Some(identity), _) => Ok((identity.to_owned(), since.elapsed())),
            (_, Some(reason)) => Err(Unproven::Refused(reason.to_owned())),
            _ => Err(Unproven::Stranger(to)),
        },
    }
}

/// Whether a connection to this address is a proof.
pub(super) fn is_meant(to: SocketAddr) -> bool {
    to.port() == ports::PROOF
}

/// Tells in one line why a way is not there.
pub(super) async fn tell(mut socket: TcpStream, labels: FlowLabels, refusal: &Refusal) {
    Connection::refused(labels, refusal);
    let line = format!("{REFUSED}{refusal}\n");
    let told = timeout(WRITTEN, async {
        socket.write_all(line.as_bytes()).await?;
        socket.shutdown().await
    });
    if !matches!(told.await, Ok(Ok(()))) {
        reset(socket);
    }
}

impl Traffic {
    /// Answers a proof in the place of the pod: who the other side is to us.
    pub(super) async fn prove(&self, incoming: Incoming, peer: &Identity, to: SocketAddr) {
        let own = match self.own(Instant::now()).await {
            Ok(own) if own.addresses.contains(&to.ip()) => self.room(),
            Ok(_) => Err(Refusal::NotOurs(to)),
            Err(refusal) => Err(refusal),
        };
        let _place = match own {
            Ok(place) => place,
            Err(refusal) => return incoming.refuse(&refusal),
        };
        let Ok(stream) = incoming.accept() else { return };
        let (mut receiver, mut sender) = stream.split();
        let told = timeout(WRITTEN, sender.write(Bytes::from(format!("{PROVEN}{peer}\n"))));
        if !matches!(told.await, Ok(Ok(()))) || sender.finish().is_err() {
            return sender.reset();
        }
        // Its end, so that no reset overtakes the line; a window of it at most, for nothing is given back.
        let _ = timeout(WRITTEN, async { while let Ok(Some(_)) = receiver.chunk().await {} }).await;
    }
}
