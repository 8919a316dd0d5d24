//! Tokens that the API server authenticates (TokenReview): bound to a live pod, for our audience. Comes in: a
//! token. Goes out: the pod it is bound to. Answers are remembered for seconds by the token's hash, so that the
//! many requests of one node cost one review.
//!
//! Asks of the API server: `create` of `tokenreviews.authentication.k8s.io`.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use crate::{
    proof::{Bound, Proof},
    rate::Rate,
    token::{NO_POD, TokenError, Unverified},
};

/// Over one review, its wait for others included.
const DEADLINE: Duration = Duration::from_secs(3);
/// Reviews at once.
const MOST_AT_ONCE: usize = 16;
/// An authenticated token is believed for so long without asking again.
const FRESH: Duration = Duration::from_secs(10);
/// A refused or unanswered one is not asked about again for so long.
const REST: Duration = Duration::from_secs(1);
/// Answers remembered.
const MOST_ANSWERS: usize = 4096;
/// New tokens of one address at once, and a second on end: whoever has none that holds cannot keep the API
/// server busy.
const PER_ADDRESS: (u32, u32) = (64, 16);

const PREFIX: &str = "system:serviceaccount:";
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// Whoever can be asked about a token.
#[tonic::async_trait]
pub trait Reviewer: Send + Sync {
    /// What the API server says of a token for this audience.
    ///
    /// # Errors
    /// One plain sentence when it does not say anything.
    async fn review(&self, token: &str, audience: &str) -> Result<TokenReviewStatus, String>;
}

/// Asks about tokens and remembers the answers for a moment.
pub struct Reviews {
    reviewer: Box<dyn Reviewer>,
    audience: String,
    permits: Semaphore,
    addresses: Rate,
    answers: Mutex<HashMap<[u8; 32], Arc<Slot>>>,
}

/// The answer for one token; whoever asks first holds the lock while the others wait for the same answer.
#[derive(Default)]
struct Slot(tokio::sync::Mutex<Option<Known>>);

#[derive(Clone)]
struct Known {
    answer: Result<Bound, TokenError>,
    until: Instant,
}

impl Reviews {
    /// Reviews for tokens of this audience.
    pub fn new(reviewer: Box<dyn Reviewer>, audience: &str) -> Self {
        Self {
            reviewer,
            audience: audience.to_owned(),
            permits: Semaphore::new(MOST_AT_ONCE),
            addresses: Rate::new(PER_ADDRESS.0, PER_ADDRESS.1),
            answers: Mutex::default(),
        }
    }

    /// What a token proves, by the API server's word of seconds ago at most.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn proof(
        &self,
        token: &str,
        unverified: &Unverified,
        from: Option<SocketAddr>,
    ) -> Result<Proof, TokenError> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        unverified.could_hold(&self.audience, now)?;
        let deadline = Instant::now() + DEADLINE;
        let slot = self.slot(token, from)?;
        let mut known = timeout_at(deadline, slot.0.lock())
            .await
            .map_err(|_| TokenError::TooMany)?;
        if let Some(known) = known.as_ref().filter(|known| Instant::now() < known.until) {
            return known.answer.clone().map(Proof::Pod);
        }
        let answer = self.ask(token, deadline).await;
        let rest = unverified
            .exp
            .and_then(|end| Duration::from_secs(u64::try_from(end).ok()?).checked_sub(now))
            .unwrap_or_default();
        let life = if answer.is_ok() { FRESH.min(rest) } else { REST };
        *known = Some(Known {
            answer: answer.clone(),
            until: Instant::now() + life,
        });
        answer.map(Proof::Pod)
    }

    /// The place of this token's answer; a new one counts for the address it comes from.
    fn slot(&self, token: &str, from: Option<SocketAddr>) -> Result<Arc<Slot>, TokenError> {
        let hash = digest(&SHA256, token.as_bytes());
        let hash: [u8; 32] = hash.as_ref().try_into().map_err(|_| TokenError::TooMany)?;
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = answers.get(&hash) {
            return Ok(slot.clone());
        }
        let address = from.map_or_else(|| "nowhere".to_owned(), |from| from.ip().to_string());
        if !self.addresses.admits(&address) {
            return Err(TokenError::TooMany);
        }
        if answers.len() >= MOST_ANSWERS {
            let now = Instant::now();
            let lives = |slot: &Slot| match slot.0.try_lock() {
                Ok(known) => known.as_ref().is_some_and(|known| now < known.until),
                Err(_) => true,
            };
            answers.retain(|_, slot| lives(slot));
        }
        if answers.len() >= MOST_ANSWERS {
            return Err(TokenError::TooMany);
        }
        Ok(answers.entry(hash).or_default().clone())
    }

    async fn ask(&self, token: &str, deadline: Instant) -> Result<Bound, TokenError> {
        let Ok(Ok(_permit)) = timeout_at(deadline, self.permits.acquire()).await else {
            return Err(TokenError::TooMany);
        };
        metrics::counter!("weft_ca_token_reviews_total").increment(1);
        match timeout(DEADLINE, self.reviewer.review(token, &self.audience)).await {
            Ok(Ok(status)) => bound(&status, &self.audience),
            Ok(Err(why)) => Err(TokenError::Review(why.into())),
            Err(_) => Err(TokenError::Review(format!("no answer within {DEADLINE:?}").into())),
        }
    }
}

/// The pod that a review's answer names.
fn bound(status: &TokenReviewStatus, audience: &str) -> Result<Bound, TokenError> {
    if status.authenticated != Some(true) {
        let why: String = status
            .error
            .as_deref()
            .unwrap_or("it is not valid")
            .chars()
            .take(300)
            .collect();
        return Err(TokenError::NotAuthenticated(why.into()));
    }
    // An authenticator that knows nothing of audiences names none.
    if !status.audiences.iter().flatten().any(|one| one == audience) {
        return Err(TokenError::Audience);
    }
    let user = status.user.as_ref();
    let (namespace, account) = user
        .and_then(|user| user.username.as_deref())
        .and_then(|name| name.strip_prefix(PREFIX))
        .and_then(|rest| rest.split_once(':'))
        .ok_or(TokenError::NotBound("it is no service account's"))?;
    let none = BTreeMap::new();
    let extra = user.and_then(|user| user.extra.as_ref()).unwrap_or(&none);
    let one = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(Arc::<str>::from(value.as_str())),
        _ => None,
    };
    let (pod, uid) = one(POD_NAME).zip(one(POD_UID)).ok_or(TokenError::NotBound(NO_POD))?;
    Ok(Bound {
        namespace: namespace.into(),
        account: account.into(),
        pod,
        uid,
        node: one(NODE_NAME),
    })
}

#[tonic::async_trait]
impl Reviewer for Client {
    async fn review(&self, token: &str, audience: &str) -> Result<TokenReviewStatus, String> {
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![audience.to_owned()]),
                token: token.to_owned(),
            },
            ..TokenReview::default()
        };
        match Api::all(self.clone()).create(&PostParams::default(), &review).await {
            Ok(answer) => answer.status.ok_or_else(|| "its answer says nothing".to_owned()),
            Err(kube::Error::Api(status)) if status.code == 403 => Err(format!(
                "it forbids the ca to make TokenReviews ({}); bind its service account to system:auth-delegator",
                status.message
            )),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl std::fmt::Debug for Reviews {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Reviews").field(&self.audience).finish()
    }
}

#[cfg(test)]
mod tests;
