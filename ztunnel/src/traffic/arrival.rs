//! What both ways into a pod have in common: judged, then connected to the application.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use act::{
    net::SocketOptions,
    telemetry::{FlowLabels, Party, Reporter, Security},
};
use decide::{
    model::{Decider, Identity, Refusal, Workload},
    snapshot::Snapshot,
    verdict::trial,
};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::{Traffic, hold::Answer, live::Tracked};

/// A connection that was let in.
pub(super) struct Admitted {
    /// The pod that was reached.
    pub(super) own: Arc<Workload>,
    /// The rule that allowed it, if one was needed.
    pub(super) allowed_by: Option<Decider>,
    /// Its application.
    pub(super) app: TcpStream,
}

/// A connection that was not.
pub(super) struct Rejected {
    /// The pod, as far as it is known.
    pub(super) own: Option<Arc<Workload>>,
    /// Why not.
    pub(super) refusal: Refusal,
}

impl Traffic {
    /// Judges a registered connection, and connects it to the application, which sees the client's address.
    pub(super) async fn admit(
        &self,
        tracked: &Tracked,
        client: SocketAddr,
        to: SocketAddr,
    ) -> Result<Admitted, Rejected> {
        let pod = self.pod();
        let own = self.own(Instant::now()).await;
        let own = own.map_err(|refusal| Rejected { own: None, refusal })?;
        let (own, allowed_by) = self.judged(tracked, client.ip()).await.map_err(|refusal| Rejected {
            own: Some(own),
            refusal,
        })?;
        let connected = timeout(pod.options.connect, pod.dialer.connect_from(client.ip(), to)).await;
        let refusal = match connected {
            Ok(Ok(app)) => {
                SocketOptions::set_local(&app);
                return Ok(Admitted { own, allowed_by, app });
            }
            Ok(Err(error)) => Refusal::ConnectFailed(to, error.to_string().into()),
            Err(_) => Refusal::DeadlineExceeded(
                format!("connecting to {to} took longer than {:?}", pod.options.connect).into(),
            ),
        };
        Err(Rejected {
            own: Some(own),
            refusal,
        })
    }

    /// The verdict. A captured client speaks HBONE: one that comes in plaintext and is refused was released a moment
    /// ago, and its node knows earlier than this one. It is held for the change that says so, then refused.
    async fn judged(&self, tracked: &Tracked, client: IpAddr) -> Result<(Arc<Workload>, Option<Decider>), Refusal> {
        let pod = self.pod();
        let captured = |snapshot: &Snapshot| snapshot.workload_at(client).is_some_and(|it| it.capture.speaks_hbone());
        self.held(Instant::now(), |snapshot| match tracked.judge(&pod.reader, &pod.uid) {
            Err(refusal) if tracked.is_plaintext() && captured(snapshot) => Answer::Later(refusal),
            judged => Answer::Now(judged),
        })
        .await?
    }

    /// What is told of a connection towards the pod.
    pub(super) fn arrival(
        &self,
        peer: Option<&Identity>,
        client: SocketAddr,
        to: SocketAddr,
        own: Option<Arc<Workload>>,
    ) -> FlowLabels {
        let would_deny = own.as_ref().and_then(|own| trial(&own.policies, peer, client.ip(), to));
        FlowLabels {
            source: Party {
                workload: self.pod().reader.load().workload_at(client.ip()).cloned(),
                identity: peer.cloned(),
                address: Some(client),
            },
            destination: Party {
                identity: own.as_ref().map(|own| own.identity.clone()),
                workload: own,
                address: Some(to),
            },
            security: peer.map_or(Security::None, |_| Security::MutualTls),
            would_deny: would_deny.map(Box::new),
            ..FlowLabels::new(Reporter::Destination)
        }
    }
}
