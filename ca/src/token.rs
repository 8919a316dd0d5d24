//! Who asks: a bearer token (RFC 7519) of an issuer we believe, and the caller it proves.

use std::sync::Arc;

use decide::{
    entitle::Caller,
    model::{Identity, Phase},
    snapshot::Snapshot,
};
use jsonwebtoken::{
    Algorithm, Validation, dangerous::insecure_decode_claims, decode, decode_header, errors::ErrorKind,
};
use serde::Deserialize;

use crate::{
    issuers::{Issuer, Issuers, Worth},
    keys::KeyError,
};

const MOST_TOKEN_BYTES: usize = 16 << 10;
/// Clocks of issuer and CA may differ by this.
const LEEWAY: u64 = 10;
/// Signatures we allow: none that whoever can verify can also make.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::ES256, Algorithm::RS256, Algorithm::EdDSA];

/// Which pods may ask for others.
#[derive(Debug, Clone)]
pub struct NodeRule {
    /// Namespace and service account of the nodes' ztunnels.
    pub account: (String, String),
    /// The ztunnel's own pod must be known; else it must fit only if it is known.
    pub require_pod: bool,
}

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
    /// The pod it is bound to is gone, elsewhere or another's.
    #[error("the token's pod {pod} {why}")]
    Pod {
        /// UID.
        pod: Arc<str>,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// What a verified token says.
#[derive(Debug, Clone, Deserialize)]
pub struct Claims {
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Bound>,
}

/// What a Kubernetes token is bound to.
#[derive(Debug, Clone, Deserialize)]
struct Bound {
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
            Self::Pod { .. } => "token_pod",
        }
    }
}

/// Verifies a token: signature, issuer, audience, time.
///
/// # Errors
/// [`TokenError`].
pub async fn verify<'a>(issuers: &'a Issuers, token: &str) -> Result<(&'a Issuer, Claims), TokenError> {
    /// Read before anything is verified: only to know by whose keys to verify.
    #[derive(Deserialize)]
    struct Issued {
        iss: String,
    }
    let malformed = |why: &str| TokenError::Malformed(why.into());
    if token.len() > MOST_TOKEN_BYTES {
        return Err(malformed("it is too large"));
    }
    let header = decode_header(token).map_err(|_| malformed("it is no JWT"))?;
    let Issued { iss } = insecure_decode_claims(token).map_err(|_| malformed("it names no issuer"))?;
    if !ALGORITHMS.contains(&header.alg) {
        return Err(TokenError::Algorithm);
    }
    if header.crit.is_some() {
        return Err(malformed("it has critical extensions, and none is known here"));
    }
    let issuer = issuers
        .named(&iss)
        .ok_or_else(|| TokenError::Issuer(iss.chars().take(200).collect()))?;
    let mut validation = Validation::new(header.alg);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.set_issuer(&[&issuer.name]);
    validation.set_audience(&issuer.audiences);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    let mut why = TokenError::Signature;
    for candidate in issuer.keys.candidates(header.kid.as_deref(), header.alg).await? {
        match decode::<Claims>(token, &candidate.key, &validation) {
            Ok(verified) => return Ok((issuer, verified.claims)),
            // Another key may fit, where the token names none.
            Err(error) => why = reason(error.kind()),
        }
        if why != TokenError::Signature {
            break;
        }
    }
    Err(why)
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

/// The caller that verified claims prove, by the pods of the snapshot.
///
/// # Errors
/// [`TokenError::NotBound`], [`TokenError::Pod`].
pub fn caller(issuer: &Issuer, claims: &Claims, snapshot: &Snapshot, rule: &NodeRule) -> Result<Caller, TokenError> {
    if let Worth::Mapping(identities) = &issuer.worth {
        return Ok(Caller::Mapped {
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
    let pod = pod.ok_or_else(|| not_bound("it names no pod; use a projected service account token"))?;
    let uid: Arc<str> = pod.uid.as_str().into();
    let identity = Identity::new(
        &snapshot.mesh.trust_domain,
        &bound.namespace,
        &bound.serviceaccount.name,
    )
    .map_err(|_| not_bound("its service account cannot be an identity"))?;
    if (&bound.namespace, &bound.serviceaccount.name) != (&rule.account.0, &rule.account.1) {
        return Ok(Caller::Pod { uid, identity });
    }
    let node = bound.node.as_ref().filter(|node| !node.name.is_empty());
    let node: Arc<str> = node.ok_or_else(|| not_bound("it names no node"))?.name.as_str().into();
    let elsewhere = |why| TokenError::Pod { pod: uid.clone(), why };
    match snapshot.workload(&uid) {
        Some(known) if known.phase == Phase::Finished => Err(elsewhere("has finished")),
        Some(known) if known.node != node => Err(elsewhere("runs on another node")),
        Some(known) if known.identity != identity => Err(elsewhere("has another service account")),
        None if rule.require_pod => Err(elsewhere("is not known here")),
        _ => Ok(Caller::Node { node, pod: uid }),
    }
}
