//! The table of pods: what ZDS says, turned into lives.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::fd::OwnedFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use act::{hbone::Budget, net::Netns, process::Gate};
use decide::model::{Phase, ports::DNS};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{interval, timeout},
};

use super::{
    doors::Doors,
    life::{Life, PodState, namespace},
    neighbours::Neighbours,
    settings::Settings,
    share::Share,
    wishes::Wishes,
};
use crate::{
    dns::Inbox,
    handover::{Heirs, Heritage},
    zds::{Pod, Pods, Response},
};

/// How long a newly announced pod is waited for before the agent is told what is missing. Short, because the
/// agent announces no other pod meanwhile; it asks again.
const FIRST: Duration = Duration::from_secs(2);
/// How often it is looked at whether anything is left, when the process is to stop.
const LOOK: Duration = Duration::from_millis(200);

/// The pods this ztunnel serves. Cheap to clone.
#[derive(Clone)]
pub struct NodePods {
    settings: Settings,
    neighbours: Neighbours,
    /// Which ztunnel of this node we are.
    number: u64,
    /// Opened when the agent has told every pod of the node.
    gate: Gate,
    told: watch::Sender<bool>,
    table: Arc<Mutex<Table>>,
    /// Younger ztunnels. Locked before the table where both are, and never while a pod's task is waited for.
    heirs: Arc<Mutex<Heirs>>,
    /// Whether a younger ztunnel has taken everything over.
    superseded: watch::Sender<bool>,
}

#[derive(Default)]
struct Table {
    pods: HashMap<Arc<str>, Entry>,
    lives: JoinSet<()>,
    next_home: usize,
}

struct Entry {
    pod: Pod,
    netns: Netns,
    /// Inode of its network namespace.
    inode: u64,
    wanted: watch::Sender<bool>,
    taken: watch::Sender<bool>,
    turned: watch::Sender<u64>,
    state: watch::Receiver<PodState>,
    doors: watch::Receiver<Option<Doors>>,
    inbox: Inbox,
    shares: watch::Receiver<Vec<Share>>,
    /// Whether the snapshot said at last that the pod is asked to stop.
    stops: bool,
}

impl NodePods {
    /// No pods yet. `number` is higher than that of every ztunnel of this node that started before.
    pub fn new(settings: Settings, number: u64, told: Gate) -> Self {
        metrics::describe_gauge!(
            "weft_ztunnel_pods",
            "Pods this ztunnel has been given, by how they are served"
        );
        metrics::describe_gauge!("weft_zds_connected", "1 while an agent gives us pods");
        metrics::describe_counter!(
            "weft_same_node_connections_total",
            "Connections between two pods of this node that were handed over in memory"
        );
        metrics::describe_counter!(
            "weft_grace_cut_total",
            "Connections that were still open when the grace of a ztunnel that was asked to stop ended"
        );
        Self {
            settings,
            neighbours: Neighbours::default(),
            number,
            gate: told,
            told: watch::Sender::new(false),
            table: Arc::default(),
            heirs: Arc::default(),
            superseded: watch::Sender::new(false),
        }
    }

    /// Every pod, as `/config_dump` tells it.
    pub fn dump(&self) -> Value {
        let mut table = self.lock();
        table.sweep();
        let mut pods: Vec<&Entry> = table.pods.values().collect();
        pods.sort_by_key(|entry| (&entry.pod.namespace, &entry.pod.name));
        let told = pods.into_iter().map(|entry| {
            let shares = entry.shares.borrow().clone();
            let live: Vec<_> = shares.iter().flat_map(Share::live).collect();
            json!({
                "uid": &*entry.pod.uid,
                "name": &*entry.pod.name,
                "namespace": &*entry.pod.namespace,
                "serviceAccount": &*entry.pod.service_account,
                "state": *entry.state.borrow(),
                "open": shares.iter().map(Share::open).sum::<usize>(),
                "connections": live,
            })
        });
        told.collect()
    }

    /// The network namespace of a pod that is served now.
    pub(super) fn serving(&self, uid: &str) -> Option<Netns> {
        let table = self.lock();
        let entry = table.pods.get(uid)?;
        (*entry.state.borrow() == PodState::Serving).then(|| entry.netns.clone())
    }

    /// Publishes how many pods are in which state. To be called now and then.
    #[allow(clippy::cast_precision_loss, reason = "a node has few pods")]
    pub fn gauge(&self) {
        let mut counts = [
            ("waiting", 0_usize),
            ("serving", 0),
            ("draining", 0),
            ("handed-over", 0),
        ];
        let mut table = self.lock();
        table.sweep();
        for entry in table.pods.values() {
            let [waiting, serving, draining, handed_over] = &mut counts;
            match *entry.state.borrow() {
                PodState::Waiting(_) => waiting.1 += 1,
                PodState::Serving => serving.1 += 1,
                PodState::Draining | PodState::Closed => draining.1 += 1,
                PodState::HandedOver => handed_over.1 += 1,
            }
        }
        for (state, count) in counts {
            metrics::gauge!("weft_ztunnel_pods", "state" => state).set(count as f64);
        }
    }

    /// Waits until nothing is left to do here: each pod is released or taken over by another ztunnel, and the last of
    /// its connections has ended. Cancel [`Settings::stopping`] before; bound it outside.
    pub async fn ended(&self) {
        let mut looks = interval(LOOK);
        while !self.is_over() {
            looks.tick().await;
        }
    }

    fn is_over(&self) -> bool {
        let mut table = self.lock();
        table.sweep();
        let over = |entry: &Entry| {
            let gone = matches!(*entry.state.borrow(), PodState::HandedOver | PodState::Closed);
            gone && entry.shares.borrow().is_empty()
        };
        table.pods.values().all(over)
    }

    /// Whether pods are served here and no younger ztunnel is there that could take them over.
    pub fn is_alone(&self) -> bool {
        let heirs = self.heirs();
        let table = self.lock();
        let serves = |entry: &Entry| matches!(*entry.state.borrow(), PodState::Serving | PodState::Draining);
        heirs.are_none() && table.pods.values().any(serves)
    }

    /// The grace has ended: tells what is cut, pod by pod, and ends it. Answers how many connections that were.
    pub fn cut(&self) -> usize {
        let table = self.lock();
        let mut all = 0;
        for entry in table.pods.values() {
            let shares = entry.shares.borrow().clone();
            let open: usize = shares.iter().map(Share::open).sum();
            if open > 0 {
                let pod = &entry.pod;
                tracing::warn!(pod = %pod.name, namespace = %pod.namespace, uid = %pod.uid, open, "cut at the end of the grace");
            }
            all += open;
            shares.iter().for_each(Share::end);
        }
        metrics::counter!("weft_grace_cut_total").increment(all as u64);
        all
    }

    /// Resolves once the agent has told every pod of the node.
    pub async fn told(&self) {
        // the sender is ours
        let _ = self.told.subscribe().wait_for(|told| *told).await;
    }

    /// Whether a younger ztunnel has taken everything over, from now on.
    pub fn superseded(&self) -> watch::Receiver<bool> {
        self.superseded.subscribe()
    }

    /// Has peers of a pod that is asked to stop make no more streams in the tunnels they have, for ever: while its
    /// network is there, they hear of it. What is in the tunnels goes on.
    pub async fn watch_phases(&self) -> std::convert::Infallible {
        let mut reader = self.settings.reader.clone();
        loop {
            let snapshot = reader.changed().await;
            for (uid, entry) in &mut self.lock().pods {
                let phase = snapshot.workload(uid).map(|known| known.phase);
                let stops = phase.is_some_and(|phase| phase == Phase::Terminating);
                if stops && !entry.stops {
                    tracing::info!(pod = %entry.pod.name, namespace = %entry.pod.namespace, %uid, "a pod is asked to stop: its peers are told");
                    entry.turned.send_modify(|turn| *turn += 1);
                }
                entry.stops = stops;
            }
        }
    }

    /// Has a pod served; answers how it is going.
    fn begin(&self, pod: &Pod, netns: OwnedFd) -> Result<(watch::Receiver<PodState>, bool), String> {
        let (netns, inode) = namespace(netns).map_err(|why| format!("the network namespace cannot be used: {why}"))?;
        let heirs = self.heirs();
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
        let (life, entry) = self.life(pod, netns, inode, heirs.hold(&pod.uid), table.next_home());
        drop(heirs);
        table.lives.spawn(life.run());
        let state = entry.state.clone();
        table.pods.insert(pod.uid.clone(), entry);
        Ok((state, true))
    }

    fn life(&self, pod: &Pod, netns: Netns, inode: u64, is_taken: bool, home: usize) -> (Life, Entry) {
        let (wanted, want) = watch::channel(true);
        let (taken, take) = watch::channel(is_taken);
        let (turned, turn) = watch::channel(0);
        let (tell, state) = watch::channel(PodState::Waiting("it was announced just now".to_owned()));
        let (lend, shares) = watch::channel(Vec::new());
        let (open, doors) = watch::channel(None);
        let inbox = Inbox::default();
        let life = Life {
            pod: pod.clone(),
            netns: netns.clone(),
            inode,
            home: home % self.settings.workers.count(),
            settings: self.settings.clone(),
            neighbours: self.neighbours.clone(),
            wishes: Wishes {
                wanted: want,
                taken: take,
                turned: turn,
            },
            heirs: self.heirs.clone(),
            state: tell,
            doors: open,
            inbox: inbox.clone(),
            budget: Budget::new(self.settings.traffic.buffered),
            shares: lend,
        };
        let entry = Entry {
            pod: pod.clone(),
            netns,
            inode,
            wanted,
            taken,
            turned,
            state,
            doors,
            inbox,
            shares,
            stops: false,
        };
        (life, entry)
    }

    fn heirs(&self) -> MutexGuard<'_, Heirs> {
        self.heirs.lock().unwrap_or_else(PoisonError::into_inner)
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

    fn next_home(&mut self) -> usize {
        self.next_home = self.next_home.wrapping_add(1);
        self.next_home
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
        if self.settings.leaving.is_cancelled() {
            return Err("this ztunnel is shutting down, and an earlier one goes on".to_owned());
        }
        let (mut state, new) = self.begin(&pod, netns)?;
        if new {
            // the answer is in the state, however the wait ends
            let served = |state: &PodState| matches!(state, PodState::Serving | PodState::HandedOver);
            let _ = timeout(FIRST, state.wait_for(served)).await;
        }
        match &*state.borrow() {
            PodState::Serving | PodState::HandedOver => Ok(()),
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
        self.gate.set(true);
        self.told.send_replace(true);
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn connected(&mut self, connected: bool) {
        metrics::gauge!("weft_zds_connected").set(if connected { 1.0 } else { 0.0 });
    }
}

impl Heritage for NodePods {
    fn join(&self, heir: u64) {
        self.heirs().join(heir);
    }

    fn offer(&self, uid: &Arc<str>, netns: u64) -> Result<Vec<(u16, OwnedFd)>, String> {
        let table = self.lock();
        let known = table.pods.get(uid).filter(|entry| entry.inode == netns);
        let open = known.and_then(|entry| Some((entry.doors.borrow().clone()?, entry.inbox.clone())));
        let (doors, inbox) = open.ok_or_else(|| format!("no listeners of {uid} are open here"))?;
        let failed = |why: io::Error| format!("no copies can be made: {why}");
        let listeners = doors.copies().map_err(failed)?.into_iter();
        let names = inbox.copies().map_err(failed)?.into_iter();
        let listeners = listeners.map(|(port, listener)| (port, listener.into()));
        Ok(listeners.chain(names.map(|socket| (DNS, socket.into()))).collect())
    }

    fn take(&self, heir: u64, uid: &Arc<str>, sockets: &[u64]) -> Result<(), String> {
        let mut heirs = self.heirs();
        let table = self.lock();
        let entry = table.pods.get(uid);
        let open = entry.and_then(|entry| entry.doors.borrow().as_ref().map(Doors::inodes));
        heirs.take(heir, uid, &open.unwrap_or_default(), sockets)?;
        if let Some(entry) = entry {
            entry.taken.send_replace(true);
        }
        Ok(())
    }

    fn finish(&self, heir: u64) -> Result<(), String> {
        let mut heirs = self.heirs();
        let table = self.lock();
        let ours = table.pods.iter().filter(|(_, entry)| {
            let state = entry.state.borrow();
            *entry.wanted.borrow() && matches!(*state, PodState::Serving)
        });
        heirs.finish(heir, ours.map(|(uid, _)| uid))?;
        self.superseded.send_replace(true);
        Ok(())
    }

    fn leave(&self, heir: u64) {
        let mut heirs = self.heirs();
        let ours = heirs.leave(heir);
        let table = self.lock();
        let back = ours.iter().filter_map(|uid| table.pods.get(uid));
        let back: Vec<_> = back.map(|entry| entry.taken.send_replace(false)).collect();
        if !back.is_empty() {
            tracing::warn!(
                pods = back.len(),
                "the ztunnel that took over is gone: serving its pods again"
            );
        }
        self.superseded.send_replace(heirs.have_all());
    }

    fn stays(&self) -> bool {
        !self.settings.stopping.is_cancelled()
    }
}
