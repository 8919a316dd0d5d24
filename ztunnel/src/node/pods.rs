//! The table of pods: what ZDS says, turned into lives.

use std::{
    collections::{HashMap, HashSet},
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use act::process::Gate;
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet, time::timeout};

use super::{
    life::{Life, PodState, Settings, namespace},
    share::Share,
};
use crate::zds::{Pod, Pods, Response};

/// How long a newly announced pod is waited for before the agent is told what is missing. Short, because the
/// agent announces no other pod meanwhile; it asks again.
const FIRST: Duration = Duration::from_secs(2);

/// The pods this ztunnel serves. Cheap to clone.
#[derive(Clone)]
pub struct NodePods {
    settings: Settings,
    /// Opened when the agent has told every pod of the node.
    told: Gate,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    pods: HashMap<Arc<str>, Entry>,
    lives: JoinSet<()>,
    next_home: usize,
}

struct Entry {
    pod: Pod,
    /// Inode of its network namespace.
    inode: u64,
    wanted: watch::Sender<bool>,
    state: watch::Receiver<PodState>,
    share: watch::Receiver<Option<Share>>,
}

impl NodePods {
    /// No pods yet.
    pub fn new(settings: Settings, told: Gate) -> Self {
        metrics::describe_gauge!(
            "weft_ztunnel_pods",
            "Pods this ztunnel has been given, by how they are served"
        );
        metrics::describe_gauge!("weft_zds_connected", "1 while an agent gives us pods");
        metrics::describe_counter!(
            "weft_connections_refused_total",
            "Connections refused because a bound was reached, by bound"
        );
        metrics::describe_counter!(
            "weft_handshakes_dropped_total",
            "Connections dropped because too many handshakes of one pod were unfinished"
        );
        Self {
            settings,
            told,
            table: Arc::default(),
        }
    }

    /// Every pod, as `/config_dump` tells it.
    pub fn dump(&self) -> Value {
        let mut table = self.lock();
        table.sweep();
        let mut pods: Vec<&Entry> = table.pods.values().collect();
        pods.sort_by_key(|entry| (&entry.pod.namespace, &entry.pod.name));
        let told = pods.into_iter().map(|entry| {
            let share = entry.share.borrow().clone();
            json!({
                "uid": &*entry.pod.uid,
                "name": &*entry.pod.name,
                "namespace": &*entry.pod.namespace,
                "serviceAccount": &*entry.pod.service_account,
                "state": *entry.state.borrow(),
                "open": share.as_ref().map_or(0, Share::open),
                "connections": share.as_ref().map(Share::live).unwrap_or_default(),
            })
        });
        told.collect()
    }

    /// Publishes how many pods are in which state. To be called now and then.
    #[allow(clippy::cast_precision_loss, reason = "a node has few pods")]
    pub fn gauge(&self) {
        let mut counts = [("waiting", 0_usize), ("serving", 0), ("draining", 0)];
        let mut table = self.lock();
        table.sweep();
        for entry in table.pods.values() {
            let [waiting, serving, draining] = &mut counts;
            match *entry.state.borrow() {
                PodState::Waiting(_) => waiting.1 += 1,
                PodState::Serving => serving.1 += 1,
                PodState::Draining | PodState::Closed => draining.1 += 1,
            }
        }
        for (state, count) in counts {
            metrics::gauge!("weft_ztunnel_pods", "state" => state).set(count as f64);
        }
    }

    /// Waits until every life has ended. Cancel [`Settings::stopping`] before; bound it outside.
    pub async fn ended(&self) {
        let mut lives = std::mem::take(&mut self.lock().lives);
        while lives.join_next().await.is_some() {}
    }

    /// Has a pod served; answers how it is going.
    fn begin(&self, pod: &Pod, netns: OwnedFd) -> Result<(watch::Receiver<PodState>, bool), String> {
        let (netns, inode) = namespace(netns).map_err(|why| format!("the network namespace cannot be used: {why}"))?;
        let mut table = self.lock();
        table.sweep();
        if let Some(known) = table.pods.get(&pod.uid) {
            if known.inode == inode && known.pod == *pod {
                known.wanted.send_replace(true);
                return Ok((known.state.clone(), false));
            }
            // another sandbox under the same UID: the old one runs out on its own
            known.wanted.send_replace(false);
        }
        let (wanted, want) = watch::channel(true);
        let (tell, state) = watch::channel(PodState::Waiting("it was announced just now".to_owned()));
        let (lend, share) = watch::channel(None);
        table.next_home = table.next_home.wrapping_add(1);
        let life = Life {
            pod: pod.clone(),
            netns,
            home: table.next_home % self.settings.workers.count(),
            settings: self.settings.clone(),
            wanted: want,
            state: tell,
            share: lend,
        };
        table.lives.spawn(life.run());
        let entry = Entry {
            pod: pod.clone(),
            inode,
            wanted,
            state: state.clone(),
            share,
        };
        table.pods.insert(pod.uid.clone(), entry);
        Ok((state, true))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Forgets pods whose life has ended.
    fn sweep(&mut self) {
        self.pods.retain(|_, entry| entry.state.has_changed().is_ok());
        while self.lives.try_join_next().is_some() {}
    }

    fn release(&mut self, wanted: impl Fn(&str) -> bool) {
        self.sweep();
        for (_, entry) in self.pods.iter().filter(|(uid, _)| !wanted(uid)) {
            entry.wanted.send_replace(false);
        }
    }
}

impl Pods for NodePods {
    async fn add(&mut self, pod: Pod, netns: OwnedFd) -> Response {
        if self.settings.stopping.is_cancelled() {
            return Err("this ztunnel is shutting down".to_owned());
        }
        let (mut state, new) = self.begin(&pod, netns)?;
        if new {
            // the answer is in the state, however the wait ends
            let _ = timeout(FIRST, state.wait_for(|state| *state == PodState::Serving)).await;
        }
        match &*state.borrow() {
            PodState::Serving => Ok(()),
            PodState::Waiting(why) => Err(why.clone()),
            PodState::Draining | PodState::Closed => Err("it is being taken up again".to_owned()),
        }
    }

    fn keep(&mut self, uid: &str) -> Response {
        let mut table = self.lock();
        table.sweep();
        match table.pods.get(uid) {
            Some(known) => {
                known.wanted.send_replace(true);
                Ok(())
            }
            None => Err(format!("no pod with the UID {uid} is served here")),
        }
    }

    fn release(&mut self, uid: &str) {
        self.lock().release(|other| other != uid);
    }

    fn told(&mut self, uids: &HashSet<Arc<str>>) {
        self.lock().release(|uid| uids.contains(uid));
        self.told.set(true);
    }

    fn connected(&mut self, connected: bool) {
        metrics::gauge!("weft_zds_connected").set(if connected { 1.0 } else { 0.0 });
    }
}
