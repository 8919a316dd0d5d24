//! The agent's side: what should be served is written down once in [`Announcements`]; every connected ztunnel
//! is told, one request at a time, until what it was told equals that.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

use super::{
    ListenError, Malformed, Packets, Pod, Received, Request, Response, bind,
    message::{decode_hello, decode_response},
    packet::Listener,
};

/// How long a ztunnel may take to answer one request.
const ANSWER: Duration = Duration::from_secs(30);
/// Waits before a refused pod is announced again: the first, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// Ztunnels connected at once: one, two during an upgrade, and room for those that have not noticed their end.
const MAX_SESSIONS: usize = 8;

/// A pod to be served, and where.
#[derive(Debug, Clone)]
pub struct Announced {
    /// Which.
    pub pod: Pod,
    /// Its network namespace.
    pub netns: Arc<OwnedFd>,
}

/// What the ztunnels of this node should serve, and what the newest of them says to it: during an upgrade there are
/// two. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Announcements {
    state: Arc<Mutex<State>>,
    changed: Arc<watch::Sender<u64>>,
}

/// Why a ztunnel's connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the ztunnel closed the connection")]
    Closed,
    #[error("the connection to the ztunnel broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the ztunnel broke the protocol: {0}")]
    Protocol(#[from] Malformed),
    #[error("the ztunnel broke the protocol: it spoke without being asked")]
    Unasked,
    #[error("the ztunnel did not answer within {ANSWER:?}")]
    Silent,
}

#[derive(Debug, Default)]
struct State {
    pods: BTreeMap<Arc<str>, Entry>,
    /// Whether every pod of the node has been announced once.
    complete: bool,
    revision: u64,
    /// What each connected ztunnel last said to each pod; the newest ztunnel's word counts.
    sessions: BTreeMap<Session, HashMap<Arc<str>, Response>>,
    next_session: u64,
}

/// One ztunnel's connection. The newest comes last: that which started last, whoever connected first. One that does
/// not say when it started is as new as its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Session {
    started: u64,
    connection: u64,
}

#[derive(Debug)]
struct Entry {
    announced: Announced,
    revision: u64,
}

/// What one ztunnel has been told of one pod.
#[derive(Debug, Clone, Copy)]
struct Told {
    revision: u64,
    /// When it is to be told again, because it refused, and how long to wait after that.
    again: Option<(Instant, Duration)>,
}

/// What to tell a ztunnel next.
#[derive(Debug)]
enum Step {
    Add(Announced, u64),
    Del(Arc<str>),
    SnapshotSent,
    Wait(Option<Instant>),
}

impl Announcements {
    /// Nothing announced.
    pub fn new() -> Self {
        Self {
            state: Arc::default(),
            changed: Arc::new(watch::Sender::new(0)),
        }
    }

    /// Has a pod served. Announced again with another namespace or name, it is told again.
    pub fn announce(&self, announced: Announced) {
        let told = |entry: &Entry| {
            entry.announced.pod == announced.pod && Arc::ptr_eq(&entry.announced.netns, &announced.netns)
        };
        if self.lock().pods.get(&announced.pod.uid).is_some_and(told) {
            return;
        }
        self.change(|state| {
            state.revision += 1;
            let entry = Entry {
                revision: state.revision,
                announced,
            };
            for said in state.sessions.values_mut() {
                said.remove(&entry.announced.pod.uid);
            }
            state.pods.insert(entry.announced.pod.uid.clone(), entry);
        });
    }

    /// Has a pod released.
    pub fn withdraw(&self, uid: &str) {
        self.change(|state| {
            state.pods.remove(uid);
            for said in state.sessions.values_mut() {
                said.remove(uid);
            }
        });
    }

    /// Whether a pod is announced.
    pub fn knows(&self, uid: &str) -> bool {
        self.lock().pods.contains_key(uid)
    }

    /// As [`Announcements::withdraw`], if the pod was announced in the network namespace with this inode. Whether it was.
    pub fn withdraw_from(&self, uid: &str, netns: u64) -> bool {
        let inode = |entry: &Entry| rustix::fs::fstat(&entry.announced.netns).map(|found| found.st_ino).ok();
        let here = self.lock().pods.get(uid).and_then(inode) == Some(netns);
        if here {
            self.withdraw(uid);
        }
        here
    }

    /// Every pod of the node has been announced: ztunnels release what they were not told.
    pub fn complete(&self) {
        self.change(|state| state.complete = true);
    }

    /// What the newest ztunnel says to a pod: `None` while it has said nothing, or none is connected.
    pub fn standing(&self, uid: &str) -> Option<Response> {
        self.lock().sessions.values().next_back()?.get(uid).cloned()
    }

    /// Waits until the newest ztunnel serves this pod. Bound the wait outside.
    pub async fn served(&self, uid: &str) {
        let mut changed = self.changed.subscribe();
        while self.standing(uid) != Some(Ok(())) {
            if changed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How many ztunnels are connected.
    pub fn ztunnels(&self) -> usize {
        self.lock().sessions.len()
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.send_modify(|version| *version += 1);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Announcements {
    fn default() -> Self {
        Self::new()
    }
}

/// Listens for ztunnels at `path`, and answers the future that serves them for as long as it is polled. The
/// file is gone when the future is dropped; one left by an agent that died is replaced.
///
/// # Errors
/// [`ListenError`].
pub fn listen(path: &Path, announcements: Announcements) -> Result<impl Future<Output = ()> + use<>, ListenError> {
    let (listener, file) = bind(path)?;
    Ok(async move {
        let _file = file;
        accept(&listener, &announcements).await;
    })
}

async fn accept(listener: &Listener, announcements: &Announcements) {
    let mut sessions = tokio::task::JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept(), if sessions.len() < MAX_SESSIONS => accepted,
            Some(_) = sessions.join_next() => continue,
        };
        match accepted {
            Ok(packets) => {
                let announcements = announcements.clone();
                sessions.spawn(async move {
                    let why = serve(&packets, &announcements).await;
                    tracing::info!(%why, "a ztunnel left");
                });
            }
            Err(why) => {
                tracing::warn!(%why, "could not accept a ztunnel");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One ztunnel, from its hello to its end.
async fn serve(packets: &Packets, announcements: &Announcements) -> Ended {
    let greeted = async {
        let Received { packet, descriptors } = answer(packets).await?;
        Ok::<_, Ended>(decode_hello(&packet, descriptors.len())?)
    };
    let number = match greeted.await {
        Ok(number) => number,
        Err(ended) => return ended,
    };
    tracing::info!("a ztunnel connected");
    let session = announcements.change(|state| state.greet(number));
    let ended = tell(packets, announcements, session).await;
    announcements.change(|state| state.sessions.remove(&session));
    match ended {
        Ok(never) => match never {},
        Err(ended) => ended,
    }
}

/// Tells a ztunnel everything it has not been told, for ever.
async fn tell(
    packets: &Packets,
    announcements: &Announcements,
    session: Session,
) -> Result<std::convert::Infallible, Ended> {
    let mut changed = announcements.changed.subscribe();
    let mut told = HashMap::new();
    let mut snapshot_sent = false;
    loop {
        changed.mark_unchanged();
        let step = announcements.lock().next(&told, snapshot_sent, Instant::now());
        match step {
            Step::Add(announced, revision) => {
                let uid = announced.pod.uid.clone();
                let before = told.get(&uid).copied();
                let response = ask(packets, Request::Add(announced.pod), Some(&announced.netns)).await?;
                if let Err(why) = &response {
                    tracing::debug!(pod = %uid, why, "the ztunnel does not serve a pod yet");
                }
                told.insert(uid.clone(), Told::new(revision, &response, before));
                announcements.change(|state| state.said(session, &uid, revision, response));
            }
            Step::Del(uid) => {
                if let Err(why) = ask(packets, Request::Del(uid.clone()), None).await? {
                    tracing::warn!(pod = %uid, why, "the ztunnel does not release a pod");
                }
                told.remove(&uid);
            }
            Step::SnapshotSent => {
                if let Err(why) = ask(packets, Request::SnapshotSent, None).await? {
                    tracing::warn!(why, "the ztunnel refuses the snapshot's end");
                }
                snapshot_sent = true;
            }
            Step::Wait(until) => tokio::select! {
                _ = changed.changed() => {}
                () = sleep_until(until) => {}
                received = packets.receive() => {
                    return Err(received?.map_or(Ended::Closed, |_| Ended::Unasked));
                }
            },
        }
    }
}

/// One request and its answer. A request that fits no packet is refused here, so that it is told of like any other.
async fn ask(packets: &Packets, request: Request, netns: Option<&OwnedFd>) -> Result<Response, Ended> {
    let packet = match request.encode() {
        Ok(packet) => packet,
        Err(why) => return Ok(Err(why.to_string())),
    };
    packets.send(&packet, netns.map(AsFd::as_fd)).await?;
    let Received { packet, descriptors } = answer(packets).await?;
    Ok(decode_response(&packet, descriptors.len())?)
}

async fn answer(packets: &Packets) -> Result<Received, Ended> {
    timeout(ANSWER, packets.receive())
        .await
        .map_err(|_| Ended::Silent)??
        .ok_or(Ended::Closed)
}

async fn sleep_until(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

impl State {
    /// What a ztunnel that was told `told` is to be told next: first what to release, then what it was never
    /// told, then the end of the snapshot, then again what it refused.
    fn next(&self, told: &HashMap<Arc<str>, Told>, snapshot_sent: bool, now: Instant) -> Step {
        if let Some(uid) = told.keys().find(|uid| !self.pods.contains_key(*uid)) {
            return Step::Del(uid.clone());
        }
        let add = |entry: &Entry| Step::Add(entry.announced.clone(), entry.revision);
        let is_new =
            |(uid, entry): &(&Arc<str>, &Entry)| told.get(*uid).is_none_or(|told| told.revision != entry.revision);
        if let Some((_, entry)) = self.pods.iter().find(is_new) {
            return add(entry);
        }
        if self.complete && !snapshot_sent {
            return Step::SnapshotSent;
        }
        let refused = self.pods.iter().filter_map(|(uid, entry)| {
            let (at, _) = told.get(uid)?.again?;
            Some((at, entry))
        });
        match refused.min_by_key(|(at, _)| *at) {
            Some((at, entry)) if at <= now => add(entry),
            later => Step::Wait(later.map(|(at, _)| at)),
        }
    }

    fn greet(&mut self, number: u64) -> Session {
        self.next_session += 1;
        let newest = self.sessions.keys().next_back().map_or(0, |newest| newest.started);
        let session = Session {
            started: if number == 0 { newest } else { number },
            connection: self.next_session,
        };
        self.sessions.insert(session, HashMap::new());
        session
    }

    fn said(&mut self, session: Session, uid: &Arc<str>, revision: u64, response: Response) {
        let current = self.pods.get(uid).is_some_and(|entry| entry.revision == revision);
        if let Some(said) = self.sessions.get_mut(&session).filter(|_| current) {
            said.insert(uid.clone(), response);
        }
    }
}

impl Told {
    fn new(revision: u64, response: &Response, before: Option<Self>) -> Self {
        let (first, longest) = RETRY;
        let wait = match before.and_then(|before| before.again) {
            Some((_, wait)) => (wait * 2).min(longest),
            None => first,
        };
        Self {
            revision,
            again: response.is_err().then(|| (Instant::now() + wait, wait)),
        }
    }
}
