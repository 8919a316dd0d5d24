//! The public keys of a token issuer (RFC 7517): from a file, read again when it changes, or from a URL, kept
//! for minutes and asked again for a key nobody knows. The last good set stays when a new one cannot be had.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use serde::Deserialize;
use tokio::{
    fs::File,
    io::AsyncReadExt,
    sync::Mutex,
    time::{Instant, timeout},
};

use crate::fetch::Fetch;

/// Of a whole key set.
pub const MOST_BYTES: usize = 1 << 20;
const MOST_KEYS: usize = 64;
/// A fetched set is asked for again after this time.
const FRESH: Duration = Duration::from_secs(300);
/// A fetched set that could not be renewed for so long is worth nothing: a withdrawn key must stop to count.
const STALE: Duration = Duration::from_secs(3600);
/// Between two attempts to fetch, whoever asks.
const REST: Duration = Duration::from_secs(10);
const FETCH_DEADLINE: Duration = Duration::from_secs(5);

/// Where keys come from, and those known now.
#[derive(Debug)]
pub struct KeySet {
    source: Source,
    known: Mutex<Known>,
}

/// Where keys come from.
#[derive(Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url(Fetch),
}

/// A key that verifies tokens.
#[derive(Clone)]
pub struct VerifyingKey {
    id: Option<String>,
    algorithm: Algorithm,
    /// The key itself.
    pub key: DecodingKey,
}

/// Why there is no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key set cannot be had.
    #[error("the issuer's keys cannot be had: {0}")]
    Unavailable(Arc<str>),
    /// It has no such key.
    #[error("the issuer has no {algorithm:?} key {id:?}")]
    Unknown {
        /// `kid` of the token, if it names one.
        id: Option<String>,
        /// `alg` of the token.
        algorithm: Algorithm,
    },
}

#[derive(Debug, Default)]
struct Known {
    keys: Arc<[VerifyingKey]>,
    /// Of the file they were read from.
    stamp: Option<Stamp>,
    /// When they were last fetched, and when that was last tried.
    fetched: Option<Instant>,
    tried: Option<Instant>,
    failure: Option<Arc<str>>,
}

/// Tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(u64, u64, i64, i64);

impl KeySet {
    /// Keys of this source; none is read yet.
    pub fn new(source: Source) -> Self {
        Self {
            source,
            known: Mutex::default(),
        }
    }

    /// The keys that may have signed a token with this `kid` and `alg`; at least one.
    ///
    /// # Errors
    /// [`KeyError`].
    pub async fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Vec<VerifyingKey>, KeyError> {
        let mut known = self.known.lock().await;
        match &self.source {
            Source::File(path) => known.reread(path).await,
            Source::Url(fetch) => {
                if known.wants_fetch(|known| known.find(id, algorithm).is_empty()) {
                    known.fetch(fetch).await;
                }
            }
        }
        let found = known.find(id, algorithm);
        match (&known.failure, found.is_empty(), known.keys.is_empty()) {
            (_, false, _) => Ok(found),
            (Some(why), true, true) => Err(KeyError::Unavailable(why.clone())),
            _ => Err(KeyError::Unknown {
                id: id.map(|id| id.chars().take(100).collect()),
                algorithm,
            }),
        }
    }
}

impl Known {
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Vec<VerifyingKey> {
        let fits = |key: &&VerifyingKey| key.algorithm == algorithm && (id.is_none() || key.id.as_deref() == id);
        self.keys.iter().filter(fits).cloned().collect()
    }

    async fn reread(&mut self, path: &Path) {
        let read = async {
            let mut file = File::open(path).await?;
            let metadata = file.metadata().await?;
            let stamp = Stamp(metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec());
            let mut bytes = Vec::new();
            if self.stamp != Some(stamp) {
                (&mut file).take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
            }
            std::io::Result::Ok((stamp, bytes))
        };
        match read.await {
            Ok((stamp, _)) if self.stamp == Some(stamp) => {}
            Ok((stamp, bytes)) => {
                self.stamp = Some(stamp);
                self.replace(parse(&bytes).map_err(|why| format!("{}: {why}", path.display())));
            }
            // A file that is being replaced is missing for a moment: what was read stays.
            Err(error) => self.failure = Some(format!("{} cannot be read: {error}", path.display()).into()),
        }
    }

    fn wants_fetch(&self, lacks: impl Fn(&Self) -> bool) -> bool {
        let passed = |since: Option<Instant>, time| since.is_none_or(|since| since.elapsed() >= time);
        passed(self.tried, REST) && (passed(self.fetched, FRESH) || lacks(self))
    }

    async fn fetch(&mut self, fetch: &Fetch) {
        self.tried = Some(Instant::now());
        let fetched = match timeout(FETCH_DEADLINE, fetch.get(MOST_BYTES)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("no answer within {FETCH_DEADLINE:?}")),
        };
        let parsed = fetched
            .and_then(|bytes| parse(&bytes))
            .map_err(|why| format!("{}: {why}", fetch.url()));
        if parsed.is_ok() {
            self.fetched = Some(Instant::now());
        }
        self.replace(parsed);
        if self.fetched.is_some_and(|since| since.elapsed() >= STALE) {
            self.keys = Arc::new([]);
        }
    }

    fn replace(&mut self, keys: Result<Vec<VerifyingKey>, String>) {
        match keys {
            Ok(keys) => {
                self.keys = keys.into();
                self.failure = None;
            }
            Err(why) => {
                tracing::warn!(why, "an issuer's keys stay as they were");
                metrics::counter!("weft_ca_key_failures_total").increment(1);
                self.failure = Some(why.into());
            }
        }
    }
}

impl std::fmt::Debug for VerifyingKey {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("VerifyingKey")
            .field(&self.id)
            .field(&self.algorithm)
            .finish()
    }
}

/// The keys of a set that verify signatures in an algorithm we allow; others are passed over.
fn parse(bytes: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    if bytes.len() > MOST_BYTES {
        return Err(format!("it is larger than {MOST_BYTES} bytes"));
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| format!("it is no JSON Web Key Set: {error}"))?;
    if set.keys.len() > MOST_KEYS {
        return Err(format!("it holds more than {MOST_KEYS} keys"));
    }
    let keys: Vec<VerifyingKey> = set.keys.into_iter().filter_map(verifying).collect();
    if keys.is_empty() {
        return Err("it holds no ES256, RS256 or EdDSA key".to_owned());
    }
    Ok(keys)
}

fn verifying(value: serde_json::Value) -> Option<VerifyingKey> {
    let key: Jwk = serde_json::from_value(value).ok()?;
    let (algorithm, name) = match &key.algorithm {
        AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let signs = key
        .common
        .public_key_use
        .as_ref()
        .is_none_or(|used| *used == PublicKeyUse::Signature);
    if !signs || key.common.key_algorithm.is_some_and(|named| named != name) {
        return None;
    }
    Some(VerifyingKey {
        key: DecodingKey::from_jwk(&key).ok()?,
        id: key.common.key_id,
        algorithm,
    })
}
