//! One pod's life in the ztunnel, as one task. It goes in rounds: in each, connections are accepted into one share,
//! which then runs out by itself while the next round accepts.

use std::{
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::{
    certs::Hold,
    hbone::Budget,
    net::{Dialer, Netns, SocketOptions, original_destination},
};
use decide::model::{Identity, SO_MARK};
use serde::Serialize;
use tokio::{
    sync::{oneshot, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    doors::{Doors, is_dead},
    neighbours::Neighbours,
    settings::Settings,
    share::Share,
    wishes::{Wishes, is, turns},
};
use crate::{
    dns::{self, Inbox, Names},
    handover::{Handed, Heirs},
    traffic::{self, Handshakes},
    zds,
};

/// How often what a pod waits for is tried again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a pod that only we still want is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a pod that is not served yet is tried for when the process is asked to stop.
const LAST: Duration = Duration::from_secs(10);
/// How often elders are told that we accept, and how far apart.
const TELL: (usize, Duration) = (10, Duration::from_secs(1));

/// How a pod is served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PodState {
    /// Not yet, and why.
    Waiting(String),
    /// Its listeners are open and its leaf is there.
    Serving,
    /// A younger ztunnel accepts its connections; those we have run out.
    HandedOver,
    /// Released: its listeners serve on for a while.
    Draining,
    /// Its listeners are closed; connections run out.
    Closed,
}

/// One pod's task.
pub(super) struct Life {
    pub(super) pod: zds::Pod,
    pub(super) netns: Netns,
    /// Inode of its network namespace.
    pub(super) inode: u64,
    pub(super) home: usize,
    pub(super) settings: Settings,
    pub(super) neighbours: Neighbours,
    pub(super) wishes: Wishes,
    pub(super) heirs: Arc<Mutex<Heirs>>,
    pub(super) state: watch::Sender<PodState>,
    /// Its listeners, while they are open.
    pub(super) doors: watch::Sender<Option<Doors>>,
    /// Where its DNS queries arrive.
    pub(super) inbox: Inbox,
    /// What its connections may hold, in every round together.
    pub(super) budget: Budget,
    /// What lives, the newest last.
    pub(super) shares: watch::Sender<Vec<Share>>,
}

/// Why a round ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    /// Released and drained, or nobody needs it any more: the listeners close.
    Released,
    /// Something is wished otherwise: the next round will see what.
    Changed,
    /// The process leaves.
    Left,
}

impl Life {
    /// Until the pod is released and the last of its connections has ended.
    pub(super) async fn run(self) {
        let mut outs = JoinSet::new();
        let mut hold = None;
        loop {
            let over = self.rounds(&mut hold, &mut outs).await;
            self.doors.send_replace(None);
            self.state.send_replace(PodState::Closed);
            let mut wanted = self.wishes.wanted.clone();
            tokio::select! {
                biased;
                () = is(&mut wanted, true), if over == Over::Released && !self.settings.stopping.is_cancelled() => {}
                () = all(&mut outs) => return,
            }
            // wanted again: new doors, while what lives behind the old ones runs out
            self.wait("its listeners are opened again".to_owned());
        }
    }

    /// Round after round, until the pod's listeners are to be closed.
    async fn rounds(&self, hold: &mut Option<Arc<Hold>>, outs: &mut JoinSet<()>) -> Over {
        let mut wishes = self.wishes.clone();
        loop {
            wishes.turned.mark_unchanged();
            if *wishes.taken.borrow_and_update() {
                self.state.send_replace(PodState::HandedOver);
                tokio::select! {
                    biased;
                    () = is(&mut wishes.wanted, false) => return Over::Released,
                    () = self.settings.leaving.cancelled() => return Over::Left,
                    () = is(&mut wishes.taken, false) => {}
                }
            }
            let open = self.doors.borrow().clone();
            let (doors, leaf) = match (open, hold.clone()) {
                (Some(doors), Some(leaf)) => (doors, leaf),
                _ => tokio::select! {
                    biased;
                    () = is(&mut wishes.wanted, false) => return Over::Released,
                    () = is(&mut wishes.taken, true) => continue,
                    () = self.gone() => return Over::Left,
                    ready = self.prepare() => match ready {
                        Some(ready) => ready,
                        None => continue,
                    },
                },
            };
            *hold = Some(leaf.clone());
            match self.round(&doors, leaf, &mut wishes, outs).await {
                Over::Changed => {}
                over => return over,
            }
        }
    }

    /// Answers the pod's names on its home worker until its listeners close. Resolves when the last is answered.
    fn answer_names(&self, close: &CancellationToken) -> oneshot::Receiver<()> {
        let names = Names {
            uid: self.pod.uid.clone(),
            reader: self.settings.reader.clone(),
            netns: self.netns.clone(),
            queries: self.settings.traffic.queries,
        };
        let (close, inbox) = (close.clone(), self.inbox.clone());
        let (tell, answered) = oneshot::channel();
        let answering = self.settings.workers.spawn(self.home, move || async move {
            dns::serve(names, inbox, close).await;
            drop(tell);
        });
        if let Err(why) = answering {
            tracing::warn!(uid = %self.pod.uid, %why, "a pod's names are not answered");
        }
        answered
    }

    /// Accepts into a share of its own until something changes.
    async fn round(&self, doors: &Doors, leaf: Arc<Hold>, wishes: &mut Wishes, outs: &mut JoinSet<()>) -> Over {
        let (share, close) = (self.share(), CancellationToken::new());
        if let Err(why) = doors.accept(&share, &close) {
            tracing::error!(uid = %self.pod.uid, %why, "cannot accept for a pod");
            close.cancel();
            sleep(AGAIN).await;
            return if self.settings.stopping.is_cancelled() {
                Over::Left
            } else {
                Over::Changed
            };
        }
        let answered = self.answer_names(&close);
        self.shares.send_modify(|shares| shares.push(share.clone()));
        let over = tokio::select! {
            biased;
            () = self.settings.leaving.cancelled() => Over::Left,
            () = is(&mut wishes.taken, true) => Over::Changed,
            over = self.serve(&share, &mut wishes.wanted, &mut wishes.turned) => over,
        };
        close.cancel();
        let (netns, shares) = (self.netns.clone(), self.shares.clone());
        outs.spawn(async move {
            run_out(&share, &netns, answered).await;
            shares.send_modify(|shares| shares.retain(|other| !other.is(&share)));
            // To the last.
            drop(leaf);
        });
        while outs.try_join_next().is_some() {}
        over
    }

    /// One round of a pod that is wanted, or of one that is released and drains.
    async fn serve(
        &self,
        share: &Share,
        wanted: &mut watch::Receiver<bool>,
        turned: &mut watch::Receiver<u64>,
    ) -> Over {
        let pod = &self.pod;
        if !*wanted.borrow_and_update() {
            self.state.send_replace(PodState::Draining);
            tracing::info!(pod = %pod.name, namespace = %pod.namespace, uid = %pod.uid, "a pod is released");
            return tokio::select! {
                () = is(wanted, true) => Over::Changed,
                () = self.settings.stopping.cancelled() => Over::Released,
                () = drained(&self.netns, self.settings.drain) => Over::Released,
            };
        }
        if !self.tell_elders().await {
            return Over::Changed;
        }
        // What drains, or is another ztunnel's by now, is reached as from another node.
        let _reachable = self.neighbours.reach(&pod.uid, share);
        self.state.send_replace(PodState::Serving);
        tracing::info!(pod = %pod.name, namespace = %pod.namespace, uid = %pod.uid, "serving a pod");
        tokio::select! {
            () = is(wanted, false) => Over::Changed,
            () = turns(turned) => Over::Changed,
            () = self.unneeded() => Over::Left,
        }
    }

    /// Has elders stop accepting for the pod. `false` when they have listeners that we have not: ours are to be opened
    /// anew, with theirs among them. An elder that does not answer is left to its end.
    async fn tell_elders(&self) -> bool {
        let (times, apart) = TELL;
        for _ in 0..times {
            let sockets = self.doors.borrow().as_ref().map(Doors::inodes).unwrap_or_default();
            if self.settings.elders.taken(&self.pod.uid, &sockets).await {
                return true;
            }
            let theirs = self.settings.elders.want(&self.pod.uid, self.inode).await;
            if self.add(theirs) {
                return false;
            }
            sleep(apart).await;
        }
        tracing::warn!(uid = %self.pod.uid, "an earlier ztunnel does not say that it stopped accepting for a pod");
        true
    }

    /// Takes listeners of elders beside those that are open. `false`: none of them is new.
    fn add(&self, theirs: Handed) -> bool {
        let _heirs = self.heirs.lock().unwrap_or_else(PoisonError::into_inner);
        self.inbox.take_over(theirs.names);
        let more = self
            .doors
            .borrow()
            .as_ref()
            .and_then(|doors| doors.with(theirs.listeners));
        let Some(more) = more else {
            return false;
        };
        self.doors.send_replace(Some(more));
        true
    }

    /// Waits for everything a pod needs before its connections may come. `None` when somebody younger took it.
    async fn prepare(&self) -> Option<(Doors, Arc<Hold>)> {
        let identity = self.identity().await;
        let hold = Arc::new(self.settings.certificates.hold(&identity));
        while let Err(why) = self.settings.certificates.leaf(&identity).await {
            self.wait(why.to_string());
            sleep(AGAIN).await;
        }
        loop {
            let handed = self.settings.elders.want(&self.pod.uid, self.inode).await;
            match self.open(handed) {
                Ok(doors) => return Some((doors?, hold)),
                Err(why) => self.wait(why.to_string()),
            }
            sleep(AGAIN).await;
        }
    }

    /// Opens the pod's listeners, unless somebody younger accepts for it. An heir that takes the pod in this moment
    /// sees either no listeners or these.
    fn open(&self, handed: Handed) -> io::Result<Option<Doors>> {
        let heirs = self.heirs.lock().unwrap_or_else(PoisonError::into_inner);
        if heirs.hold(&self.pod.uid) {
            return Ok(None);
        }
        let doors = Doors::open(&self.netns, handed.listeners)?;
        self.inbox.take_over(handed.names);
        self.doors.send_replace(Some(doors.clone()));
        Ok(Some(doors))
    }

    fn share(&self) -> Share {
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
            neighbours: Arc::new(|_| None),
            budget: self.budget.clone(),
            handshakes: Handshakes::new(settings.traffic.unauthenticated),
            options: settings.traffic.clone(),
        };
        Share::new(pod, self.neighbours.clone(), settings.workers.clone(), self.home)
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
            self.wait(why);
            snapshot = reader.changed().await;
        }
    }

    /// Resolves when a pod that is not served yet is tried for no longer.
    async fn gone(&self) {
        self.settings.stopping.cancelled().await;
        sleep(LAST).await;
    }

    /// Resolves when the process is to stop and nobody needs us for this pod: its namespace is dead, or it has left
    /// the mesh. Otherwise somebody may still connect, and nobody else is there.
    async fn unneeded(&self) {
        self.settings.stopping.cancelled().await;
        let captured = || {
            let snapshot = self.settings.reader.load();
            let known = snapshot.workload(&self.pod.uid);
            known.is_some_and(|known| known.capture.is_enrolled() && known.owns_addresses())
        };
        while captured() && !is_dead(&self.netns) {
            sleep(LOOK).await;
        }
    }

    fn wait(&self, why: String) {
        tracing::debug!(pod = %self.pod.name, namespace = %self.pod.namespace, why, "cannot serve a pod yet");
        self.state.send_replace(PodState::Waiting(why));
    }
}

/// The namespace in a descriptor, with its inode.
pub(super) fn namespace(descriptor: OwnedFd) -> io::Result<(Netns, u64)> {
    let inode = rustix::fs::fstat(&descriptor)?.st_ino;
    Ok((Netns::new(descriptor), inode))
}

async fn all(outs: &mut JoinSet<()>) {
    while outs.join_next().await.is_some() {}
}

/// The drain time of a released pod; shorter if its namespace dies.
async fn drained(netns: &Netns, drain: Duration) {
    let until = Instant::now() + drain;
    while Instant::now() < until && !is_dead(netns) {
        sleep_until((Instant::now() + LOOK).min(until)).await;
    }
}

/// Has peers make no more streams, and lets every connection and every DNS query end by itself; when the namespace dies,
/// ends them.
async fn run_out(share: &Share, netns: &Netns, answered: oneshot::Receiver<()>) {
    let dies = async {
        while !is_dead(netns) {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        _ = async { tokio::join!(share.drain(), answered) } => {}
        () = dies => share.end(),
    }
}
