//! One live look at the API server before a refusal: a pod that its node knows may reach the ca's own watch a
//! moment later. Comes in: which pods. Goes out: the snapshot with what was found, translated as ever, for the
//! same pure decisions. Bounded: a caller cannot make us ask without end.
//!
//! Asks of the API server: `get` and `list` of `pods`, `get` of `namespaces` and of `gateways`.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use act::config::{Change, Feed, Object};
use decide::{entitle::extended, model::Identity, snapshot::Snapshot};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, ListParams},
    core::GroupVersionKind,
};
use serde::Serialize;
use tokio::{sync::Semaphore, time::timeout};

use crate::rate::Rate;

/// Over one look, its wait for others included.
const DEADLINE: Duration = Duration::from_secs(2);
/// Looks at once.
const MOST_AT_ONCE: usize = 16;
/// Looks of one caller at once, and a second on end.
const PER_CALLER: (u32, u32) = (64, 8);
/// Pods of one account on one node; one would do.
const MOST_PODS: u32 = 50;
/// By this label a waypoint's pod names its Gateway.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// Which pods are looked for.
#[derive(Debug, Clone, Copy)]
pub enum Sought<'a> {
    /// One by its name.
    Pod {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// Those of this identity on this node.
    OnNode {
        /// The node.
        node: &'a str,
        /// Whose.
        identity: &'a Identity,
    },
}

/// Why nothing was looked at.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// The caller made us look too often.
    #[error("this caller asks too often for pods that are not known here; let it wait and ask again")]
    TooOften,
    /// The API server does not answer.
    #[error("the API server cannot be asked for the pod: {0}")]
    Unavailable(Arc<str>),
}

/// Whoever can be asked for the pods as they are now.
#[tonic::async_trait]
pub trait Finder: Send + Sync {
    /// The pods, their namespace and the Gateways they may serve.
    ///
    /// # Errors
    /// One plain sentence.
    async fn find(&self, sought: Sought<'_>) -> Result<Vec<Object>, String>;
}

/// Looks, within bounds.
pub struct Lookup {
    finder: Box<dyn Finder>,
    rate: Rate,
    permits: Semaphore,
}

impl Lookup {
    /// Asks this one.
    pub fn new(finder: Box<dyn Finder>) -> Self {
        Self {
            finder,
            rate: Rate::new(PER_CALLER.0, PER_CALLER.1),
            permits: Semaphore::new(MOST_AT_ONCE),
        }
    }

    /// The snapshot with what is found now; `caller` is who pays for it.
    ///
    /// # Errors
    /// [`LookupError`].
    pub async fn look(&self, caller: &str, sought: Sought<'_>, snapshot: &Snapshot) -> Result<Snapshot, LookupError> {
        if !self.rate.admits(caller) {
            return Err(LookupError::TooOften);
        }
        metrics::counter!("weft_ca_lookups_total").increment(1);
        let found = async {
            let _permit = self.permits.acquire().await.map_err(|error| error.to_string())?;
            self.finder.find(sought).await
        };
        let found = timeout(DEADLINE, found)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {DEADLINE:?}")));
        let found = found.map_err(|why| LookupError::Unavailable(why.into()))?;
        Ok(extended(snapshot, &translated(found, snapshot)))
    }
}

/// What these objects alone come to, under the same settings.
fn translated(objects: Vec<Object>, snapshot: &Snapshot) -> Arc<Snapshot> {
    let (mut feed, reader) = Feed::new((*snapshot.mesh).clone());
    let put = |object| Change::Put(Box::new(object), Arc::default());
    feed.apply(objects.into_iter().map(put).collect());
    reader.load()
}

#[tonic::async_trait]
impl Finder for Client {
    async fn find(&self, sought: Sought<'_>) -> Result<Vec<Object>, String> {
        let (namespace, pods) = match sought {
            Sought::Pod { namespace, name } => {
                let pods: Api<Pod> = Api::namespaced(self.clone(), namespace);
                (
                    namespace,
                    pods.get_opt(name).await.map_err(sentence)?.into_iter().collect(),
                )
            }
            Sought::OnNode { node, identity } => {
                let (namespace, account) = (identity.namespace(), identity.service_account());
                let pods: Api<Pod> = Api::namespaced(self.clone(), namespace);
                // a static pod's object names no account, which is to say the default one
                let unnamed = (account == "default").then_some("");
                let mut found = Vec::new();
                for account in std::iter::once(account).chain(unnamed) {
                    let fields = format!("spec.nodeName={node},spec.serviceAccountName={account}");
                    let asked = ListParams::default().fields(&fields).limit(MOST_PODS);
                    found.extend(pods.list(&asked).await.map_err(sentence)?.items);
                }
                (namespace, found)
            }
        };
        let mut found = Vec::new();
        let labels = Api::<Namespace>::all(self.clone());
        if let Some(namespace) = labels.get_opt(namespace).await.map_err(sentence)? {
            found.extend(object(&namespace)?);
        }
        for name in gateways(&pods) {
            let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "Gateway");
            let kind = ApiResource::from_gvk(&kind);
            let gateways: Api<DynamicObject> = Api::namespaced_with(self.clone(), namespace, &kind);
            match gateways.get(&name).await {
                Ok(gateway) => found.extend(object(&gateway)?),
                // There is none; where the kind is not installed, the answer names no reason.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => return Err(sentence(error)),
            }
        }
        for pod in &pods {
            found.extend(object(pod)?);
        }
        Ok(found)
    }
}

/// The Gateways whose waypoint these pods may be: named by a label, or like the service account.
fn gateways(pods: &[Pod]) -> std::collections::BTreeSet<String> {
    let label = |pod: &Pod| pod.metadata.labels.as_ref()?.get(GATEWAY).cloned();
    let account = |pod: &Pod| pod.spec.as_ref()?.service_account_name.clone();
    let named = |pod| [label(pod), account(pod)].into_iter().flatten();
    // Pods of one account: at most one name each beside it, of which a handful is enough to refuse or allow.
    pods.iter().flat_map(named).take(2 * MOST_PODS as usize).collect()
}

/// As the configuration reads it; an object that cannot be read is as good as none.
fn object(value: &(impl Serialize + Debug)) -> Result<Option<Object>, String> {
    let value = serde_json::to_value(value).map_err(|error| error.to_string())?;
    Ok(Object::parse(&value).ok().flatten())
}

fn sentence(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "it forbids the ca to read ({}); grant its service account get and list of pods, and get of namespaces \
             and gateways",
            status.message
        ),
        error => error.to_string(),
    }
}

impl Debug for Lookup {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Lookup")
    }
}
