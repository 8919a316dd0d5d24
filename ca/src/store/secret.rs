//! A Secret that every replica of the CA shares: what one makes, the others load. It is written only as it was
//! read (`resourceVersion`), so that of two replicas that start at once exactly one makes the root.
//!
//! Asks of the API server, in the Secret's namespace: `get` and `update` of `secrets` by this name, and `create`
//! of `secrets` (which cannot be narrowed to a name), unless the Secret is there, empty, from the start.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};
use tokio::time::timeout;

use super::{Document, Kept, MOST_BYTES, Saved, StateError, Store};

/// Over one request.
const DEADLINE: Duration = Duration::from_secs(10);

/// A Secret.
#[derive(Clone)]
pub struct SecretStore {
    secrets: Api<Secret>,
    namespace: String,
    name: String,
}

impl SecretStore {
    /// The Secret of this namespace and name; it need not be there.
    pub fn new(client: Client, namespace: &str, name: &str) -> Self {
        Self {
            secrets: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    async fn ask<T>(
        &self,
        verb: &str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<Result<T, u16>, StateError> {
        match timeout(DEADLINE, request).await {
            Ok(Ok(answer)) => Ok(Ok(answer)),
            Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => Ok(Err(status.code)),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(self.unavailable(format!(
                "the API server forbids the ca to {verb} it ({}); grant its service account get and update of this \
                 Secret, and create of secrets in this namespace",
                status.message
            ))),
            Ok(Err(error)) => Err(self.unavailable(format!("the API server does not {verb} it: {error}"))),
            Err(_) => Err(self.unavailable(format!("the API server does not answer within {DEADLINE:?}"))),
        }
    }

    fn unavailable(&self, why: String) -> StateError {
        StateError::Unavailable {
            place: format!("Secret {}/{}", self.namespace, self.name),
            why,
        }
    }
}

#[tonic::async_trait]
impl Store for SecretStore {
    async fn load(&self) -> Result<Kept, StateError> {
        let secret = self.ask("get", self.secrets.get_opt(&self.name)).await?.ok().flatten();
        let Some(secret) = secret else {
            return Ok(Kept::default());
        };
        let documents: BTreeMap<_, _> = secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(name, bytes)| (name, bytes.0))
            .collect();
        if documents.values().map(Vec::len).sum::<usize>() > MOST_BYTES {
            return Err(super::unfit(
                &self.place(""),
                format!("it is larger than {MOST_BYTES} bytes"),
            ));
        }
        Ok(Kept::new(secret.metadata.resource_version.map(Into::into), documents))
    }

    async fn save(&self, loaded: &Kept, documents: &[Document]) -> Result<Saved, StateError> {
        let wanted = loaded.with(documents);
        let data = wanted
            .documents()
            .iter()
            .map(|(name, bytes)| (name.clone(), ByteString(bytes.clone())));
        let mut secret = Secret {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            data: Some(data.collect()),
            ..Secret::default()
        };
        let how = PostParams::default();
        let written = match &loaded.version {
            None => self.ask("create", self.secrets.create(&how, &secret)).await?,
            Some(version) => {
                // Labels and owners that others gave it stay.
                let Ok(there) = self.ask("get", self.secrets.get(&self.name)).await? else {
                    return Ok(Saved::Late);
                };
                secret.metadata = there.metadata;
                secret.metadata.managed_fields = None;
                secret.metadata.resource_version = Some(version.to_string());
                secret.type_ = there.type_;
                self.ask("update", self.secrets.replace(&self.name, &how, &secret))
                    .await?
            }
        };
        Ok(written.map_or(Saved::Late, |_| Saved::Done))
    }

    fn place(&self, name: &str) -> String {
        format!("Secret {}/{}, {name}", self.namespace, self.name)
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl std::fmt::Debug for SecretStore {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "SecretStore({}/{})", self.namespace, self.name)
    }
}
