//! The leaves of this process, by identity: one entry and one renewal per identity, however many hold it.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::SystemTime,
};

use decide::model::Identity;
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{
    Authority, CertError, Leaf,
    renewal::{Clock, Random, Renewal, State},
};

/// The leaves of this process, by identity.
#[derive(Clone)]
pub struct Certificates {
    shared: Arc<Shared>,
}

/// Keeps an identity's leaf fresh for as long as it lives. Several may be held of one identity.
pub struct Hold {
    /// Whose.
    pub identity: Identity,
    shared: Arc<Shared>,
    /// Which entry it counts for; `None` beyond the bound.
    counted: Option<Identity>,
}

/// What a process may choose.
#[derive(Clone)]
pub struct Settings {
    /// The clock certificates are judged by.
    pub clock: Clock,
    /// Spreads renewals and retries.
    pub random: Random,
    /// Identities held at the same time (default 4096).
    pub most: usize,
}

struct Shared {
    renewal: Arc<Renewal>,
    runtime: Handle,
    most: usize,
    entries: Mutex<HashMap<Identity, Entry>>,
}

struct Entry {
    holds: usize,
    state: watch::Receiver<State>,
    /// Told when a missing leaf is wanted.
    wanted: Arc<Notify>,
    task: AbortHandle,
}

impl Certificates {
    /// No leaves yet. Renewal tasks run on the runtime this is called on, which must outlive it.
    pub fn new(authority: Arc<dyn Authority>) -> Self {
        Self::with(authority, Settings::default())
    }

    /// As [`Certificates::new`], with another clock, randomness or bound.
    pub fn with(authority: Arc<dyn Authority>, settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                renewal: Arc::new(Renewal::new(authority, settings.clock, settings.random)),
                runtime: Handle::current(),
                most: settings.most,
                entries: Mutex::default(),
            }),
        }
    }

    /// Wants an identity from now on: starts fetching and renewing, until every hold of it is dropped. Beyond
    /// the bound on identities the hold does nothing, and [`Certificates::leaf`] says so.
    #[must_use = "the identity is released when its last hold is dropped"]
    pub fn hold(&self, identity: &Identity) -> Hold {
        let counted = self.shared.count_hold(identity);
        if !counted {
            tracing::warn!(%identity, most = self.shared.most, "too many identities are held");
        }
        Hold {
            identity: identity.clone(),
            shared: self.shared.clone(),
            counted: counted.then(|| identity.clone()),
        }
    }

    /// The leaf of a held identity that is valid now, waiting for the first one. Bound the wait outside.
    ///
    /// # Errors
    /// Why there is none, as soon as one attempt has failed and nothing valid is left; asking makes the next
    /// attempt come soon;
    /// [`CertError::Released`] when nobody holds it (any longer).
    pub async fn leaf(&self, identity: &Identity) -> Result<Arc<Leaf>, CertError> {
        let (mut state, wanted) = self.watch(identity)?;
        loop {
            if let Some(known) = self.judge(&state.borrow_and_update()) {
                if known.is_err() {
                    wanted.notify_one();
                }
                return known;
            }
            if state.changed().await.is_err() {
                return Err(CertError::Released(identity.clone()));
            }
        }
    }

    /// The leaf of an identity that is valid now, without waiting.
    pub fn current(&self, identity: &Identity) -> Option<Arc<Leaf>> {
        let entries = self.shared.lock();
        let state = entries.get(identity)?.state.borrow();
        self.judge(&state)?.ok()
    }

    /// Every leaf held, and for those missing why, in order of identity. One that is still asked for the
    /// first time is [`CertError::Unavailable`].
    pub fn list(&self) -> Vec<(Identity, Result<Arc<Leaf>, CertError>)> {
        let mut list: Vec<_> = self
            .shared
            .lock()
            .iter()
            .map(|(identity, entry)| {
                let known = self.judge(&entry.state.borrow()).unwrap_or_else(|| {
                    Err(CertError::Unavailable {
                        identity: identity.clone(),
                        why: "not answered yet".into(),
                    })
                });
                (identity.clone(), known)
            })
            .collect();
        list.sort_by(|(one, _), (other, _)| one.cmp(other));
        list
    }

    fn watch(&self, identity: &Identity) -> Result<(watch::Receiver<State>, Arc<Notify>), CertError> {
        let entries = self.shared.lock();
        match entries.get(identity) {
            Some(entry) => Ok((entry.state.clone(), entry.wanted.clone())),
            None if entries.len() >= self.shared.most => Err(CertError::TooMany {
                identity: identity.clone(),
                most: self.shared.most,
            }),
            None => Err(CertError::Released(identity.clone())),
        }
    }

    /// The answer a state gives now, if it gives one.
    fn judge(&self, state: &State) -> Option<Result<Arc<Leaf>, CertError>> {
        let now = (self.shared.renewal.clock)();
        match (&state.leaf, &state.failure) {
            (Some(leaf), _) if leaf.valid_at(now) => Some(Ok(leaf.clone())),
            (_, Some(failure)) => Some(Err(failure.clone())),
            (_, None) => None,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<Identity, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a hold; false when it would be of one identity too many.
    fn count_hold(&self, identity: &Identity) -> bool {
        let mut entries = self.lock();
        if let Some(entry) = entries.get_mut(identity) {
            entry.holds += 1;
            entry.wanted.notify_one();
            return true;
        }
        if entries.len() >= self.most {
            return false;
        }
        entries.insert(identity.clone(), self.start(identity));
        self.renewal.held.fetch_add(1, Ordering::Relaxed);
        self.renewal.measure();
        true
    }

    fn start(&self, identity: &Identity) -> Entry {
        let (sender, state) = watch::channel(State::default());
        let wanted = Arc::new(Notify::new());
        let renewal = self.renewal.clone().keep(identity.clone(), sender, wanted.clone());
        let task = self.runtime.spawn(renewal);
        Entry {
            holds: 1,
            state,
            wanted,
            task: task.abort_handle(),
        }
    }

    fn release(&self, identity: &Identity) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(identity) else { return };
        entry.holds -= 1;
        if entry.holds == 0 {
            entries.remove(identity);
            self.renewal.held.fetch_sub(1, Ordering::Relaxed);
            self.renewal.measure();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(identity) = &self.counted {
            self.shared.release(identity);
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemTime::now),
            random: Arc::new(fastrand::f64),
            most: 4096,
        }
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Certificates")
            .field(&self.shared.lock().len())
            .finish()
    }
}

impl fmt::Debug for Hold {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Hold").field(&self.identity).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        sync::Semaphore,
        time::{Instant, advance},
    };

    use super::{super::local::LocalAuthority, *};
    use crate::certs::{BoxFuture, Signed};

    /// Wall clock and timers that move together, in paused time.
    fn clock() -> Clock {
        let (start, wall) = (Instant::now(), SystemTime::now());
        Arc::new(move || wall + start.elapsed())
    }

    struct Stage {
        authority: Arc<LocalAuthority>,
        certificates: Certificates,
        clock: Clock,
    }

    fn stage(random: f64) -> Stage {
        let clock = clock();
        let authority = Arc::new(LocalAuthority::with_clock(clock.clone()).unwrap());
        let settings = Settings {
            clock: clock.clone(),
            random: Arc::new(move || random),
            most: 3,
        };
        Stage {
            certificates: Certificates::with(authority.clone(), settings),
            authority,
            clock,
        }
    }

    fn identity(account: &str) -> Identity {
        Identity::new("cluster.local", "shop", account).unwrap()
    }

    fn refused(account: &str) -> CertError {
        CertError::Refused {
            identity: identity(account),
            why: "no".into(),
        }
    }

    async fn settle() {
        for _ in 0..50 {
            tokio::task::yield_now().await;
        }
    }

    /// Answers only as often as it is let, and knows how many ask at once.
    struct Gate {
        inner: LocalAuthority,
        gate: Semaphore,
        asking: std::sync::atomic::AtomicUsize,
    }

    impl Authority for Gate {
        fn sign<'a>(&'a self, identity: &'a Identity, csr: &'a str) -> BoxFuture<'a, Result<Signed, CertError>> {
            Box::pin(async move {
                self.asking.fetch_add(1, Ordering::SeqCst);
                self.gate.acquire().await.unwrap().forget();
                self.inner.sign(identity, csr).await
            })
        }
    }

    fn gate() -> Arc<Gate> {
        Arc::new(Gate {
            inner: LocalAuthority::new().unwrap(),
            gate: Semaphore::new(0),
            asking: 0.into(),
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_waiters_cost_one_fetch() {
        let gate = gate();
        let certificates = Certificates::new(gate.clone());
        let holds: Vec<Hold> = (0..3).map(|_| certificates.hold(&identity("web"))).collect();
        let waiters: Vec<_> = (0..1000)
            .map(|_| {
                let certificates = certificates.clone();
                tokio::spawn(async move { certificates.leaf(&identity("web")).await.unwrap().serial.clone() })
            })
            .collect();
        settle().await;
        assert!(certificates.current(&identity("web")).is_none());
        gate.gate.add_permits(1);
        let mut serials = std::collections::HashSet::new();
        for waiter in waiters {
            serials.insert(waiter.await.unwrap());
        }
        assert_eq!((serials.len(), gate.inner.signed()), (1, 1));
        drop(holds);
    }

    #[tokio::test(start_paused = true)]
    async fn at_most_eight_fetches_run_at_once() {
        let gate = gate();
        let certificates = Certificates::new(gate.clone());
        let _holds: Vec<Hold> = (0..20)
            .map(|n| certificates.hold(&identity(&format!("a{n}"))))
            .collect();
        settle().await;
        assert_eq!(gate.asking.load(Ordering::SeqCst), 8);
        gate.gate.add_permits(20);
        for n in 0..20 {
            certificates.leaf(&identity(&format!("a{n}"))).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaf_is_renewed_at_half_life_and_the_old_one_served_until_then() {
        let stage = stage(0.5);
        stage.authority.live(Duration::from_secs(3600));
        let _hold = stage.certificates.hold(&identity("web"));
        let first = stage.certificates.leaf(&identity("web")).await.unwrap();
        advance(Duration::from_secs(1790)).await;
        settle().await;
        assert_eq!(
            stage.certificates.current(&identity("web")).unwrap().serial,
            first.serial
        );
        for _ in 0..3 {
            advance(Duration::from_secs(10)).await;
            settle().await;
        }
        let second = stage.certificates.current(&identity("web")).unwrap();
        assert_ne!(second.serial, first.serial);
        assert_eq!(stage.authority.signed(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn failed_renewals_keep_the_old_leaf_to_its_end_and_not_beyond() {
        let stage = stage(0.5);
        stage.authority.live(Duration::from_secs(60));
        let web = identity("web");
        let _hold = stage.certificates.hold(&web);
        let first = stage.certificates.leaf(&web).await.unwrap();
        stage.authority.fail(Some(refused("web")));
        let mut served = 0;
        while (stage.clock)() < first.not_after {
            assert_eq!(stage.certificates.leaf(&web).await.unwrap().serial, first.serial);
            advance(Duration::from_secs(1)).await;
            settle().await;
            served += 1;
        }
        assert!(served >= 59, "served for {served} s");
        assert_eq!(stage.certificates.leaf(&web).await.unwrap_err(), refused("web"));
        assert!(stage.certificates.current(&web).is_none());
        assert_eq!(stage.certificates.list()[0].1.as_ref().unwrap_err(), &refused("web"));
        stage.authority.fail(None);
        let renewed = async {
            while stage.certificates.current(&web).is_none() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(200), renewed).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_failure_is_told_at_once_and_retried() {
        let stage = stage(0.5);
        stage.authority.fail(Some(refused("web")));
        let _hold = stage.certificates.hold(&identity("web"));
        assert_eq!(
            stage.certificates.leaf(&identity("web")).await.unwrap_err(),
            refused("web")
        );
        stage.authority.fail(None);
        advance(Duration::from_millis(1100)).await;
        settle().await;
        stage.certificates.leaf(&identity("web")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_wants_a_missing_leaf_does_not_wait_for_the_backoff() {
        let stage = stage(0.5);
        let web = identity("web");
        stage.authority.fail(Some(refused("web")));
        let _hold = stage.certificates.hold(&web);
        // Attempts after 0, 1, 3, 7 and 15 s: the next would be 10 s later.
        tokio::time::sleep(Duration::from_secs(16)).await;
        stage.authority.fail(None);
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(stage.certificates.current(&web).is_none(), "nobody wanted it");
        stage.certificates.leaf(&web).await.unwrap_err();
        settle().await;
        stage.certificates.leaf(&web).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_authority_that_never_answers_is_given_up() {
        let certificates = Certificates::new(gate());
        let _hold = certificates.hold(&identity("web"));
        let error = certificates.leaf(&identity("web")).await.unwrap_err();
        assert!(matches!(error, CertError::Unavailable { .. }), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_a_leaf_is_told_for_as_long_as_its_identity_is_held() {
        let metrics = crate::telemetry::Metrics::install();
        let stage = stage(0.5);
        let told = || {
            metrics
                .render()
                .contains("seconds{identity=\"spiffe://cluster.local/ns/shop/sa/told\"}")
        };
        let hold = stage.certificates.hold(&identity("told"));
        stage.certificates.leaf(&identity("told")).await.unwrap();
        assert!(told());
        drop(hold);
        settle().await;
        assert!(!told());
        let _hold = stage.certificates.hold(&identity("told"));
        stage.certificates.leaf(&identity("told")).await.unwrap();
        assert!(told(), "and again when it is held again");
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_hold_releases_and_wakes_waiters() {
        let gate = gate();
        let certificates = Certificates::new(gate);
        let (one, two) = (certificates.hold(&identity("web")), certificates.hold(&identity("web")));
        let waiter = tokio::spawn({
            let certificates = certificates.clone();
            async move { certificates.leaf(&identity("web")).await }
        });
        settle().await;
        drop(one);
        assert_eq!(certificates.list().len(), 1);
        drop(two);
        assert_eq!(waiter.await.unwrap().unwrap_err(), CertError::Released(identity("web")));
        assert!(certificates.list().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn identities_are_bounded_and_room_is_made_again() {
        let stage = stage(0.5);
        let mut holds: Vec<Hold> = ["a", "b", "c", "d"]
            .map(|name| stage.certificates.hold(&identity(name)))
            .into();
        stage.certificates.leaf(&identity("c")).await.unwrap();
        let error = stage.certificates.leaf(&identity("d")).await.unwrap_err();
        assert!(matches!(error, CertError::TooMany { most: 3, .. }), "{error}");
        holds.clear();
        let _hold = stage.certificates.hold(&identity("d"));
        stage.certificates.leaf(&identity("d")).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_no_peer_would_accept_is_never_published() {
        /// Signs for somebody else.
        struct Liar(LocalAuthority);
        impl Authority for Liar {
            fn sign<'a>(&'a self, _: &'a Identity, csr: &'a str) -> BoxFuture<'a, Result<Signed, CertError>> {
                Box::pin(async move {
                    let other = identity("other");
                    self.0.sign(&other, csr).await
                })
            }
        }
        let certificates = Certificates::new(Arc::new(Liar(LocalAuthority::new().unwrap())));
        let _hold = certificates.hold(&identity("web"));
        let error = certificates.leaf(&identity("web")).await.unwrap_err();
        assert!(matches!(error, CertError::Unfit { .. }), "{error}");
        assert!(certificates.current(&identity("web")).is_none());
    }
}
