//! One pod's way through capture and release, as one task: it looks at what is wished, does the next step, and
//! begins anew whenever the wish changes. Every step may be done twice.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use super::{Guard, Host, NamespaceError, PodNamespace, Probes, Standing, Tally, Wish, tally::State};
use crate::zds::{Announced, Announcements};

/// Waits between attempts at what failed: the first, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// How often a pod's namespace file is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How many looks apart the counters and rules of a captured pod are read: at first, and later on.
const LOOKS_PER_COUNT: (u32, u32) = (2, 64);
/// How long a ztunnel's acknowledgement may take before the delay is reported.
const SLOW: Duration = Duration::from_secs(10);

/// What a pod's task works with.
pub(super) struct PodTask {
    pub(super) uid: Arc<str>,
    pub(super) directory: PathBuf,
    pub(super) announcements: Announcements,
    pub(super) tally: Tally,
    /// What is wished; `None`: not captured.
    pub(super) wish: watch::Receiver<Option<Wish>>,
    /// Dropped once the pod is announced, or turned out not to be.
    pub(super) pending: Option<mpsc::Sender<()>>,
    /// Its namespace, while it has one.
    pub(super) namespace: Option<PodNamespace>,
    /// What the rules in force say; unknown right after a start.
    pub(super) in_force: Option<(Guard, Probes)>,
    /// The host's side of probes.
    pub(super) host: Host,
}

/// The namespace is another, or gone: the pod is announced no more.
struct Vanished;

/// What may be done to a namespace. Each may be done twice.
#[derive(Clone, Copy)]
enum Step<'a> {
    Look,
    Capture(&'a Guard, &'a Probes),
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
                changed = wishes.changed() => if changed.is_err() { return },
                done = self.fulfil(wish) => if done { break },
            }
        }
        self.tally.forget(&self.uid);
    }

    /// Brings the pod to what is wished and keeps it there. Answers only when a pod not wished is rid of us.
    async fn fulfil(&mut self, wish: Option<Wish>) -> bool {
        let Some(wish) = wish else {
            self.free().await;
            return true;
        };
        loop {
            let Err(Vanished) = self.keep_captured(&wish).await;
            self.announcements.withdraw(&self.uid);
            self.host.dismiss(&self.uid);
            self.namespace = None;
            self.in_force = None;
        }
    }

    async fn keep_captured(&mut self, wish: &Wish) -> Result<std::convert::Infallible, Vanished> {
        let namespace = self.wait_for_namespace(wish).await;
        self.announcements.announce(Announced {
            pod: wish.pod.clone(),
            netns: namespace.file(),
        });
        self.pending = None;
        // rules that stand already are brought up to date at once: nothing passes them that should not meanwhile
        let standing = self.does(&namespace, Step::Look).await?;
        if standing != Standing::Captured {
            self.wait_for_ztunnel(&namespace, wish).await?;
        }
        // the host's side first: a pod that expects it would refuse its probes meanwhile
        let probes = self.admit(&namespace, wish).await;
        let rules = Some((wish.guard.clone(), probes));
        if self.in_force != rules || standing != Standing::Captured {
            self.apply(&namespace, wish).await?;
            tracing::info!(pod = %wish.pod.name, namespace = %wish.pod.namespace, uid = %self.uid, "captured");
        }
        self.tally.state(&wish.pod, State::Captured, None);
        self.watch(&namespace, wish).await
    }

    /// Has the host know the pod, as far as its kubelet probes it.
    async fn admit(&self, namespace: &PodNamespace, wish: &Wish) -> Probes {
        let addresses = namespace.addresses().await.unwrap_or_else(|why| {
            tracing::warn!(uid = %self.uid, %why, "cannot read a pod's addresses");
            BTreeSet::new()
        });
        self.host.admit(&self.uid, addresses, &wish.probed).await
    }

    /// Brings the rules of a captured pod up to date.
    async fn apply(&mut self, namespace: &PodNamespace, wish: &Wish) -> Result<(), Vanished> {
        self.in_force = None;
        let probes = self.host.let_through(&wish.probed);
        self.does(namespace, Step::Capture(&wish.guard, &probes)).await?;
        self.in_force = Some((wish.guard.clone(), probes));
        Ok(())
    }

    /// A captured pod: counts, and repairs rules that somebody removed, until its namespace vanishes.
    async fn watch(&mut self, namespace: &PodNamespace, wish: &Wish) -> Result<std::convert::Infallible, Vanished> {
        let (mut looks, most) = LOOKS_PER_COUNT;
        loop {
            self.count(namespace).await;
            for _ in 0..looks {
                sleep(LOOK).await;
                self.still(namespace)?;
                let let_through = self.host.let_through(&wish.probed);
                if self.in_force.as_ref().is_none_or(|(_, probes)| *probes != let_through) {
                    self.apply(namespace, wish).await?;
                }
            }
            looks = (looks * 2).min(most);
            let standing = self.does(namespace, Step::Look).await?;
            if standing != Standing::Captured {
                tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, "somebody removed our rules: putting them back");
                self.tally.failed("removed");
                self.apply(namespace, wish).await?;
            }
        }
    }

    /// Releases the pod, and removes everything once nothing needs it (design 7).
    async fn free(&mut self) {
        if let Some(namespace) = self.namespace.clone() {
            // a namespace that vanishes meanwhile takes everything with it
            let _ = self.rid(&namespace).await;
        }
        self.announcements.withdraw(&self.uid);
        self.pending = None;
        self.namespace = None;
        self.in_force = None;
    }

    async fn rid(&mut self, namespace: &PodNamespace) -> Result<(), Vanished> {
        self.in_force = None;
        self.tally.released(&self.uid);
        self.host.dismiss(&self.uid);
        let standing = self.does(namespace, Step::Look).await?;
        if standing == Standing::Captured {
            self.count(namespace).await;
            self.does(namespace, Step::Release).await?;
            tracing::info!(uid = %self.uid, "released; what was redirected goes on");
        }
        self.announcements.withdraw(&self.uid);
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
        let mut said = String::new();
        loop {
            if let Some(namespace) = self.namespace.as_ref().filter(|namespace| namespace.is_current()) {
                return namespace.clone();
            }
            match PodNamespace::open(&self.directory, &self.uid) {
                Ok(namespace) => {
                    self.in_force = None;
                    self.namespace = Some(namespace.clone());
                    return namespace;
                }
                Err(why) => {
                    let absent = matches!(why, NamespaceError::Absent(_));
                    let why = why.to_string();
                    self.tally.state(&wish.pod, State::Waiting, Some(why.clone()));
                    if !absent && why != said {
                        tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, why, "cannot capture a pod");
                        self.tally.failed("namespace");
                        said = why;
                    }
                    // a namespace appears any moment; anything else takes a person
                    let limit = if absent { LOOK } else { longest };
                    sleep(wait).await;
                    wait = (wait * 2).min(limit);
                }
            }
        }
    }

    /// Listeners and leaf come before rules.
    async fn wait_for_ztunnel(&self, namespace: &PodNamespace, wish: &Wish) -> Result<(), Vanished> {
        let mut waited = Duration::ZERO;
        loop {
            let why = match self.announcements.standing(&self.uid) {
                Some(Ok(())) => return Ok(()),
                Some(Err(why)) => why,
                None if self.announcements.ztunnels() == 0 => "no ztunnel is connected".to_owned(),
                None => "the ztunnel has not answered yet".to_owned(),
            };
            if waited == SLOW {
                tracing::warn!(pod = %wish.pod.name, namespace = %wish.pod.namespace, why, "waiting to capture a pod");
                self.tally.failed("ztunnel");
            }
            self.tally.state(&wish.pod, State::Waiting, Some(why));
            if timeout(LOOK, self.announcements.served(&self.uid)).await.is_err() {
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
                Step::Capture(guard, probes) => namespace.capture(guard, probes).await.map(|()| Standing::Captured),
                Step::Release => namespace.release().await.map(|()| Standing::Released),
                Step::Remove => namespace.remove().await.map(|()| Standing::Untouched),
            };
            let why = match done {
                Ok(standing) => return Ok(standing),
                Err(why) => why.to_string(),
            };
            self.still(namespace)?;
            tracing::warn!(uid = %self.uid, step = step.label(), why, "cannot change a pod's network; trying again");
            self.tally.failed(step.label());
            self.tally.why(&self.uid, why);
            sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn count(&self, namespace: &PodNamespace) {
        match namespace.counters().await {
            Ok(counters) => self.tally.counted(&self.uid, &counters),
            Err(why) => tracing::debug!(uid = %self.uid, %why, "cannot read a pod's counters"),
        }
    }

    fn still(&self, namespace: &PodNamespace) -> Result<(), Vanished> {
        if namespace.is_current() { Ok(()) } else { Err(Vanished) }
    }
}
