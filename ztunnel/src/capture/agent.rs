//! The agent: gives every pod of its node that is wished captured, or is found captured, a task.

use std::{
    collections::{BTreeSet, HashMap},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use act::{config::Reader, process::Gate};
use decide::snapshot::Snapshot;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};

use super::{
    Cluster, Host, NamespaceError, Namespaces, PodNamespace, Standing, Tally, Wish,
    pod::{Means, PodTask},
    wish::{announced, may_release, wishes},
};
use crate::zds::Announcements;

/// How long the first pods' namespaces are waited for before the ztunnel is told that these are all.
const FIRST: Duration = Duration::from_secs(5);

/// Captures and releases the pods of one node.
#[derive(Debug)]
pub struct Agent {
    node: Arc<str>,
    means: Means,
    tasks: HashMap<Arc<str>, watch::Sender<Option<Wish>>>,
    running: JoinSet<Arc<str>>,
    /// Whether pods were found captured that may not be released yet.
    held_back: bool,
    /// The namespaces that were in the mesh when an agent last said so.
    enabled_before: BTreeSet<Arc<str>>,
}

impl Agent {
    /// An agent that has done nothing yet.
    pub fn new(node: &str, namespaces: Namespaces, reader: Reader, announcements: Announcements, host: Host) -> Self {
        let means = Means {
            namespaces,
            reader,
            announcements,
            tally: Tally::new(),
            host,
            cluster: None,
        };
        Self {
            node: node.into(),
            means,
            tasks: HashMap::new(),
            running: JoinSet::new(),
            held_back: false,
            enabled_before: BTreeSet::new(),
        }
    }

    /// Annotates captured pods at this API server.
    #[must_use]
    pub fn telling(mut self, cluster: Cluster) -> Self {
        self.means.cluster = Some(cluster);
        self
    }

    /// Knows that these namespaces were in the mesh already: a pod of theirs that is found uncaptured ran
    /// uncaptured.
    #[must_use]
    pub fn after(mut self, enabled: BTreeSet<Arc<str>>) -> Self {
        self.enabled_before = enabled;
        self
    }

    /// What it tells of its pods.
    pub fn tally(&self) -> Tally {
        self.means.tally.clone()
    }

    /// Works for ever. `told` is opened once every pod there is has been announced.
    pub async fn run(mut self, told: Gate) -> Infallible {
        let mut reader = self.means.reader.clone();
        let mut snapshot = reader.load();
        while !snapshot.complete {
            snapshot = reader.changed().await;
        }
        let (pending, announced) = mpsc::channel(1);
        self.wish(&snapshot, Some(&pending));
        self.adopt(&snapshot).await;
        drop(pending);
        self.first(announced).await;
        self.means.announcements.complete();
        self.means.host.settle();
        told.set(true);
        loop {
            tokio::select! {
                snapshot = reader.changed() => {
                    self.wish(&snapshot, None);
                    if self.held_back {
                        self.adopt(&snapshot).await;
                    }
                }
                Some(ended) = self.running.join_next() => self.ended(ended.ok(), &reader.load()),
            }
        }
    }

    /// Tells each pod's task what is wished of it; tasks that are not there begin.
    fn wish(&mut self, snapshot: &Snapshot, pending: Option<&mpsc::Sender<()>>) {
        let mut wishes = wishes(snapshot, &self.node);
        for (uid, task) in &self.tasks {
            let wish = wishes.remove(uid);
            task.send_if_modified(|current| {
                let other = *current != wish;
                *current = wish;
                other
            });
        }
        for (uid, wish) in wishes {
            let was_wished =
                pending.is_some() && (wish.told == Some(true) || self.enabled_before.contains(&wish.pod.namespace));
            let mut task = self.task(uid);
            (task.pending, task.was_wished) = (pending.cloned(), was_wished);
            self.begin(task, Some(wish));
        }
    }

    /// Finds pods that an earlier agent captured and nobody wishes captured, and has them released.
    async fn adopt(&mut self, snapshot: &Snapshot) {
        self.held_back = false;
        let found = self.means.namespaces.uids().unwrap_or_else(|why| {
            tracing::warn!(%why, "cannot look for captured pods");
            Vec::new()
        });
        for uid in found {
            if self.tasks.contains_key(&uid) {
                continue;
            }
            match captured(&self.means.namespaces, &uid).await {
                None => {}
                Some(_) if !may_release(snapshot, &uid) => {
                    tracing::warn!(%uid, "a pod stays captured while objects that may say so cannot be read; see the problems");
                    self.held_back = true;
                }
                found => {
                    let mut task = self.task(uid.clone());
                    task.namespace = found;
                    task.pod = snapshot.workload(&uid).map(|known| announced(known));
                    self.begin(task, None);
                }
            }
        }
    }

    fn task(&self, uid: Arc<str>) -> PodTask {
        let (_, nothing) = watch::channel(None);
        PodTask {
            uid,
            means: self.means.clone(),
            wish: nothing,
            pending: None,
            namespace: None,
            in_force: None,
            pod: None,
            was_wished: false,
            gap: false,
        }
    }

    fn begin(&mut self, mut task: PodTask, wish: Option<Wish>) {
        let (sender, receiver) = watch::channel(wish);
        task.wish = receiver;
        let uid = task.uid.clone();
        self.tasks.insert(uid.clone(), sender);
        self.running.spawn(async move {
            task.run().await;
            uid
        });
    }

    /// Waits until each of the first pods is announced, or turned out not to be there.
    async fn first(&mut self, mut announced: mpsc::Receiver<()>) {
        if timeout(FIRST, announced.recv()).await.is_err() {
            tracing::warn!("some pods have no network namespace yet");
        }
    }

    /// A task has ended. A wish that came while it ended begins another.
    fn ended(&mut self, uid: Option<Arc<str>>, snapshot: &Snapshot) {
        match uid {
            Some(uid) => drop(self.tasks.remove(&uid)),
            // a task that panicked is begun anew with all whose task is gone
            None => self.tasks.retain(|_, task| !task.is_closed()),
        }
        self.wish(snapshot, None);
    }
}

/// The namespace of this UID, if rules of ours stand in it.
async fn captured(namespaces: &Namespaces, uid: &Arc<str>) -> Option<PodNamespace> {
    let namespace = match namespaces.open(uid) {
        Ok(namespace) => namespace,
        Err(
            NamespaceError::Absent(_)
            | NamespaceError::NoProcess(_)
            | NamespaceError::NotANamespace(_)
            | NamespaceError::OurOwn(_),
        ) => return None,
        Err(why) => {
            tracing::warn!(%uid, %why, "cannot look into a namespace");
            return None;
        }
    };
    match namespace.standing().await {
        Ok(Standing::Untouched) => None,
        Ok(_) => Some(namespace),
        Err(why) => {
            tracing::warn!(%uid, %why, "cannot look into a namespace");
            None
        }
    }
}
