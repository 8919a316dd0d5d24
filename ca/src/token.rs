//! Who asks: a bearer token (RFC 7519) of an issuer whose keys we have, and what it proves.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{
    Algorithm, Validation, dangerous::insecure_decode_claims, decode, decode_header, errors::ErrorKind,
};
use serde::Deserialize;

use crate::{
    issuers::{Issuer, Worth},
    keys::KeyError,
    proof::{Bound, Proof},
};

/// No token is larger.
const MOST_TOKEN_BYTES: usize = 16 << 10;
/// Clocks of issuer and CA may differ by this.
const LEEWAY: u64 = 10;
/// Signatures we allow: none that whoever can verify can also make.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];

/// Said of a Kubernetes token that is no pod's.
pub const NO_POD: &str = "it names no pod; use a projected service account token";

/// Why a token proves nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no bearer token was sent")]
    Missing,
    /// Not a JWT we could read, or one with critical extensions (RFC 7515 4.1.11).
    #[error("the token is malformed: {0}")]
    Malformed(Arc<str>),
    /// `none`, an HMAC, or another algorithm we do not allow.
    #[error("the token is signed by an algorithm other than ES256, RS256 and EdDSA")]
    Algorithm,
    /// Not of an issuer we believe.
    #[error("the token's issuer {0:?} is not believed here")]
    Issuer(String),
    /// No key to verify it by.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signature does not hold.
    #[error("the token's signature does not hold")]
    Signature,
    /// Past its `exp`, or before its `nbf`.
    #[error("the token is not valid at this time")]
    Time,
    /// Meant for somebody else.
    #[error("the token is not meant for this CA: its audience is another")]
    Audience,
    /// A Kubernetes token that is no pod's, or contradicts itself.
    #[error("the token is not bound to a pod: {0}")]
    NotBound(&'static str),
    /// The API server, asked by TokenReview, does not authenticate it.
    #[error("the API server does not authenticate the token: {0}")]
    NotAuthenticated(Arc<str>),
    /// The API server could not be asked.
    #[error("the API server cannot be asked about the token: {0}")]
    Review(Arc<str>),
    /// Too many tokens are waiting to be looked at, or too many came from there.
    #[error("too many tokens are asked about at once; wait and ask again")]
    TooMany,
    /// The pod it is bound to is gone, elsewhere or another's.
    #[error("the token's pod {pod} {why}")]
    Pod {
        /// UID.
        pod: Arc<str>,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What a token says of itself before anything is verified: only to know whom to ask about it, and to refuse
/// what nobody could accept without asking.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Unverified {
    /// Who says to have made it.
    pub iss: String,
    /// Whom it is for.
    #[serde(default, deserialize_with = "one_or_many")]
    pub aud: Vec<String>,
    /// Its end, in seconds since 1970.
    pub exp: Option<i64>,
}

/// What a verified token says.
#[derive(Debug, Clone, Deserialize)]
struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<KubernetesClaims>,
}

/// What a Kubernetes token is bound to.
#[derive(Debug, Clone, Deserialize)]
struct KubernetesClaims {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
    node: Option<Object>,
}

#[derive(Debug, Clone, Deserialize)]
struct Object {
    name: String,
    #[serde(default)]
    uid: String,
}

impl TokenError {
    /// Value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Missing => "no_token",
            Self::Malformed(_) => "malformed_token",
            Self::Algorithm => "token_algorithm",
            Self::Issuer(_) => "token_issuer",
            Self::Key(_) => "token_key",
            Self::Signature => "token_signature",
            Self::Time => "token_time",
            Self::Audience => "token_audience",
            Self::NotBound(_) => "token_not_bound",
            Self::NotAuthenticated(_) => "token_not_authenticated",
            Self::Review(_) => "token_review",
            Self::TooMany => "too_many_tokens",
            Self::Pod { .. } => "token_pod",
        }
    }
}

impl Unverified {
    /// Reads a token's claims.
    ///
    /// # Errors
    /// [`TokenError::Malformed`].
    pub fn of(token: &str) -> Result<Self, TokenError> {
        let malformed = |why: &str| TokenError::Malformed(why.into());
        if token.len() > MOST_TOKEN_BYTES {
            return Err(malformed("it is too large"));
        }
        decode_header(token).map_err(|_| malformed("it is no JWT"))?;
        insecure_decode_claims(token).map_err(|_| malformed("it names no issuer"))
    }

    /// Whether it could be meant for this audience and hold at this time (since 1970), if it is genuine.
    ///
    /// # Errors
    /// [`TokenError::Audience`], [`TokenError::Time`], [`TokenError::Malformed`].
    pub fn could_hold(&self, audience: &str, now: Duration) -> Result<(), TokenError> {
        let end = self
            .exp
            .ok_or_else(|| TokenError::Malformed("it has no claim exp".into()))?;
        if !self.aud.iter().any(|aud| aud == audience) {
            return Err(TokenError::Audience);
        }
        if u64::try_from(end).unwrap_or(0) + LEEWAY <= now.as_secs() {
            return Err(TokenError::Time);
        }
        Ok(())
    }
}

/// Verifies a token of an issuer whose keys we have: signature, issuer, audience, time.
///
/// # Errors
/// [`TokenError`].
pub async fn verify(issuer: &Issuer, token: &str) -> Result<Proof, TokenError> {
    let malformed = |why: &str| TokenError::Malformed(why.into());
    let header = decode_header(token).map_err(|_| malformed("it is no JWT"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(TokenError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(malformed("it has critical extensions, and none is known here"));
    }
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[&issuer.name]);
    validation.set_audience(&issuer.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let mut why = TokenError::Signature;
    for candidate in issuer.keys.candidates(header.kid.as_deref(), header.alg).await? {
        match decode::<Claims>(token, &candidate.key, &validation) {
            Ok(verified) => return proof(issuer, &verified.claims),
            // Another key may fit, where the token names none.
            Err(error) => why = reason(error.kind()),
        }
        if why != TokenError::Signature {
            break;
        }
    }
    Err(why)
}

fn proof(issuer: &Issuer, claims: &Claims) -> Result<Proof, TokenError> {
    if let Worth::Mapping(identities) = &issuer.worth {
        return Ok(Proof::Mapped {
            subject: claims.sub.as_str().into(),
            identities: identities.get(&claims.sub).cloned().unwrap_or_default(),
        });
    }
    let not_bound = TokenError::NotBound;
    let bound = claims
        .kubernetes
        .as_ref()
        .ok_or_else(|| not_bound("it has no claim kubernetes.io"))?;
    let account = format!(
        "system:serviceaccount:{}:{}",
        bound.namespace, bound.serviceaccount.name
    );
    if claims.sub != account {
        return Err(not_bound("its subject is another service account than its claims say"));
    }
    let pod = bound.pod.as_ref().filter(|pod| !pod.uid.is_empty());
    let pod = pod.ok_or_else(|| not_bound(NO_POD))?;
    let node = bound.node.as_ref().filter(|node| !node.name.is_empty());
    Ok(Proof::Pod(Bound {
        namespace: bound.namespace.as_str().into(),
        account: bound.serviceaccount.name.as_str().into(),
        pod: pod.name.as_str().into(),
        uid: pod.uid.as_str().into(),
        node: node.map(|node| node.name.as_str().into()),
    }))
}

fn reason(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature | ErrorKind::ImmatureSignature => TokenError::Time,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::InvalidSignature
        | ErrorKind::InvalidAlgorithm
        | ErrorKind::InvalidKeyFormat
        | ErrorKind::InvalidEcdsaKey
        | ErrorKind::InvalidEddsaKey
        | ErrorKind::InvalidRsaKey(_)
        | ErrorKind::Provider(_) => TokenError::Signature,
        ErrorKind::MissingRequiredClaim(claim) => TokenError::Malformed(format!("it has no claim {claim}").into()),
        _ => TokenError::Malformed("its claims cannot be read".into()),
    }
}

/// `aud` is one text or several (RFC 7519 4.1.3).
fn one_or_many<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Form>::deserialize(deserializer)? {
        None => Vec::new(),
        Some(Form::One(one)) => vec![one],
        Some(Form::Many(many)) => many,
    })
}
