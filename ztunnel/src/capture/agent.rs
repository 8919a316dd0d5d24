//! The agent: gives every pod of its node that is wished captured, or is found captured, a task.

use std::{
    collections::HashMap,
    convert::Infallible,
    fs, io,
    path::{Path, PathBuf},
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
    Host, NamespaceError, PodNamespace, Standing, Tally, Wish,
    pod::PodTask,
    wish::{may_release, wishes},
};
use crate::zds::Announcements;

/// How long the first pods' namespaces are waited for before the ztunnel is told that these are all.
const FIRST: Duration = Duration::from_secs(5);

/// Captures and releases the pods of one node.
#[derive(Debug)]
pub struct Agent {
    node: Arc<str>,
    directory: PathBuf,
    reader: Reader,
    announcements: Announcements,
    tally: Tally,
    host: Host,
    tasks: HashMap<Arc<str>, watch::Sender<Option<Wish>>>,
    running: JoinSet<Arc<str>>,
    /// Whether pods were found captured that may not be released yet.
    held_back: bool,
}

impl Agent {
    /// An agent that has done nothing yet.
    pub fn new(node: &str, directory: &Path, reader: Reader, announcements: Announcements, host: Host) -> Self {
        Self {
            host,
            node: node.into(),
            directory: directory.to_owned(),
            reader,
            announcements,
            tally: Tally::new(),
            tasks: HashMap::new(),
            running: JoinSet::new(),
            held_back: false,
        }
    }

    /// What it tells of its pods.
    pub fn tally(&self) -> Tally {
        self.tally.clone()
    }

    /// Works for ever. `told` is opened once every pod there is has been announced.
    pub async fn run(mut self, told: Gate) -> Infallible {
        let mut reader = self.reader.clone();
        let mut snapshot = reader.load();
        while !snapshot.complete {
            snapshot = reader.changed().await;
        }
        let (pending, announced) = mpsc::channel(1);
        self.wish(&snapshot, Some(&pending));
        self.adopt(&snapshot).await;
        drop(pending);
        self.first(announced).await;
        self.announcements.complete();
        self.host.settle();
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
            self.begin(uid, Some(wish), None, pending);
        }
    }

    /// Finds pods that an earlier agent captured and nobody wishes captured, and has them released.
    async fn adopt(&mut self, snapshot: &Snapshot) {
        self.held_back = false;
        let found = namespaces(&self.directory).unwrap_or_else(|why| {
            tracing::warn!(directory = %self.directory.display(), %why, "cannot look for captured pods");
            Vec::new()
        });
        for uid in found {
            if self.tasks.contains_key(&uid) {
                continue;
            }
            match captured(&self.directory, &uid).await {
                None => {}
                Some(_) if !may_release(snapshot, &uid) => {
                    tracing::warn!(%uid, "a pod stays captured while objects that may say so cannot be read; see the problems");
                    self.held_back = true;
                }
                found => self.begin(uid, None, found, None),
            }
        }
    }

    fn begin(
        &mut self,
        uid: Arc<str>,
        wish: Option<Wish>,
        namespace: Option<PodNamespace>,
        pending: Option<&mpsc::Sender<()>>,
    ) {
        let (sender, receiver) = watch::channel(wish);
        let task = PodTask {
            uid: uid.clone(),
            directory: self.directory.clone(),
            announcements: self.announcements.clone(),
            tally: self.tally.clone(),
            wish: receiver,
            pending: pending.cloned(),
            namespace,
            in_force: None,
            host: self.host.clone(),
        };
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
async fn captured(directory: &Path, uid: &Arc<str>) -> Option<PodNamespace> {
    let namespace = match PodNamespace::open(directory, uid) {
        Ok(namespace) => namespace,
        Err(NamespaceError::Absent(_) | NamespaceError::NotANamespace(_) | NamespaceError::OurOwn(_)) => return None,
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

/// Names in the directory of namespaces.
fn namespaces(directory: &Path) -> io::Result<Vec<Arc<str>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        if let Ok(name) = entry?.file_name().into_string() {
            found.push(name.into());
        }
    }
    Ok(found)
}
