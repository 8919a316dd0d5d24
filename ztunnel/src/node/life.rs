//! One pod's life in the ztunnel, as one task.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use act::{
    certs::{Certificates, Hold},
    config::Reader,
    net::{Dialer, Netns, SocketOptions, original_destination},
    process::Workers,
};
use decide::model::{Identity, SO_MARK};
use serde::Serialize;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    doors::{Doors, is_dead},
    share::Share,
};
use crate::{
    traffic::{self, TrafficOptions},
    zds,
};

/// How often what a pod waits for is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a released pod's namespace is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What every pod of this node shares.
#[derive(Clone)]
pub struct Settings {
    /// The name of this node.
    pub node: Arc<str>,
    /// What should be.
    pub reader: Reader,
    /// Who we are.
    pub certificates: Certificates,
    /// Where connections live.
    pub workers: Workers,
    /// Bounds and timers of connections; those of a pod in all are [`TrafficOptions::connections`].
    pub traffic: Arc<TrafficOptions>,
    /// How long the listeners of a released pod serve on.
    pub drain: Duration,
    /// Cancelled when the process is to end: listeners close, connections run out.
    pub stopping: CancellationToken,
}

/// How a pod is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PodState {
    /// Not yet, and why.
    Waiting(String),
    /// Its listeners are open and its leaf is there.
    Serving,
    /// Released: its listeners serve on for a while.
    Draining,
    /// Its listeners are closed; connections run out.
    Closed,
}

/// One pod's task.
pub(super) struct Life {
    pub(super) pod: zds::Pod,
    pub(super) netns: Netns,
    pub(super) home: usize,
    pub(super) settings: Settings,
    /// Whether it is to be served.
    pub(super) wanted: watch::Receiver<bool>,
    pub(super) state: watch::Sender<PodState>,
    pub(super) share: watch::Sender<Option<Share>>,
}

impl Life {
    /// Until the pod is released and the last of its connections has ended.
    pub(super) async fn run(self) {
        let mut wanted = self.wanted.clone();
        loop {
            let ready = tokio::select! {
                biased;
                () = is(&mut wanted, false) => return,
                () = self.settings.stopping.cancelled() => return,
                ready = self.prepare() => ready,
            };
            let Some((hold, doors, share)) = ready else { return };
            let close = CancellationToken::new();
            if doors.accept(&share, &close).is_err() {
                return;
            }
            self.share.send_replace(Some(share.clone()));
            self.serve(&mut wanted).await;
            close.cancel();
            self.state.send_replace(PodState::Closed);
            let mut out = Box::pin(run_out(share, hold, self.netns.clone()));
            tokio::select! {
                biased;
                () = is(&mut wanted, true), if !self.settings.stopping.is_cancelled() => {}
                () = &mut out => return,
            }
            // wanted again: new doors, while what lives behind the old ones runs out
            self.state
                .send_replace(PodState::Waiting("its listeners are opened again".to_owned()));
            tokio::spawn(out);
        }
    }

    /// Listeners are open: serves until released and drained, or until the process ends.
    async fn serve(&self, wanted: &mut watch::Receiver<bool>) {
        loop {
            self.state.send_replace(PodState::Serving);
            tracing::info!(pod = %self.pod.name, namespace = %self.pod.namespace, uid = %self.pod.uid, "serving a pod");
            tokio::select! {
                () = self.settings.stopping.cancelled() => return,
                () = is(wanted, false) => {}
            }
            self.state.send_replace(PodState::Draining);
            tracing::info!(pod = %self.pod.name, namespace = %self.pod.namespace, uid = %self.pod.uid, "a pod is released");
            tokio::select! {
                () = self.settings.stopping.cancelled() => return,
                () = drained(&self.netns, self.settings.drain) => return,
                () = is(wanted, true) => {}
            }
        }
    }

    /// Waits for everything a pod needs before its connections may come. `None` when the process ends.
    async fn prepare(&self) -> Option<(Hold, Doors, Share)> {
        let identity = self.identity().await;
        let hold = self.settings.certificates.hold(&identity);
        while let Err(why) = self.settings.certificates.leaf(&identity).await {
            self.wait(why.to_string()).await;
        }
        let doors = loop {
            match Doors::open(&self.netns) {
                Ok(doors) => break doors,
                Err(why) => self.wait(why.to_string()).await,
            }
        };
        let settings = &self.settings;
        let pod = traffic::Pod {
            uid: self.pod.uid.clone(),
            reader: settings.reader.clone(),
            certificates: settings.certificates.clone(),
            dialer: Dialer {
                netns: self.netns.clone(),
                mark: Some(SO_MARK),
                options: SocketOptions {
                    congestion: settings.traffic.congestion.clone(),
                    ..SocketOptions::default()
                },
            },
            origin: Arc::new(original_destination),
            options: settings.traffic.clone(),
        };
        let share = Share::new(pod, settings.workers.clone(), self.home, settings.traffic.connections);
        Some((hold, doors, share))
    }

    /// Who the pod is, once the snapshot says so.
    async fn identity(&self) -> Identity {
        let mut reader = self.settings.reader.clone();
        let mut snapshot = reader.load();
        loop {
            let why = match snapshot.workload(&self.pod.uid) {
                Some(known) if known.node != self.settings.node => {
                    format!("the pod is on node {}, not on {}", known.node, self.settings.node)
                }
                Some(known) if known.name == self.pod.name && known.namespace == self.pod.namespace => {
                    return known.identity.clone();
                }
                Some(known) => format!(
                    "the pod with UID {} is {}/{} to us, {}/{} to the agent",
                    self.pod.uid, known.namespace, known.name, self.pod.namespace, self.pod.name
                ),
                None if snapshot.complete => format!("no Pod has the UID {}", self.pod.uid),
                None => "the configuration is not complete yet".to_owned(),
            };
            self.state.send_replace(PodState::Waiting(why));
            snapshot = reader.changed().await;
        }
    }

    async fn wait(&self, why: String) {
        tracing::debug!(pod = %self.pod.name, namespace = %self.pod.namespace, why, "cannot serve a pod yet");
        self.state.send_replace(PodState::Waiting(why));
        sleep(AGAIN).await;
    }
}

/// The namespace in a descriptor, with its inode.
pub(super) fn namespace(descriptor: OwnedFd) -> std::io::Result<(Netns, u64)> {
    let inode = rustix::fs::fstat(&descriptor)?.st_ino;
    Ok((Netns::new(descriptor), inode))
}

/// Resolves when `wanted` is this.
async fn is(wanted: &mut watch::Receiver<bool>, this: bool) {
    // whoever wants or does not want the pod is gone: then nothing changes any more
    if wanted.wait_for(|wanted| *wanted == this).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// The drain time of a released pod; shorter if its namespace dies.
async fn drained(netns: &Netns, drain: Duration) {
    let until = Instant::now() + drain;
    while Instant::now() < until && !is_dead(netns) {
        sleep_until((Instant::now() + LOOK).min(until)).await;
    }
}

/// Lets every connection end by itself; when the namespace dies, ends them. The leaf is held to the last.
async fn run_out(share: Share, hold: Hold, netns: Netns) {
    let dies = async {
        while !is_dead(&netns) {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = share.drain() => {}
        () = dies => share.end(),
    }
    drop(hold);
}
