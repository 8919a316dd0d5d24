//! What name servers said, kept for a while: one question a host at a time, the old answer while a new one is
//! fetched, and the old one still while name servers are away.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{sync::OnceCell, time::Instant};

use super::NAMES;

/// No answer is asked for again sooner, whatever its server says: also how long a failure is remembered.
const SHORTEST: Duration = Duration::from_secs(5);
/// No answer counts as fresh for longer.
const LONGEST: Duration = Duration::from_secs(300);
/// How long an answer that is no longer fresh is used while no better one is to be had (RFC 8767 allows days).
const STALE: Duration = Duration::from_secs(3600);

/// What a name server found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Addresses of both families.
    pub addresses: Vec<IpAddr>,
    /// How long it says that they are good for.
    pub life: Duration,
}

/// Asks for the addresses of a host; the error is one plain sentence.
pub type Ask = Arc<dyn Fn(Arc<str>) -> Pin<Box<dyn Future<Output = Result<Found, String>> + Send>> + Send + Sync>;

/// Addresses of hosts, remembered. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    shared: Arc<Shared>,
}

struct Shared {
    ask: Ask,
    most: usize,
    hosts: Mutex<HashMap<Arc<str>, Arc<Slot>>>,
}

/// One host: whoever comes first asks, the others wait for the same answer.
#[derive(Default)]
struct Slot {
    answer: OnceCell<Answer>,
    refreshing: AtomicBool,
}

#[derive(Clone)]
struct Answer {
    addresses: Result<Arc<[IpAddr]>, Arc<str>>,
    fresh: Instant,
    /// Until when it may be used at all.
    usable: Instant,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Resolver")
            .field("hosts", &self.hosts().len())
            .finish()
    }
}

impl Resolver {
    /// Hosts remembered at one time, by default.
    pub const MOST: usize = 512;

    /// One that knows nothing yet, and never more than `most` hosts.
    pub fn new(ask: Ask, most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                ask,
                most,
                hosts: Mutex::default(),
            }),
        }
    }

    /// The addresses of a host.
    ///
    /// # Errors
    /// Why there are none, one plain sentence.
    pub async fn addresses(&self, host: &Arc<str>) -> Result<Arc<[IpAddr]>, Arc<str>> {
        let slot = self.slot(host)?;
        if let Some(answer) = slot.answer.get() {
            if answer.fresh <= Instant::now() {
                self.refresh(host, &slot);
            }
            return answer.addresses.clone();
        }
        let answer = slot.answer.get_or_init(|| self.asked(host.clone())).await;
        answer.addresses.clone()
    }

    /// The slot of a host: a new one where what is known must not be used any more.
    fn slot(&self, host: &Arc<str>) -> Result<Arc<Slot>, Arc<str>> {
        let mut hosts = self.hosts();
        if let Some(slot) = hosts.get(host).filter(|slot| slot.is_usable()) {
            return Ok(slot.clone());
        }
        let most = self.shared.most;
        if hosts.len() >= most {
            hosts.retain(|_, slot| slot.is_usable());
        }
        if hosts.len() >= most && !hosts.contains_key(host) {
            return Err(NAMES.told(most).into());
        }
        let slot = Arc::new(Slot::default());
        hosts.insert(host.clone(), slot.clone());
        Ok(slot)
    }

    /// Asks again behind the back of who uses the old answer.
    fn refresh(&self, host: &Arc<str>, slot: &Arc<Slot>) {
        if slot.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (resolver, host, slot) = (self.clone(), host.clone(), slot.clone());
        tokio::spawn(async move {
            let mut answer = resolver.asked(host.clone()).await;
            if let (Err(_), Some(old)) = (&answer.addresses, slot.answer.get()) {
                answer = Answer {
                    fresh: answer.fresh,
                    ..old.clone()
                };
            }
            let renewed = Arc::new(Slot {
                answer: OnceCell::from(answer),
                refreshing: AtomicBool::new(false),
            });
            resolver.hosts().insert(host, renewed);
        });
    }

    async fn asked(&self, host: Arc<str>) -> Answer {
        let found = (self.shared.ask)(host).await;
        let now = Instant::now();
        let (addresses, fresh, usable) = match found {
            Ok(found) => {
                let fresh = now + found.life.clamp(SHORTEST, LONGEST);
                (Ok(found.addresses.into()), fresh, fresh + STALE)
            }
            Err(why) => (Err(why.into()), now + SHORTEST, now + SHORTEST),
        };
        Answer {
            addresses,
            fresh,
            usable,
        }
    }

    fn hosts(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Slot>>> {
        self.shared.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// Whether it is being asked for, or what is known is not too old.
    fn is_usable(&self) -> bool {
        self.answer.get().is_none_or(|answer| Instant::now() < answer.usable)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::time::{advance, sleep};

    use super::*;

    /// A name server that counts, and says what it is told to.
    fn server(answer: &Arc<Mutex<Result<Found, String>>>) -> (Resolver, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let (answer, count) = (answer.clone(), asked.clone());
        let ask: Ask = Arc::new(move |_| {
            let (answer, count) = (answer.clone(), count.clone());
            Box::pin(async move {
                count.fetch_add(1, Ordering::SeqCst);
                sleep(Duration::from_millis(100)).await;
                answer.lock().unwrap().clone()
            })
        });
        (Resolver::new(ask, Resolver::MOST), asked)
    }

    fn found(last: u8, life: u64) -> Result<Found, String> {
        Ok(Found {
            addresses: vec![IpAddr::from([192, 0, 2, last])],
            life: Duration::from_secs(life),
        })
    }

    async fn first(resolver: &Resolver) -> Result<IpAddr, Arc<str>> {
        resolver.addresses(&"api.example".into()).await.map(|all| all[0])
    }

    #[tokio::test(start_paused = true)]
    async fn many_who_want_one_name_ask_once() {
        let answer = Arc::new(Mutex::new(found(1, 60)));
        let (resolver, asked) = server(&answer);
        let all = (0..50).map(|_| {
            let resolver = resolver.clone();
            tokio::spawn(async move { first(&resolver).await })
        });
        for one in all.collect::<Vec<_>>() {
            assert_eq!(one.await.unwrap(), Ok(IpAddr::from([192, 0, 2, 1])));
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_kept_as_long_as_its_server_says_within_bounds_and_the_old_one_serves_meanwhile() {
        for (said, kept) in [(0, SHORTEST), (60, Duration::from_secs(60)), (86_400, LONGEST)] {
            let answer = Arc::new(Mutex::new(found(1, said)));
            let (resolver, asked) = server(&answer);
            assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 1])));
            *answer.lock().unwrap() = found(2, said);
            advance(kept - Duration::from_secs(1)).await;
            assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 1])));
            assert_eq!(asked.load(Ordering::SeqCst), 1);
            advance(Duration::from_secs(2)).await;
            assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 1])));
            sleep(Duration::from_secs(1)).await;
            assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 2])));
            assert_eq!(asked.load(Ordering::SeqCst), 2);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_name_servers_the_last_answer_serves_on_and_then_no_more() {
        let answer = Arc::new(Mutex::new(found(1, 60)));
        let (resolver, _) = server(&answer);
        assert!(first(&resolver).await.is_ok());
        *answer.lock().unwrap() = Err("nobody answers".into());
        for _ in 0..50 {
            advance(Duration::from_secs(60)).await;
            assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 1])));
            sleep(Duration::from_secs(1)).await;
        }
        advance(STALE).await;
        assert_eq!(first(&resolver).await, Err("nobody answers".into()));
        *answer.lock().unwrap() = found(2, 60);
        advance(SHORTEST).await;
        assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 2])));
    }

    #[tokio::test(start_paused = true)]
    async fn names_known_are_bounded_and_old_ones_make_room() {
        let answer = Arc::new(Mutex::new(Err("unknown".into())));
        let (resolver, _) = server(&answer);
        let all: Vec<_> = (0..Resolver::MOST)
            .map(|name| {
                let (resolver, name) = (resolver.clone(), Arc::from(format!("h{name}")));
                tokio::spawn(async move { resolver.addresses(&name).await })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), Err("unknown".into()));
        }
        let refused = first(&resolver).await.unwrap_err();
        assert!(refused.contains("--resolved-names"), "{refused}");
        *answer.lock().unwrap() = found(1, 60);
        advance(SHORTEST).await;
        assert_eq!(first(&resolver).await, Ok(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(resolver.hosts().len(), 1);
    }
}
