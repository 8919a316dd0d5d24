//! What lives now, and what judged it. A connection is registered first and judged then, so that no change falls
//! between; when what judged it is no longer the same, it is judged again (design 15).

mod outside;

use std::{
    collections::BTreeMap,
    future::poll_fn,
    net::SocketAddr,
    ops::Bound::{Excluded, Unbounded},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
};

use act::{config::Reader, telemetry::Outcome};
use decide::{
    model::{Decider, Identity, PolicySet, Refusal, Workload},
    snapshot::Snapshot,
    verdict::admit,
};
use serde::Serialize;
use tokio::{sync::Notify, time::Instant};

use self::outside::Outside;
pub(super) use self::outside::{Asked, Judged};

/// Connections judged again before others get their turn.
const SLICE: usize = 64;

/// How a connection reached us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Direction {
    /// Made by the pod.
    Outbound,
    /// Towards the pod, by HBONE.
    Inbound,
    /// Towards the pod, from another pod of this node, in memory.
    SameNode,
    /// Towards the pod, as plaintext.
    Plaintext,
}

/// What a connection is judged by.
#[derive(Debug, Clone, Serialize)]
pub struct LiveConnection {
    /// How it reached us.
    pub direction: Direction,
    /// Who connects.
    pub client: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// The verified identity behind it, if there is one.
    pub peer: Option<Identity>,
    /// Its age, in seconds.
    pub seconds: u64,
}

/// Everything that lives. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Live {
    registry: Arc<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    numbers: AtomicU64,
    /// In the order in which they were registered.
    entries: Mutex<BTreeMap<u64, Arc<Entry>>>,
    outside: Outside,
    left: Notify,
    /// Connections looked at after a change.
    looked_at: AtomicU64,
}

#[derive(Debug)]
struct Entry {
    facts: LiveConnection,
    since: Instant,
    /// What judged it; `None` before it is judged.
    judged: Mutex<Option<Arc<PolicySet>>>,
    cut: Mutex<Cut>,
}

/// Whether a connection is to be cut, and who waits to hear it. Not a channel: that would be another allocation for
/// each connection.
#[derive(Debug)]
enum Cut {
    NotYet(Option<Waker>),
    Because(Box<Refusal>),
}

/// A registered connection; leaves when dropped.
#[derive(Debug)]
pub(super) struct Tracked {
    registry: Arc<Registry>,
    number: u64,
    entry: Arc<Entry>,
    /// The ExternalServices that judge it, if it goes outside.
    outside: Box<[Asked]>,
}

impl Live {
    /// Registers a connection.
    pub(super) fn track(
        &self,
        direction: Direction,
        client: SocketAddr,
        destination: SocketAddr,
        peer: Option<&Identity>,
    ) -> Tracked {
        let entry = Arc::new(Entry {
            facts: LiveConnection {
                direction,
                client,
                destination,
                peer: peer.cloned(),
                seconds: 0,
            },
            since: Instant::now(),
            judged: Mutex::new(None),
            cut: Mutex::new(Cut::NotYet(None)),
        });
        let number = self.registry.numbers.fetch_add(1, Relaxed);
        self.registry.lock().insert(number, entry.clone());
        Tracked {
            registry: self.registry.clone(),
            number,
            entry,
            outside: Box::default(),
        }
    }

    /// Everything that lives now.
    pub(super) fn list(&self) -> Vec<LiveConnection> {
        let entries = self.registry.lock();
        entries
            .values()
            .map(|entry| LiveConnection {
                seconds: entry.since.elapsed().as_secs(),
                ..entry.facts.clone()
            })
            .collect()
    }

    /// Waits until nothing lives.
    pub(super) async fn empty(&self) {
        loop {
            let left = self.registry.left.notified();
            if self.registry.lock().is_empty() {
                return;
            }
            left.await;
        }
    }
}

/// Judges everything again whenever what judges the pod is no longer the same, and what goes to an ExternalService
/// whenever what judges that is not; for ever. Changes that arrive meanwhile are one, and a change of anything else
/// costs one comparison, however many connections there are.
pub(super) async fn rejudge(mut reader: Reader, uid: Arc<str>, live: Live) {
    let mut done: Option<(Judge, Arc<Snapshot>)> = None;
    loop {
        let snapshot = reader.changed().await;
        if !snapshot.complete {
            continue;
        }
        let now = Judge::of(snapshot.workload(&uid));
        if !done.as_ref().is_some_and(|(judge, _)| judge.is(&now)) {
            live.registry.rejudge(&now).await;
        }
        let same = |(_, before): &(Judge, Arc<Snapshot>)| before.external.is(&snapshot.external);
        if let Some(own) = now.0.as_ref().filter(|_| !done.as_ref().is_some_and(same)) {
            live.registry.rejudge_outside(&snapshot, own).await;
        }
        done = Some((now, snapshot));
    }
}

/// What judges a pod's connections: nothing, once it is gone.
struct Judge(Option<Arc<Workload>>);

impl Judge {
    fn of(own: Option<&Arc<Workload>>) -> Self {
        Self(own.cloned())
    }

    /// Whether it judges as the other does: by the same `Arc`. A connection that registers meanwhile sees to it by
    /// itself that it is judged by the newest ([`Tracked::judge`]).
    fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one.policies, &other.policies),
            (None, None) => true,
            _ => false,
        }
    }
}

impl Tracked {
    /// Judges the connection by what holds now. Answers the workload that was reached and the rule that allowed it,
    /// if one was needed.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn judge(&self, reader: &Reader, uid: &str) -> Result<(Arc<Workload>, Option<Decider>), Refusal> {
        loop {
            let own = reader.load().workload(uid).cloned().ok_or(Refusal::NotConfigured)?;
            let verdict = self.entry.verdict(&own);
            *lock(&self.entry.judged) = Some(own.policies.clone());
            // A change that was published since is not told to a connection that was not judged yet.
            let now = reader.load();
            if now
                .workload(uid)
                .is_some_and(|now| Arc::ptr_eq(&now.policies, &own.policies))
            {
                return verdict.map(|by| (own, by));
            }
        }
    }

    /// Whether it came as plaintext.
    pub(super) fn is_plaintext(&self) -> bool {
        self.entry.facts.direction == Direction::Plaintext
    }

    /// The pod that makes the connection is known: nothing here judges it further than that, unless it goes outside.
    pub(super) fn departs(&self, own: &Workload) {
        *lock(&self.entry.judged) = Some(own.policies.clone());
    }

    /// Resolves when the connection is to be cut.
    pub(super) fn cut(&self) -> impl Future<Output = Outcome> + '_ {
        poll_fn(|context| self.entry.poll_cut(context))
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        for (key, _) in &self.outside {
            self.registry.outside.remove(key, self.number);
        }
        self.registry.lock().remove(&self.number);
        self.registry.left.notify_waiters();
    }
}

impl Entry {
    fn rejudge(&self, own: Option<&Arc<Workload>>) {
        let mut judged = lock(&self.judged);
        let Some(by) = &*judged else { return };
        let refusal = match (own, self.facts.direction) {
            (None, Direction::Outbound) => Refusal::NotConfigured,
            (None, _) => Refusal::NotOurs(self.facts.destination),
            (Some(_), Direction::Outbound) => return,
            (Some(own), _) if Arc::ptr_eq(by, &own.policies) => return,
            (Some(own), _) => {
                *judged = Some(own.policies.clone());
                match self.verdict(own) {
                    Ok(_) => return,
                    Err(refusal) => refusal,
                }
            }
        };
        drop(judged);
        self.cut(refusal);
    }

    fn cut(&self, refusal: Refusal) {
        let mut cut = lock(&self.cut);
        if let Cut::NotYet(waker) = &mut *cut {
            let waker = waker.take();
            *cut = Cut::Because(Box::new(refusal));
            drop(cut);
            waker.into_iter().for_each(Waker::wake);
        }
    }

    fn poll_cut(&self, context: &Context<'_>) -> Poll<Outcome> {
        match &mut *lock(&self.cut) {
            Cut::Because(refusal) => Poll::Ready(Outcome::Cut((**refusal).clone())),
            Cut::NotYet(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
        }
    }

    fn verdict(&self, own: &Workload) -> Result<Option<Decider>, Refusal> {
        let facts = &self.facts;
        if !own.addresses.contains(&facts.destination.ip()) {
            return Err(Refusal::NotOurs(facts.destination));
        }
        // A pod that left the mesh takes plaintext as if nothing of ours stood before it, which is soon so.
        if facts.direction == Direction::Plaintext && !own.capture.is_enrolled() {
            return Ok(None);
        }
        admit(&own.policies, facts.peer.as_ref(), facts.client.ip(), facts.destination)
    }
}

impl Registry {
    /// In slices, so that everything else on this worker has its turn between them, and no lock is held for long.
    async fn rejudge(&self, now: &Judge) {
        let end = self.numbers.load(Relaxed);
        let mut last = None;
        loop {
            let slice: Vec<(u64, Arc<Entry>)> = {
                let entries = self.lock();
                let rest = entries.range((last.map_or(Unbounded, Excluded), Unbounded));
                rest.take_while(|(number, _)| **number < end)
                    .take(SLICE)
                    .map(|(number, entry)| (*number, entry.clone()))
                    .collect()
            };
            let Some((number, _)) = slice.last() else { return };
            last = Some(*number);
            slice.iter().for_each(|(_, entry)| entry.rejudge(now.0.as_ref()));
            self.looked_at.fetch_add(slice.len() as u64, Relaxed);
            tokio::task::yield_now().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Entry>>> {
        lock(&self.entries)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
