//! The API server as this command uses it: whole objects, as JSON. Every trouble is one sentence.

use kube::{
    Api, Client,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::ApiResource,
};
use serde_json::Value;

use super::{
    MANAGER,
    object::{Kind, Object},
};
use crate::cluster::sentence;

/// A cluster.
pub(crate) struct ClusterApi {
    client: Client,
}

impl ClusterApi {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    fn at(&self, kind: &Kind, namespace: Option<&str>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) if !kind.cluster => Api::namespaced_with(self.client.clone(), namespace, &kind.resource),
            _ => Api::all_with(self.client.clone(), &kind.resource),
        }
    }

    /// The object as it is; none where it is not, or its kind is not known.
    pub(crate) async fn get(&self, object: &Object) -> Result<Option<Value>, String> {
        let found = self.at(&object.kind(), object.namespace()).get_opt(object.name()).await;
        let found = found.map_err(|error| sentence(&format!("read {}", object.title()), &error))?;
        found.map(|found| plain(&found)).transpose()
    }

    /// Applies an object by server-side apply.
    pub(crate) async fn apply(&self, object: &Object, force: bool) -> Result<Value, String> {
        let parameters = PatchParams {
            force,
            ..PatchParams::apply(MANAGER)
        };
        let done = self
            .at(&object.kind(), object.namespace())
            .patch(object.name(), &parameters, &Patch::Apply(&object.value))
            .await;
        plain(&done.map_err(|error| sentence(&format!("apply {}", object.title()), &error))?)
    }

    /// Patches an object by JSON merge patch.
    pub(crate) async fn merge(
        &self,
        kind: &Kind,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
    ) -> Result<(), String> {
        let done = self
            .at(kind, namespace)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        done.map(drop)
            .map_err(|error| sentence(&format!("change {} {name}", kind.resource.kind), &error))
    }

    /// Deletes an object, and what it owns. One that is not there is gone already.
    pub(crate) async fn delete(&self, kind: &Kind, namespace: Option<&str>, name: &str) -> Result<(), String> {
        match self.at(kind, namespace).delete(name, &DeleteParams::background()).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(sentence(&format!("delete {} {name}", kind.resource.kind), &error)),
        }
    }

    /// Every object of a kind, in one namespace or all, that a selector picks. A kind nobody knows has none.
    pub(crate) async fn list(&self, kind: &Kind, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, String> {
        self.select(kind, namespace, ListParams::default().labels(labels)).await
    }

    /// Every object of a kind by name, in all namespaces.
    pub(crate) async fn named(&self, kind: &Kind, name: &str) -> Result<Vec<Value>, String> {
        let by_name = ListParams::default().fields(&format!("metadata.name={name}"));
        self.select(kind, None, by_name).await
    }

    async fn select(&self, kind: &Kind, namespace: Option<&str>, which: ListParams) -> Result<Vec<Value>, String> {
        match self.at(kind, namespace).list(&which).await {
            Ok(list) => list.items.iter().map(plain).collect(),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(sentence(&format!("list {}", kind.resource.plural), &error)),
        }
    }
}

/// A kind that is not part of an installation, but read or cleaned by it.
pub(crate) fn kind(group: &str, version: &str, kind: &str, plural: &str, cluster: bool) -> Kind {
    let named = kube::core::GroupVersionKind::gvk(group, version, kind);
    Kind {
        resource: ApiResource::from_gvk_with_plural(&named, plural),
        cluster,
    }
}

fn plain(object: &DynamicObject) -> Result<Value, String> {
    serde_json::to_value(object).map_err(|error| format!("an object of the API server is no JSON: {error}"))
}
