//! The life of one identity's leaf: asked for, verified, published, and asked for again at half life.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use decide::model::Identity;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, SanType};
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};

use super::{Authority, CertError, Leaf};
use crate::telemetry::{Gauge, Transient};

/// What time certificates are judged by. Tests move it.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;
/// A number in `0.0..1.0`.
pub type Random = Arc<dyn Fn() -> f64 + Send + Sync>;

/// Leaves asked for at the same time.
const MOST_FETCHES: usize = 8;
/// The authority's own deadline is shorter; this one holds even if it has none.
const FETCH_DEADLINE: Duration = Duration::from_secs(20);
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const MOST_BACKOFF: Duration = Duration::from_secs(150);
/// While there is no leaf at all: a pod stands still for it, and must not stand much longer than the CA was away.
const MOST_BACKOFF_WITHOUT: Duration = Duration::from_secs(10);
/// The wall clock is looked at this often, because a suspended machine's timers stand still.
const CLOCK_STEP: Duration = Duration::from_secs(60);

/// Somebody who wants a leaf that is missing does not wait for the backoff, but never causes attempts closer than this.
const DEMAND_REST: Duration = Duration::from_secs(5);

static EXPIRATION: Transient = Transient::new(
    "weft_cert_expiration_timestamp_seconds",
    "identity",
    "When an identity's certificate ends, in seconds since 1970",
);

/// What is known of an identity's leaf.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    /// The newest leaf, which may be past its end.
    pub(super) leaf: Option<Arc<Leaf>>,
    /// Why the last attempt failed, if it did.
    pub(super) failure: Option<CertError>,
}

/// What every renewal needs.
pub(super) struct Renewal {
    authority: Arc<dyn Authority>,
    pub(super) clock: Clock,
    random: Random,
    fetches: Semaphore,
    /// Identities held, for the gauge.
    pub(super) held: AtomicU32,
}

/// A key born here, and the CSR that proves it ours.
pub(super) struct Request {
    pub(super) key: PrivatePkcs8KeyDer<'static>,
    pub(super) csr_pem: String,
}

impl Renewal {
    pub(super) fn new(authority: Arc<dyn Authority>, clock: Clock, random: Random) -> Self {
        Self {
            authority,
            clock,
            random,
            fetches: Semaphore::new(MOST_FETCHES),
            held: AtomicU32::new(0),
        }
    }

    /// Keeps a leaf fresh until it is aborted. `wanted` tells that a missing one is wanted now.
    pub(super) async fn keep(self: Arc<Self>, identity: Identity, state: watch::Sender<State>, wanted: Arc<Notify>) {
        let mut failures = 0;
        let expiration = EXPIRATION.of(identity.to_string());
        loop {
            match self.fetch(&identity).await {
                Ok(leaf) => {
                    failures = 0;
                    let pause = self.publish(leaf, &expiration, &state);
                    self.sleep_until((self.clock)() + pause).await;
                }
                Err(error) => {
                    failures += 1;
                    let due = (self.clock)() + self.fail(error, failures, &identity, &state);
                    let demand = async {
                        sleep(DEMAND_REST).await;
                        wanted.notified().await;
                    };
                    tokio::select! {
                        () = self.sleep_until(due) => {}
                        () = demand => {}
                    }
                }
            }
        }
    }

    /// Publishes a leaf; says how long it is good for.
    fn publish(&self, leaf: Leaf, expiration: &Gauge, state: &watch::Sender<State>) -> Duration {
        announce(&leaf, expiration);
        let remaining = leaf.not_after.duration_since((self.clock)()).unwrap_or_default();
        state.send_replace(State {
            leaf: Some(Arc::new(leaf)),
            failure: None,
        });
        renewal_after(remaining, (self.random)())
    }

    /// Publishes a failure; says when to try again.
    fn fail(&self, error: CertError, failures: u32, identity: &Identity, state: &watch::Sender<State>) -> Duration {
        metrics::counter!("weft_cert_fetch_failures_total", "reason" => error.label()).increment(1);
        let end = state.borrow().leaf.as_ref().map(|leaf| leaf.not_after);
        let remaining = end.and_then(|end| end.duration_since((self.clock)()).ok());
        let pause = retry_after(failures, remaining, (self.random)());
        // Said once for each reason, not at every attempt.
        if state.borrow().failure.as_ref() == Some(&error) {
            tracing::debug!(%identity, %error, attempt = failures, retry_in = ?pause, "still no new leaf");
        } else {
            tracing::warn!(%identity, %error, attempt = failures, retry_in = ?pause, "no new leaf");
        }
        state.send_modify(|state| state.failure = Some(error));
        pause
    }

    /// Tells how many are held.
    pub(super) fn measure(&self) {
        metrics::gauge!("weft_certs_held").set(self.held.load(Ordering::Relaxed));
    }

    async fn fetch(&self, identity: &Identity) -> Result<Leaf, CertError> {
        let unavailable = |why: &str| CertError::Unavailable {
            identity: identity.clone(),
            why: why.into(),
        };
        let _permit = self
            .fetches
            .acquire()
            .await
            .map_err(|_| CertError::Released(identity.clone()))?;
        let request =
            Request::born(identity).map_err(|error| unavailable(&format!("no key could be made: {error}")))?;
        let signed = timeout(FETCH_DEADLINE, self.authority.sign(identity, &request.csr_pem))
            .await
            .map_err(|_| unavailable(&format!("no answer within {FETCH_DEADLINE:?}")))??;
        Leaf::verified(identity, request.key, signed, (self.clock)()).map_err(|why| CertError::Unfit {
            identity: identity.clone(),
            why,
        })
    }

    async fn sleep_until(&self, due: SystemTime) {
        while let Ok(left) = due.duration_since((self.clock)()) {
            if left.is_zero() {
                return;
            }
            sleep(left.min(CLOCK_STEP)).await;
        }
    }
}

impl Request {
    /// A new ECDSA P-256 key and its CSR: the identity as critical URI name, empty subject.
    pub(super) fn born(identity: &Identity) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(identity.to_string().try_into()?)];
        let csr_pem = params.serialize_request(&key)?.pem()?;
        Ok(Self {
            key: PrivatePkcs8KeyDer::from(key.serialize_der()),
            csr_pem,
        })
    }
}

fn announce(leaf: &Leaf, expiration: &Gauge) {
    let since_epoch = leaf
        .not_after
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    expiration.set(since_epoch.as_secs_f64());
    tracing::info!(
        identity = %leaf.identity,
        serial = %leaf.serial,
        not_after = %humantime::format_rfc3339_seconds(leaf.not_after),
        "new leaf"
    );
}

/// How long after a success the next leaf is asked for: half of what remains of its life, ± 10 %.
fn renewal_after(remaining: Duration, random: f64) -> Duration {
    (remaining / 2).mul_f64(0.9 + 0.2 * random.clamp(0.0, 1.0))
}

/// How long after the `failures`th failure in a row the next attempt follows: 1 s, doubled each time up to
/// 150 s, ± 20 %; while an older leaf lives, no later than a quarter of what is left of it, so that a CA that was away
/// for most of that time is asked again before the end; without one, up to 10 s.
fn retry_after(failures: u32, remaining: Option<Duration>, random: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(10));
    let most = match remaining {
        Some(left) => (left / 4).clamp(FIRST_BACKOFF, MOST_BACKOFF),
        None => MOST_BACKOFF_WITHOUT,
    };
    doubled.mul_f64(0.8 + 0.4 * random.clamp(0.0, 1.0)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_at_half_life_give_or_take_a_tenth() {
        let hour = Duration::from_secs(3600);
        assert_eq!(renewal_after(hour, 0.0), Duration::from_secs(1620));
        assert_eq!(renewal_after(hour, 0.5), Duration::from_secs(1800));
        assert_eq!(renewal_after(hour, 1.0), Duration::from_secs(1980));
    }

    #[test]
    fn retries_back_off_to_a_cap_and_never_sleep_past_expiry() {
        let day = Some(Duration::from_secs(86_400));
        let pauses = |left| -> Vec<u64> { (1..=10).map(|n| retry_after(n, left, 0.5).as_secs()).collect() };
        assert_eq!(pauses(day), [1, 2, 4, 8, 16, 32, 64, 128, 150, 150]);
        assert_eq!(retry_after(1, None, 0.0), Duration::from_millis(800));
        assert_eq!(retry_after(1, None, 1.0), Duration::from_millis(1200));
        assert_eq!(retry_after(u32::MAX, day, 1.0), MOST_BACKOFF);
        for left in 2..200 {
            let left = Duration::from_secs(left);
            assert!(retry_after(9, Some(left), 1.0) < left);
        }
    }

    #[test]
    fn who_has_no_leaf_or_a_short_one_asks_again_soon() {
        assert_eq!(retry_after(40, None, 1.0), MOST_BACKOFF_WITHOUT);
        assert_eq!(
            retry_after(40, Some(Duration::from_secs(60)), 1.0),
            Duration::from_secs(15)
        );
    }
}
