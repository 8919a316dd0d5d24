//! Has CSRs signed by the CA.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use decide::model::Identity;
use http::Uri;
use prost_types::{Struct, Value, value::Kind};
use rustls::pki_types::ServerName;
use tokio::{
    fs::File,
    io::AsyncReadExt,
    time::{sleep, timeout},
};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
};

use super::{
    CaOptions,
    channel::{Channel, NoConnection},
    proto::{
        IMPERSONATED_IDENTITY, IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_client::IstioCertificateServiceClient,
    },
};
use crate::certs::{Authority, BoxFuture, CertError, Signed, certificates_of};

/// Over every attempt at one certificate.
const DEADLINE: Duration = Duration::from_secs(15);
/// Over one attempt: connection, handshake, call and answer. The CA itself takes less, its questions included.
const ATTEMPT: Duration = Duration::from_secs(8);
/// Pauses before the next attempt, each on a new connection: another replica may stand behind the same name.
/// Longer ones are for whoever wants the certificate.
const PAUSES: [Duration; 4] = [
    Duration::ZERO,
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
const MOST_TOKEN_BYTES: u64 = 64 << 10;
const MOST_ANSWER_BYTES: usize = 1 << 20;

/// Asks a CA for certificates. Reconnects by itself; reads token and roots again for every call.
pub struct CaClient {
    channel: Channel,
    origin: Uri,
    token: PathBuf,
    life: Duration,
}

/// Why an attempt failed.
enum Failed {
    /// Another replica would say the same.
    ForGood(CertError),
    /// Another may answer.
    Perhaps(CertError),
}

impl CaClient {
    /// A client by its flags. Reads nothing and connects nowhere yet.
    ///
    /// # Errors
    /// One plain sentence when the CA's name is none.
    pub fn new(options: &CaOptions) -> Result<Self, String> {
        let name = options.ca_name.as_ref().unwrap_or(&options.ca.host);
        let name = ServerName::try_from(name.clone())
            .map_err(|_| format!("--ca-name: {name:?} is neither a DNS name nor an address"))?;
        let origin = options
            .ca
            .to_string()
            .parse()
            .map_err(|error| format!("--ca: {error}"))?;
        Ok(Self {
            channel: Channel::new(options.ca.clone(), name, options.ca_root.clone()),
            origin,
            token: options.token.clone(),
            life: options.leaf_life,
        })
    }

    /// Asks until there is an answer that another replica would not give differently.
    async fn ask(&self, identity: &Identity, csr_pem: &str) -> Result<Signed, CertError> {
        let mut pauses = PAUSES.into_iter();
        loop {
            let late = |_| unavailable(identity, format!("no answer within {ATTEMPT:?}"));
            let attempt = timeout(ATTEMPT, self.attempt(identity, csr_pem)).await.map_err(late);
            let (error, again) = match attempt {
                Ok(Ok(signed)) => return Ok(signed),
                Ok(Err(Failed::ForGood(error))) => (error, false),
                Ok(Err(Failed::Perhaps(error))) | Err(error) => (error, true),
            };
            if again {
                self.channel.forget().await;
            }
            let Some(pause) = pauses.next().filter(|_| again) else {
                return Err(error);
            };
            tracing::debug!(%identity, %error, "asked again, on a new connection");
            sleep(pause).await;
        }
    }

    async fn attempt(&self, identity: &Identity, csr_pem: &str) -> Result<Signed, Failed> {
        let request = self.request(identity, csr_pem).await;
        let request = request.map_err(|why| Failed::ForGood(unavailable(identity, why)))?;
        let connection = match self.channel.connection().await {
            Ok(connection) => connection,
            Err(NoConnection::Roots(why)) => return Err(Failed::ForGood(unavailable(identity, why))),
            Err(NoConnection::Server(why)) => return Err(Failed::Perhaps(unavailable(identity, why))),
        };
        let mut client = IstioCertificateServiceClient::with_origin(connection, self.origin.clone())
            .max_decoding_message_size(MOST_ANSWER_BYTES);
        match client.create_certificate(request).await {
            Ok(response) => signed(&response.into_inner()).map_err(|why| {
                let identity = identity.clone();
                Failed::ForGood(CertError::Unfit { identity, why })
            }),
            Err(status) => {
                let error = failure(identity, &status);
                // A connection that ended is Unknown, a stream that the other side reset Cancelled or Internal.
                let transient = [Code::Unavailable, Code::Unknown, Code::Internal, Code::Cancelled];
                Err(if transient.contains(&status.code()) {
                    Failed::Perhaps(error)
                } else {
                    Failed::ForGood(error)
                })
            }
        }
    }

    async fn request(&self, identity: &Identity, csr_pem: &str) -> Result<Request<IstioCertificateRequest>, String> {
        let token = read(&self.token, MOST_TOKEN_BYTES).await?;
        let unfit = || format!("{} holds no token", self.token.display());
        let token = std::str::from_utf8(&token).map_err(|_| unfit())?.trim();
        if token.is_empty() {
            return Err(unfit());
        }
        let mut bearer: MetadataValue<Ascii> = format!("Bearer {token}").parse().map_err(|_| unfit())?;
        bearer.set_sensitive(true);
        let wanted = Value {
            kind: Some(Kind::StringValue(identity.to_string())),
        };
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr_pem.to_owned(),
            validity_duration: i64::try_from(self.life.as_secs()).unwrap_or(i64::MAX),
            metadata: Some(Struct {
                fields: BTreeMap::from([(IMPERSONATED_IDENTITY.to_owned(), wanted)]),
            }),
        });
        request.metadata_mut().insert("authorization", bearer);
        request.set_timeout(ATTEMPT);
        Ok(request)
    }
}

impl Authority for CaClient {
    fn sign<'a>(&'a self, identity: &'a Identity, csr_pem: &'a str) -> BoxFuture<'a, Result<Signed, CertError>> {
        Box::pin(async move {
            let late = |_| unavailable(identity, format!("no answer within {DEADLINE:?}"));
            timeout(DEADLINE, self.ask(identity, csr_pem)).await.map_err(late)?
        })
    }
}

impl std::fmt::Debug for CaClient {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("CaClient")
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// A whole small file.
pub(super) async fn read(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let failed = |error| format!("{} cannot be read: {error}", path.display());
    let mut bytes = Vec::new();
    let file = File::open(path).await.map_err(failed)?;
    file.take(most + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > most {
        return Err(format!("{} is larger than {most} bytes", path.display()));
    }
    Ok(bytes)
}

/// Leaf and intermediates, and the last element's roots.
fn signed(response: &IstioCertificateResponse) -> Result<Signed, Arc<str>> {
    let parse = |text: &String| certificates_of(text.as_bytes()).map_err(|error| Arc::from(error.to_string()));
    let Some((roots, chain)) = response.cert_chain.split_last() else {
        return Err("it is empty".into());
    };
    let chain: Vec<_> = chain.iter().map(parse).collect::<Result<_, _>>()?;
    Ok(Signed {
        chain: chain.concat(),
        roots: parse(roots)?,
    })
}

fn unavailable(identity: &Identity, why: String) -> CertError {
    CertError::Unavailable {
        identity: identity.clone(),
        why: why.into(),
    }
}

fn failure(identity: &Identity, status: &Status) -> CertError {
    let identity = identity.clone();
    let words: String = status.message().chars().take(512).collect();
    match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => CertError::Refused {
            identity,
            why: words.into(),
        },
        code => CertError::Unavailable {
            identity,
            why: format!("{code}: {words}").into(),
        },
    }
}
