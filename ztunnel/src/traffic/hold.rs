//! Waiting, bounded in time and number, for what is not known yet (design 5).

use std::{sync::Arc, time::Duration};

use act::certs::{CertError, Leaf};
use decide::{
    model::{Identity, Refusal, Workload},
    snapshot::Snapshot,
};
use tokio::time::{Instant, sleep, timeout_at};

use super::{Traffic, bounds::HELD};

/// Until a leaf that the CA could not give is asked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// What a snapshot says about a question.
pub(super) enum Answer<T> {
    /// This.
    Now(T),
    /// Nothing yet; this, if it stays so.
    Later(Refusal),
}

impl Traffic {
    /// Asks each snapshot from the current one on until one answers, for as long as connections are held, counted
    /// from `since`.
    ///
    /// # Errors
    /// The last reason for waiting, when the time is over; [`Refusal::Overloaded`] when too many wait.
    pub(super) async fn held<T>(
        &self,
        since: Instant,
        mut ask: impl FnMut(&Arc<Snapshot>) -> Answer<T>,
    ) -> Result<T, Refusal> {
        let mut ask = |snapshot: &Arc<Snapshot>| match snapshot.complete {
            true => ask(snapshot),
            false => Answer::Later(Refusal::NotConfigured),
        };
        if let Answer::Now(answer) = ask(&self.pod().reader.load()) {
            return Ok(answer);
        }
        let Ok(_place) = self.holding().try_acquire() else {
            let bound = self.pod().options.held;
            return Err(HELD.reached(bound));
        };
        let mut reader = self.pod().reader.clone();
        let until = since + self.pod().options.hold;
        loop {
            let why = match ask(&reader.load()) {
                Answer::Now(answer) => return Ok(answer),
                Answer::Later(why) => why,
            };
            if timeout_at(until, reader.changed()).await.is_err() {
                return Err(why);
            }
        }
    }

    /// The pod's own workload, with its addresses: a pod is known before they are, and others' ztunnels may hear of
    /// them earlier than this one.
    ///
    /// # Errors
    /// As [`Traffic::held`].
    pub(super) async fn own(&self, since: Instant) -> Result<Arc<Workload>, Refusal> {
        self.held(since, |snapshot| match snapshot.workload(&self.pod().uid) {
            Some(own) if !own.addresses.is_empty() => Answer::Now(own.clone()),
            _ => Answer::Later(Refusal::NotConfigured),
        })
        .await
    }

    /// The leaf of the pod's identity, waited for as long as connections are held.
    ///
    /// # Errors
    /// [`Refusal::NoCertificate`], with the reason; [`Refusal::Overloaded`] when too many wait.
    pub(super) async fn leaf(&self, identity: &Identity, since: Instant) -> Result<Arc<Leaf>, Refusal> {
        let certificates = &self.pod().certificates;
        if let Some(leaf) = certificates.current(identity) {
            return Ok(leaf);
        }
        let Ok(_place) = self.holding().try_acquire() else {
            let bound = self.pod().options.held;
            return Err(HELD.reached(bound));
        };
        let mut why: Arc<str> = "the CA has not answered yet".into();
        let leaf = async {
            loop {
                match certificates.leaf(identity).await {
                    Err(error @ CertError::Unavailable { .. }) => why = error.to_string().into(),
                    leaf => return leaf.map_err(|error| error.to_string().into()),
                }
                sleep(AGAIN).await;
            }
        };
        let leaf = timeout_at(since + self.pod().options.hold, leaf).await;
        leaf.unwrap_or(Err(why))
            .map_err(|why| Refusal::NoCertificate(identity.clone(), why))
    }
}
