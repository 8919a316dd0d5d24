//! `CreateCertificate`: authenticate, entitle, issue, audit.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use act::{
    authority::proto::{
        IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::IstioCertificateService,
    },
    certs::{Clock, Name, SigningError, pem},
    config::Reader,
};
use decide::{
    entitle::{Caller, NotEntitled, entitle},
    model::Identity,
    snapshot::Snapshot,
};
use prost_types::value::Kind;
use tokio::time::{Instant, timeout_at};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};

use crate::{
    audit::Case,
    authenticate::Authentication,
    authority::SigningAuthority,
    chain::Answer,
    csr::{BadCsr, Csr},
    lookup::{Lookup, LookupError, Sought},
    proof::{NodeRule, Proof},
    rate::Rate,
    token::TokenError,
};

/// No leaf lives shorter (design 20).
const LEAST_LIFE: Duration = Duration::from_secs(30);
/// A pod that its node knows already may reach us a little later: waited for so long where nobody can be asked
/// for it, and before somebody is.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_BEFORE_LOOKUP: Duration = Duration::from_millis(150);

/// What the CA gives to whom.
#[derive(Debug, Clone)]
pub struct Terms {
    /// Life of a leaf when none is asked for.
    pub life: Duration,
    /// The longest life of a leaf.
    pub most_life: Duration,
    /// Which pods may ask for others.
    pub nodes: NodeRule,
}

/// The service.
pub struct Service {
    /// Whose tokens are believed.
    pub authentication: Authentication,
    /// The pods.
    pub reader: Reader,
    /// Where one that is not known yet is looked up.
    pub lookup: Option<Lookup>,
    /// Who signs.
    pub authority: Arc<SigningAuthority>,
    /// How often each caller may ask.
    pub rate: Rate,
    /// What it gives.
    pub terms: Terms,
    /// The clock that certificates are dated by.
    pub clock: Clock,
}

/// Where a request's connection came from: an extension that the listener sets.
#[derive(Debug, Clone, Copy)]
pub struct From(pub SocketAddr);

/// Why there is no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The caller is nobody.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The caller may not hold that identity.
    #[error(transparent)]
    NotEntitled(#[from] NotEntitled),
    /// Not known here, and not to be looked up either.
    #[error(transparent)]
    Lookup(#[from] LookupError),
    /// The CSR is worth nothing.
    #[error(transparent)]
    Csr(#[from] BadCsr),
    /// The request does not say which identity, or not in a way we understand.
    #[error("{0}")]
    Wanted(Arc<str>),
    /// The caller asks too often.
    #[error("this caller asks too often; let it wait and ask again")]
    TooOften,
    /// The pods are not known yet.
    #[error("the CA has not read its configuration yet")]
    NotReady,
    /// Nothing could be signed.
    #[error("nothing could be signed: {0}")]
    Signing(Arc<str>),
}

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let mut case = Case {
            from: request.extensions().get::<From>().map(|from| from.0),
            ..Case::default()
        };
        let decided = self.decide(request.metadata(), request.get_ref(), &mut case).await;
        case.close(decided.as_ref().map(|answer| &answer.issued));
        decided
            .map(|answer| Response::new(response(&answer)))
            .map_err(|refused| refused.status())
    }
}

impl Service {
    async fn decide(
        &self,
        metadata: &MetadataMap,
        request: &IstioCertificateRequest,
        case: &mut Case,
    ) -> Result<Answer, Refused> {
        let proof = self.authentication.proof(bearer(metadata)?, case.from).await?;
        let proof = &*case.proof.insert(proof);
        let snapshot = self.reader.load();
        if !snapshot.complete {
            return Err(Refused::NotReady);
        }
        let (caller, snapshot) = self.caller(proof, snapshot).await?;
        let caller = &*case.caller.insert(caller);
        if !self.rate.admits(&bucket(caller)) {
            return Err(Refused::TooOften);
        }
        let csr = Csr::parse(&request.csr)?;
        let wanted = &*case.wanted.insert(wanted(request, caller, &csr)?);
        self.entitle(proof, caller, wanted, &snapshot).await?;
        let now = (self.clock)();
        let answer = self
            .authority
            .sign(&csr.key, &Name::Identity(wanted), self.life(request), now)
            .map_err(|error: SigningError| Refused::Signing(error.to_string().into()))?;
        if answer.issued.validity.not_after < now + LEAST_LIFE {
            return Err(Refused::Signing(
                "what signs is at its end; the CA needs a new intermediate".into(),
            ));
        }
        Ok(answer)
    }

    /// The caller by the pods known now, or by its own pod as it is found.
    async fn caller(&self, proof: &Proof, snapshot: Arc<Snapshot>) -> Result<(Caller, Arc<Snapshot>), Refused> {
        let rule = &self.terms.nodes;
        let why = match proof.caller(&snapshot, rule) {
            Ok(caller) => return Ok((caller, snapshot)),
            Err(why) => why,
        };
        match (proof, &self.lookup) {
            (Proof::Pod(bound), Some(lookup)) if snapshot.workload(&bound.uid).is_none() => {
                let payer = format!("pod {}", bound.uid);
                let snapshot = Arc::new(lookup.look(&payer, bound.sought(), &snapshot).await?);
                Ok((proof.caller(&snapshot, rule)?, snapshot))
            }
            _ => Err(why.into()),
        }
    }

    /// Entitled now, or by a change that arrives soon, or by what is found when it is looked for.
    async fn entitle(
        &self,
        proof: &Proof,
        caller: &Caller,
        wanted: &Identity,
        snapshot: &Snapshot,
    ) -> Result<(), Refused> {
        let mut answer = entitle(caller, wanted, snapshot);
        let patience = if self.lookup.is_some() {
            PATIENCE_BEFORE_LOOKUP
        } else {
            PATIENCE
        };
        let deadline = Instant::now() + patience;
        let mut reader = self.reader.clone();
        while let Err(why) = &answer
            && why.may_be_late(caller)
        {
            let Ok(snapshot) = timeout_at(deadline, reader.changed()).await else {
                break;
            };
            answer = entitle(caller, wanted, &snapshot);
        }
        match (&answer, &self.lookup, sought(proof, caller, wanted)) {
            (Err(why), Some(lookup), Some(sought)) if why.may_be_late(caller) => {
                let found = lookup.look(&bucket(caller), sought, &self.reader.load()).await?;
                Ok(entitle(caller, wanted, &found)?)
            }
            _ => Ok(answer?),
        }
    }

    fn life(&self, request: &IstioCertificateRequest) -> Duration {
        let asked = match u64::try_from(request.validity_duration) {
            Ok(0) | Err(_) => self.terms.life,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        asked.min(self.terms.most_life).max(LEAST_LIFE)
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Service")
            .field("terms", &self.terms)
            .finish_non_exhaustive()
    }
}

impl Refused {
    /// Value of the metric label `reason`.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Token(token) => token.label(),
            Self::NotEntitled(why) => why.label(),
            Self::Lookup(LookupError::TooOften) => "too_many_lookups",
            Self::Lookup(LookupError::Unavailable(_)) => "lookup",
            Self::Csr(_) => "bad_csr",
            Self::Wanted(_) => "bad_identity",
            Self::TooOften => "too_often",
            Self::NotReady => "not_ready",
            Self::Signing(_) => "signing",
        }
    }

    fn status(&self) -> Status {
        let code = match self {
            Self::Token(TokenError::Key(crate::keys::KeyError::Unavailable(_)) | TokenError::Review(_))
            | Self::Lookup(LookupError::Unavailable(_))
            | Self::NotReady => Code::Unavailable,
            Self::Token(TokenError::TooMany) | Self::Lookup(LookupError::TooOften) => Code::ResourceExhausted,
            Self::Token(_) => Code::Unauthenticated,
            Self::NotEntitled(_) => Code::PermissionDenied,
            Self::Csr(_) | Self::Wanted(_) => Code::InvalidArgument,
            Self::TooOften => Code::ResourceExhausted,
            Self::Signing(_) => Code::Internal,
        };
        Status::new(code, self.to_string())
    }
}

fn response(answer: &Answer) -> IstioCertificateResponse {
    let mut cert_chain: Vec<String> = answer
        .signed
        .chain
        .iter()
        .map(|one| pem(std::slice::from_ref(one)))
        .collect();
    cert_chain.push(pem(&answer.signed.roots));
    IstioCertificateResponse { cert_chain }
}

fn bearer(metadata: &MetadataMap) -> Result<&str, TokenError> {
    let value = metadata.get("authorization").and_then(|value| value.to_str().ok());
    let (scheme, token) = value
        .and_then(|value| value.split_once(' '))
        .ok_or(TokenError::Missing)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        Ok(token.trim())
    } else {
        Err(TokenError::Missing)
    }
}

/// The identity asked for: what the request names, else a pod's own, else what the CSR wishes.
fn wanted(request: &IstioCertificateRequest, caller: &Caller, csr: &Csr) -> Result<Identity, Refused> {
    let named = request
        .metadata
        .as_ref()
        .and_then(|fields| fields.fields.get(IMPERSONATED_IDENTITY));
    match (named.and_then(|value| value.kind.as_ref()), caller) {
        (Some(Kind::StringValue(uri)), _) => uri
            .parse()
            .map_err(|error: decide::model::NotAnIdentity| Refused::Wanted(error.to_string().into())),
        (Some(_), _) => Err(Refused::Wanted(
            format!("{IMPERSONATED_IDENTITY} must be a string").into(),
        )),
        (None, Caller::Pod { identity, .. }) => Ok(identity.clone()),
        (None, _) => csr.wish.clone().ok_or_else(|| {
            let why =
                format!("no identity is asked for: neither {IMPERSONATED_IDENTITY} nor one SPIFFE name in the CSR");
            Refused::Wanted(why.into())
        }),
    }
}

/// What to look for where this caller is refused.
fn sought<'a>(proof: &'a Proof, caller: &'a Caller, wanted: &'a Identity) -> Option<Sought<'a>> {
    match (caller, proof) {
        (Caller::Node { node, .. }, _) => Some(Sought::OnNode { node, identity: wanted }),
        (Caller::Pod { .. }, Proof::Pod(bound)) => Some(bound.sought()),
        _ => None,
    }
}

/// Callers that share a rate.
fn bucket(caller: &Caller) -> String {
    match caller {
        Caller::Node { node, .. } => format!("node {node}"),
        Caller::Pod { uid, .. } => format!("pod {uid}"),
        Caller::Mapped { subject, .. } => format!("subject {subject}"),
    }
}

/// The system's clock.
pub fn system_clock() -> Clock {
    Arc::new(SystemTime::now)
}
