//! What the agent writes to the API server: the status annotation of captured pods, and Events on pods.
//! RBAC it needs: `patch` of pods, `create` and `patch` of `events.events.k8s.io`.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::config::{CAPTURE, MIRROR};
use k8s_openapi::api::core::v1::{self as core, ObjectReference};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::zds::Pod;

/// Patches under way at once.
const PATCHES: usize = 8;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long the same pod is told of the same thing no more than once.
const QUIET: Duration = Duration::from_secs(30);
/// Pods told of within [`QUIET`]; beyond it, nobody is told.
const MOST_TOLD: usize = 512;

/// The API server, as the agent of one node writes to it. Cheap to clone.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    recorder: Recorder,
    patches: Arc<Semaphore>,
    told: Arc<Mutex<Told>>,
}

/// When which pod, by UID, was told what last.
type Told = HashMap<(Arc<str>, &'static str), Instant>;

/// Why a pod's annotation was not written.
#[derive(Debug, thiserror::Error)]
pub enum TellError {
    /// The pod is gone; one of the same name is another.
    #[error("the pod is gone")]
    Gone,
    /// The API server says no, or nothing.
    #[error("the API server did not take the annotation {CAPTURE}: {0}")]
    Refused(String),
}

impl Cluster {
    /// Writes as the agent of this node.
    pub fn new(client: Client, node: &str) -> Self {
        let reporter = Reporter {
            controller: "weft-cni".to_owned(),
            instance: Some(node.to_owned()),
        };
        Self {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            patches: Arc::new(Semaphore::new(PATCHES)),
            told: Arc::default(),
        }
    }

    /// Writes or removes a pod's status annotation. Only on the pod with this very UID.
    ///
    /// # Errors
    /// [`TellError`].
    pub async fn tell(&self, pod: &Pod, captured: bool) -> Result<(), TellError> {
        // closed never; then nothing is bounded, and nothing is lost
        let _turn = self.patches.acquire().await.ok();
        let pods: Api<core::Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let patch = Patch::Merge(patch(pod, captured));
        let params = PatchParams::default();
        match timeout(PATIENCE, pods.patch_metadata(&pod.name, &params, &patch)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(kube::Error::Api(status))) if is_another(status.code, &status.message) => Err(TellError::Gone),
            Ok(Err(why)) => Err(TellError::Refused(why.to_string())),
            Err(_) => Err(TellError::Refused(format!("no answer within {PATIENCE:?}"))),
        }
    }

    /// Puts a Warning on a pod, in a task of its own; not more than one of a kind in half a minute.
    pub fn warn(&self, pod: &Pod, reason: &'static str, note: String) {
        if !self.may_warn(&pod.uid, reason) {
            return;
        }
        let event = Event {
            type_: EventType::Warning,
            reason: reason.to_owned(),
            note: Some(note.chars().take(1000).collect()),
            action: "Capture".to_owned(),
            secondary: None,
        };
        let object = ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            namespace: Some(pod.namespace.to_string()),
            name: Some(pod.name.to_string()),
            uid: Some(pod.uid.to_string()),
            ..ObjectReference::default()
        };
        let recorder = self.recorder.clone();
        tokio::spawn(async move {
            match timeout(PATIENCE, recorder.publish(&event, &object)).await {
                Ok(Ok(())) => {}
                Ok(Err(why)) => tracing::debug!(%why, "an Event was not taken"),
                Err(_) => tracing::debug!("an Event was not taken in time"),
            }
        });
    }

    fn may_warn(&self, uid: &Arc<str>, reason: &'static str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| at.elapsed() < QUIET);
        let key = (uid.clone(), reason);
        if told.contains_key(&key) || told.len() >= MOST_TOLD {
            return false;
        }
        told.insert(key, Instant::now());
        true
    }
}

/// A merge patch, of which the UID is a precondition. The object of a static pod has a UID of its own; there the hash is,
/// by which the node knows it: the API server lets nobody add or change that annotation.
fn patch(pod: &Pod, captured: bool) -> Value {
    let value = if captured { json!("captured") } else { Value::Null };
    match pod.is_static() {
        false => json!({ "metadata": { "uid": &*pod.uid, "annotations": { CAPTURE: value } } }),
        true => json!({ "metadata": { "annotations": { MIRROR: &*pod.uid, CAPTURE: value } } }),
    }
}

/// Whether an answer says that no pod has this name, or another pod has it: a UID cannot be changed.
fn is_another(code: u16, message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let names_it = message.contains("uid") || message.contains("mirror pod annotation");
    code == 404 || (matches!(code, 409 | 422) && names_it)
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Cluster")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_is_for_one_uid_alone() {
        let pod = Pod {
            uid: "u1".into(),
            name: "cart".into(),
            namespace: "shop".into(),
            service_account: "cart".into(),
        };
        let told = json!({"metadata": {"uid": "u1", "annotations": {"weft.dev/capture": "captured"}}});
        let untold = json!({"metadata": {"uid": "u1", "annotations": {"weft.dev/capture": null}}});
        assert_eq!((patch(&pod, true), patch(&pod, false)), (told, untold));
        let hash = "d41d8cd98f00b204e9800998ecf8427e";
        let pod = Pod {
            uid: hash.into(),
            ..pod
        };
        let told = json!({"metadata": {"annotations": {
            "kubernetes.io/config.mirror": hash, "weft.dev/capture": "captured"}}});
        assert_eq!(patch(&pod, true), told);
    }

    #[test]
    fn a_pod_of_the_same_name_is_another() {
        assert!(is_another(404, "pods \"cart\" not found"));
        assert!(is_another(
            409,
            "Operation cannot be fulfilled: Precondition failed: UID in precondition: a, UID in object meta: b"
        ));
        assert!(is_another(422, "metadata.uid: Invalid value: field is immutable"));
        assert!(is_another(
            422,
            "metadata.annotations[kubernetes.io/config.mirror]: Forbidden: may not add mirror pod annotation"
        ));
        assert!(!is_another(409, "the object has been modified"));
        assert!(!is_another(403, "forbidden: uid"));
    }
}
