//! One pod's way through capture and release, as one task: it looks at what is wished, does the next step, and
//! begins anew whenever the wish changes. Every step may be done twice.

use std::{collections::BTreeSet, convert::Infallible, sync::Arc, time::Duration};

use act::config::Reader;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Cluster, Guard, Host, NamespaceError, Namespaces, PodNamespace, Ports, Probes, Standing, Tally, TellError, Terms,
    Wish,
};
use crate::zds::{Announced, Announcements, Pod};

/// Waits between attempts at what failed: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often what tells nobody of its end is looked at: connections of a released pod, a ztunnel that is away.
const LOOK: Duration = Duration::from_millis(500);
/// How long our own annotation may take to come back in a snapshot.
const UNSEEN: Duration = Duration::from_secs(60);
/// How long after each other the counters and rules of a captured pod are read: at first, and later on.
const COUNT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(32));
/// How long after a pod's farewell its namespace may still be there, before it counts as one that stays.
const STAYS: Duration = Duration::from_secs(5);
/// How long a ztunnel's acknowledgement may take before the delay is reported.
const SLOW: Duration = Duration::from_secs(10);

/// What a pod's task works with.
pub(super) struct PodTask {
    pub(super) uid: Arc<str>,
    pub(super) means: Means,
    /// What is wished; `None`: not captured.
    pub(super) wish: watch::Receiver<Option<Wish>>,
    /// Dropped once the pod is announced, or turned out not to be.
    pub(super) pending: Option<mpsc::Sender<()>>,
    /// Its namespace, while it has one.
    pub(super) namespace: Option<PodNamespace>,
    /// What the rules in force say; unknown right after a start.
    pub(super) in_force: Option<Terms>,
    /// Who it is, as far as an object has said.
    pub(super) pod: Option<Pod>,
    /// Whether it was to be captured before this agent started: if it is not, it ran uncaptured.
    pub(super) was_wished: bool,
    /// Whether it was found so: then what it opened or accepted meanwhile is cut.
    pub(super) gap: bool,
}

/// What every pod's task works with. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) namespaces: Namespaces,
    pub(super) reader: Reader,
    pub(super) announcements: Announcements,
    pub(super) tally: Tally,
    /// The host's side of probes.
    pub(super) host: Host,
    /// Where captured pods are annotated; nowhere when there is no API server.
    pub(super) cluster: Option<Cluster>,
}

/// The namespace is another, or gone: the pod is announced no more.
struct Vanished;

/// What may be done to a namespace. Each may be done twice.
#[derive(Clone, Copy)]
enum Step<'a> {
    Look,
    Capture(&'a Terms),
    Release,
    Remove,
}

impl Step<'_> {
    fn label(self) -> &'static str {
        match self {
            Self::Look => "look",
            Self::Capture(..) => "capture",
            Self::Release => "release",
            Self::Remove => "remove",
        }
    }
}

impl PodTask {
    /// Until the pod is neither wished captured nor has anything of ours in it.
    pub(super) async fn run(mut self) {
        let mut wishes = self.wish.clone();
        loop {
            let wish = wishes.borrow_and_update().clone();
            tokio::select! {
                biased;
                asked = asks_otherwise(&mut wishes, &wish) => if !asked { return },
                done = self.fulfil(wish.clone()) => if done { break },
            }
        }
        self.means.tally.forget(&self.uid);
    }

    /// Brings the pod to what is wished and keeps it there. Answers only when a pod not wished is rid of us.
    async fn fulfil(&mut self, wish: Option<Wish>) -> bool {
        let Some(wish) = wish else {
            self.free().await;
            return true;
        };
        self.pod = Some(wish.pod.clone());
        loop {
            if let Err(Vanished) = self.keep_captured(&wish).await {
                self.means.announcements.withdraw(&self.uid);
                self.means.host.dismiss(&self.uid);
                self.namespace = None;
                self.in_force = None;
            }
        }
    }

    /// Until its rules must be others.
    async fn keep_captured(&mut self, wish: &Wish) -> Result<(), Vanished> {
        let namespace = self.wait_for_namespace(wish).await;
        self.announce(&namespace, wish);
        self.pending = None;
        // rules that stand already are brought up to date at once: nothing passes them that should not meanwhile
        let standing = self.does(&namespace, Step::Look).await?;
        // a sandbox that is only being made ran nothing yet
        let ran = self.was_wished && !namespace.is_new();
        if standing == Standing::Untouched && ran {
            self.gap = true;
            self.tell_gap(wish);
        }
        self.was_wished = false;
        if standing != Standing::Captured {
            self.wait_for_ztunnel(&namespace, wish).await?;
        }
        // the host's side first: a pod that expects it would refuse its probes meanwhile
        let terms = Terms {
            guard: self.guard(wish),
            probes: self.admit(&namespace, wish).await,
            exclusions: wish.exclusions.clone(),
            names: wish.names,
        };
        if self.in_force.as_ref() != Some(&terms) || standing != Standing::Captured {
            self.in_force = None;
            self.does(&namespace, Step::Capture(&terms)).await?;
            self.in_force = Some(terms.clone());
            tracing::info!(pod = %wish.pod.name, namespace = %wish.pod.namespace, uid = %self.uid, "captured");
        }
        self.means.tally.captured(&wish.pod, namespace.inode());
        tokio::select! {
            never = self.tell(&wish.pod) => match never {},
            ended = self.watch(&namespace, wish, &terms) => ended,
        }
    }

    /// Has the ztunnel serve the pod; nothing new where it is announced already.
    fn announce(&self, namespace: &PodNamespace, wish: &Wish) {
        self.means.announcements.announce(Announced {
            pod: wish.pod.clone(),
            netns: namespace.file(),
        });
    }

    /// Has the host know the pod, as far as its kubelet probes it.
    async fn admit(&self, namespace: &PodNamespace, wish: &Wish) -> Probes {
        let addresses = namespace.addresses().await.unwrap_or_else(|why| {
            tracing::warn!(uid = %self.uid, %why, "cannot read a pod's addresses: the host does not know its probes");
            BTreeSet::new()
        });
        self.means.host.admit(&self.uid, addresses, &wish.probed).await
    }

    /// What is wished; after a gap, no connection older than the rules lives on, and an idle one may show itself late.
    fn guard(&self, wish: &Wish) -> Guard {
        if !self.gap {
            return wish.guard.clone();
        }
        Guard {
            tcp: Ports::all(),
            datagrams: wish.guard.datagrams.clone(),
            outbound: true,
        }
    }

    /// The pod should have been captured when this agent started.
    fn tell_gap(&self, wish: &Wish) {
        let what = "It ran uncaptured until weft-cni started; its earlier connections are reset.";
        tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, "a pod ran uncaptured until now: its earlier connections are reset");
        self.means.tally.waiting(&wish.pod, what.to_owned());
        self.means.tally.gap(&self.uid);
        if let Some(cluster) = &self.means.cluster {
            cluster.warn(&wish.pod, "RanUncaptured", what.to_owned());
        }
    }

    /// Keeps the pod's annotation saying that it is captured, which comes after the rules.
    async fn tell(&self, pod: &Pod) -> Infallible {
        let Some(cluster) = &self.means.cluster else {
            return std::future::pending().await;
        };
        let mut wishes = self.wish.clone();
        loop {
            if told(&wishes) != Some(true) {
                self.annotate(cluster, pod, true).await;
            }
            self.means.tally.annotated(&self.uid, true);
            // the snapshot shows it a moment later; what takes it away after that is not us
            let shown = wishes.wait_for(|wish| wish.as_ref().is_none_or(|wish| wish.told == Some(true)));
            let _ = timeout(UNSEEN, shown).await;
            let taken = wishes.wait_for(|wish| wish.as_ref().is_some_and(|wish| wish.told != Some(true)));
            if taken.await.is_err() {
                return std::future::pending().await;
            }
            sleep(LOOK).await;
        }
    }

    /// Writes or removes the annotation, until the API server has taken it or the pod is gone.
    async fn annotate(&self, cluster: &Cluster, pod: &Pod, captured: bool) {
        let (mut wait, longest) = BACKOFF;
        while let Err(TellError::Refused(why)) = cluster.tell(pod, captured).await {
            tracing::warn!(pod = %pod.name, namespace = %pod.namespace, why, "cannot annotate a pod; trying again");
            self.means.tally.failed("annotate");
            self.means.tally.why(&self.uid, why);
            sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    /// Others stop sending HBONE before the pod is released. A pod that is gone is not told of.
    async fn untell(&self) {
        let known = self.means.reader.load().workload(&self.uid).is_some();
        if let (Some(cluster), Some(pod), true) = (&self.means.cluster, &self.pod, known) {
            self.annotate(cluster, pod, false).await;
        }
    }

    /// A captured pod: counts, and repairs rules that somebody removed, until its namespace vanishes, or probes
    /// come from elsewhere.
    async fn watch(&self, namespace: &PodNamespace, wish: &Wish, terms: &Terms) -> Result<(), Vanished> {
        let (mut wait, longest) = COUNT;
        let (mut host, mut changes) = (self.means.host.changes(), namespace.changes());
        loop {
            self.count(namespace).await;
            let next = Instant::now() + wait;
            while Instant::now() < next {
                if self.means.host.let_through(&wish.probed) != terms.probes {
                    return Ok(());
                }
                let stayed = Instant::now() + STAYS;
                let parted = !self.means.announcements.knows(&self.uid);
                tokio::select! {
                    () = sleep_until(next.min(stayed)) => {}
                    () = changes.next() => {}
                    Ok(()) = host.changed() => {}
                }
                self.still(namespace)?;
                // its sandbox was to be removed, and was not
                if parted && Instant::now() >= stayed && !self.means.announcements.knows(&self.uid) {
                    self.announce(namespace, wish);
                }
            }
            wait = (wait * 2).min(longest);
            let standing = self.does(namespace, Step::Look).await?;
            if standing != Standing::Captured {
                tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, "somebody removed our rules: putting them back");
                self.means.tally.failed("removed");
                let terms = Terms {
                    guard: self.guard(wish),
                    ..terms.clone()
                };
                self.does(namespace, Step::Capture(&terms)).await?;
            }
        }
    }

    /// Releases the pod, and removes everything once nothing needs it (design 7).
    async fn free(&mut self) {
        if let Some(namespace) = self.namespace.clone() {
            // a namespace that vanishes meanwhile takes everything with it
            let _ = self.rid(&namespace).await;
        }
        self.means.announcements.withdraw(&self.uid);
        self.pending = None;
        self.namespace = None;
        self.in_force = None;
    }

    async fn rid(&mut self, namespace: &PodNamespace) -> Result<(), Vanished> {
        self.in_force = None;
        let standing = self.does(namespace, Step::Look).await?;
        if standing == Standing::Captured {
            self.untell().await;
        }
        self.means.tally.released(&self.uid);
        self.means.host.dismiss(&self.uid);
        if standing == Standing::Captured {
            self.count(namespace).await;
            self.does(namespace, Step::Release).await?;
            tracing::info!(uid = %self.uid, "released; what was redirected goes on");
        }
        self.means.announcements.withdraw(&self.uid);
        self.pending = None;
        if standing == Standing::Untouched {
            return Ok(());
        }
        loop {
            match namespace.sockets() {
                Ok(sockets) if sockets.ours_are_gone() => break,
                Ok(_) => {}
                Err(why) => tracing::warn!(uid = %self.uid, %why, "cannot read a pod's sockets"),
            }
            sleep(LOOK).await;
            self.still(namespace)?;
        }
        self.count(namespace).await;
        self.does(namespace, Step::Remove).await?;
        tracing::info!(uid = %self.uid, "nothing of ours is left");
        Ok(())
    }

    async fn wait_for_namespace(&mut self, wish: &Wish) -> PodNamespace {
        let (mut wait, longest) = BACKOFF;
        let mut wishes = self.wish.clone();
        let mut said = String::new();
        loop {
            let why = match self.find_namespace() {
                Ok(namespace) => return namespace,
                Err(why) => why,
            };
            let absent = matches!(why, NamespaceError::Absent(_) | NamespaceError::NoProcess(_));
            let why = why.to_string();
            self.means.tally.waiting(&wish.pod, why.clone());
            if !absent && why != said {
                tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, why, "cannot capture a pod");
                self.means.tally.failed("namespace");
                said = why;
            }
            // the runtime tells of a namespace, the pod's status of its addresses; anything else takes a person
            let limit = if absent { self.means.namespaces.look() } else { longest };
            wait = wait.min(limit);
            tokio::select! {
                () = self.means.namespaces.handed() => {}
                Ok(()) = wishes.changed() => wait = BACKOFF.0,
                () = sleep(wait) => wait *= 2,
            }
        }
    }

    /// The pod's namespace, if it has the addresses the pod's status tells.
    fn find_namespace(&mut self) -> Result<PodNamespace, NamespaceError> {
        if let Some(namespace) = self.namespace.as_ref().filter(|namespace| namespace.is_current()) {
            return Ok(namespace.clone());
        }
        let namespace = self.means.namespaces.open(&self.uid)?;
        if !namespace.is_new() {
            let wish = self.wish.borrow();
            namespace.has(wish.as_ref().map_or(&[], |wish| &wish.addresses))?;
        }
        self.in_force = None;
        self.namespace = Some(namespace.clone());
        Ok(namespace)
    }

    /// Listeners and leaf come before rules.
    async fn wait_for_ztunnel(&self, namespace: &PodNamespace, wish: &Wish) -> Result<(), Vanished> {
        let mut waited = Duration::ZERO;
        loop {
            let why = match self.means.announcements.standing(&self.uid) {
                Some(Ok(())) => return Ok(()),
                Some(Err(why)) => why,
                None if self.means.announcements.ztunnels() == 0 => "no ztunnel is connected".to_owned(),
                None => "the ztunnel has not answered yet".to_owned(),
            };
            if waited == SLOW {
                tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, why, "waiting to capture a pod");
                self.means.tally.failed("ztunnel");
            }
            self.means.tally.waiting(&wish.pod, why);
            self.announce(namespace, wish);
            if timeout(LOOK, self.means.announcements.served(&self.uid)).await.is_err() {
                waited += LOOK;
            }
            self.still(namespace)?;
        }
    }

    /// Does something to a namespace until it succeeds; answers how far our rules in it go then.
    async fn does(&self, namespace: &PodNamespace, step: Step<'_>) -> Result<Standing, Vanished> {
        let (mut wait, longest) = BACKOFF;
        loop {
            let done = match step {
                Step::Look => namespace.standing().await,
                Step::Capture(terms) => namespace.capture(terms).await.map(|()| Standing::Captured),
                Step::Release => namespace.release().await.map(|()| Standing::Released),
                Step::Remove => namespace.remove().await.map(|()| Standing::Untouched),
            };
            let why = match done {
                Ok(standing) => return Ok(standing),
                Err(why) => why.to_string(),
            };
            self.still(namespace)?;
            tracing::warn!(uid = %self.uid, step = step.label(), why, "cannot change a pod's network; trying again");
            self.means.tally.failed(step.label());
            self.means.tally.why(&self.uid, why);
            sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn count(&self, namespace: &PodNamespace) {
        match namespace.counters().await {
            Ok(counters) => self.means.tally.counted(&self.uid, &counters),
            Err(why) => tracing::debug!(uid = %self.uid, %why, "cannot read a pod's counters"),
        }
    }

    fn still(&self, namespace: &PodNamespace) -> Result<(), Vanished> {
        if namespace.is_current() { Ok(()) } else { Err(Vanished) }
    }
}

/// Resolves when other rules are wished than these; `false` when nobody wishes any more.
async fn asks_otherwise(wishes: &mut watch::Receiver<Option<Wish>>, wish: &Option<Wish>) -> bool {
    let otherwise = |now: &Option<Wish>| match (now, wish) {
        (Some(now), Some(before)) => !now.asks_the_same(before),
        (None, None) => false,
        _ => true,
    };
    wishes.wait_for(otherwise).await.is_ok()
}

/// What the newest snapshot says of the pod's annotation.
fn told(wishes: &watch::Receiver<Option<Wish>>) -> Option<bool> {
    wishes.borrow().as_ref()?.told
}
