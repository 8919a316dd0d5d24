//! The roots to trust, where pods read them: a ConfigMap in the mesh's own namespace and in each that holds a
//! waypoint. Comes in: snapshots and our roots. Goes out: the ConfigMap, made, repaired, and taken away where no
//! waypoint is left. Every replica does it; they write the same.
//!
//! Asks of the API server, cluster-wide and for ConfigMaps of this one name: `list` (by the field selector
//! `metadata.name`), `create` and `patch` (server-side apply: the name is known to both), `delete`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use act::{certs::pem, config::Reader};
use decide::snapshot::Snapshot;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::authority::SigningAuthority;

/// Looked at again, if nothing changed, so that what others broke is repaired.
const PERIOD: Duration = Duration::from_secs(30);
/// Between two looks, however much changes.
const REST: Duration = Duration::from_secs(1);
/// Over one request.
const DEADLINE: Duration = Duration::from_secs(10);
/// ConfigMaps read at once.
const MOST: u32 = 10_000;

const KEY: &str = "root.pem";
/// Field manager, and value of the label by which we know what we made.
const MANAGER: &str = "weft-ca";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label with the mesh's own namespace: of two meshes in a cluster each leaves the other's alone.
const HOME: &str = "weft.dev/root-namespace";

/// Publishes the roots.
pub struct Bundle {
    /// The API server.
    pub client: Client,
    /// The ConfigMaps' name.
    pub name: String,
    /// The mesh's own namespace.
    pub home: Arc<str>,
    /// Whose roots.
    pub authority: Arc<SigningAuthority>,
}

/// One ConfigMap of the name, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct There {
    /// What it holds under our key.
    text: Option<String>,
    /// Whether we made it.
    ours: bool,
    /// So that only what was looked at is deleted.
    version: Option<String>,
}

/// What to do in a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// Write ours.
    Apply,
    /// Take ours away, if it is still of this version.
    Delete(Option<String>),
}

impl Bundle {
    /// Publishes for as long as it is polled.
    pub async fn keep(self, mut reader: Reader) {
        let mut told = BTreeMap::new();
        loop {
            let snapshot = reader.load();
            if snapshot.complete {
                let wanted = wanted(&snapshot, &self.home);
                let troubles = self.settle(&wanted).await;
                metrics::gauge!("weft_ca_bundle_namespaces").set(count(wanted.len()));
                metrics::gauge!("weft_ca_bundle_troubles").set(count(troubles.len()));
                for (place, why) in troubles.iter().filter(|(place, why)| told.get(*place) != Some(*why)) {
                    tracing::warn!(place, why, "the roots are not as they should be");
                }
                told = troubles;
                sleep(REST).await;
                let changed = async {
                    // Other pods come and go all the time: only other namespaces are news.
                    loop {
                        if self::wanted(&*reader.changed().await, &self.home) != wanted {
                            return;
                        }
                    }
                };
                let _ = timeout(PERIOD, changed).await;
            } else {
                reader.changed().await;
            }
        }
    }

    /// Looks at what is there and puts it right; says what could not be done, by place.
    async fn settle(&self, wanted: &BTreeSet<Arc<str>>) -> BTreeMap<String, String> {
        let text = pem(&self.authority.roots());
        let there = match self.list().await {
            Ok(there) => there,
            Err(why) => return BTreeMap::from([("the API server".to_owned(), why)]),
        };
        let mut troubles = BTreeMap::new();
        for (namespace, step) in steps(wanted, &there, &text) {
            let done = match &step {
                Step::Apply => self.apply(&namespace, &text).await,
                Step::Delete(version) => self.delete(&namespace, version.clone()).await,
            };
            match done {
                Ok(()) => tracing::info!(%namespace, name = self.name, ?step, "the roots were put right"),
                Err(why) => drop(troubles.insert(format!("ConfigMap {namespace}/{}", self.name), why)),
            }
        }
        troubles
    }

    async fn list(&self) -> Result<BTreeMap<Arc<str>, There>, String> {
        let maps: Api<ConfigMap> = Api::all(self.client.clone());
        let asked = ListParams::default()
            .fields(&format!("metadata.name={}", self.name))
            .limit(MOST);
        let list = within(maps.list(&asked)).await?;
        let there = |map: ConfigMap| {
            let labels = map.metadata.labels.unwrap_or_default();
            let there = There {
                text: map.data.and_then(|mut data| data.remove(KEY)),
                ours: labels.get(MANAGED_BY).is_some_and(|it| it == MANAGER)
                    && labels.get(HOME).is_some_and(|it| **it == *self.home),
                version: map.metadata.resource_version,
            };
            Some((Arc::from(map.metadata.namespace?), there))
        };
        Ok(list.items.into_iter().filter_map(there).collect())
    }

    async fn apply(&self, namespace: &str, text: &str) -> Result<(), String> {
        let map = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": {MANAGED_BY: MANAGER, HOME: &*self.home, "app.kubernetes.io/part-of": "weft"},
            },
            "data": {KEY: text},
        });
        let how = PatchParams::apply(MANAGER).force();
        within(self.maps(namespace).patch(&self.name, &how, &Patch::Apply(&map)))
            .await
            .map(drop)
    }

    async fn delete(&self, namespace: &str, version: Option<String>) -> Result<(), String> {
        let how = DeleteParams {
            preconditions: Some(Preconditions {
                resource_version: version,
                uid: None,
            }),
            ..DeleteParams::default()
        };
        within(self.maps(namespace).delete(&self.name, &how)).await.map(drop)
    }

    fn maps(&self, namespace: &str) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), namespace)
    }
}

/// The namespaces whose pods read our roots from a file.
fn wanted(snapshot: &Snapshot, home: &Arc<str>) -> BTreeSet<Arc<str>> {
    let waypoints = snapshot
        .waypoints
        .values()
        .map(|waypoint| waypoint.key.namespace.clone());
    waypoints.chain([home.clone()]).collect()
}

/// What to do so that the ConfigMap is where it is wanted, as it should be, and nowhere else what we made.
fn steps(wanted: &BTreeSet<Arc<str>>, there: &BTreeMap<Arc<str>, There>, text: &str) -> Vec<(Arc<str>, Step)> {
    let right = |namespace: &Arc<str>| {
        let there = there.get(namespace);
        there.is_some_and(|there| there.ours && there.text.as_deref() == Some(text))
    };
    let apply = wanted
        .iter()
        .filter(|namespace| !right(namespace))
        .map(|namespace| (namespace.clone(), Step::Apply));
    let delete = there
        .iter()
        .filter(|(namespace, there)| there.ours && !wanted.contains(*namespace))
        .map(|(namespace, there)| (namespace.clone(), Step::Delete(there.version.clone())));
    apply.chain(delete).collect()
}

async fn within<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, String> {
    match timeout(DEADLINE, request).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {DEADLINE:?}")),
    }
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use decide::model::{Identity, Waypoint, WaypointFor, WaypointKey};

    use super::*;

    fn there(text: &str, ours: bool) -> There {
        There {
            text: Some(text.to_owned()),
            ours,
            version: Some("7".to_owned()),
        }
    }

    fn set(names: &[&str]) -> BTreeSet<Arc<str>> {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    #[test]
    fn the_roots_are_wanted_at_home_and_where_waypoints_are() {
        let mut snapshot = Snapshot::empty(Arc::default());
        for (namespace, name) in [("shop", "a"), ("shop", "b"), ("bank", "a")] {
            let key = WaypointKey {
                namespace: namespace.into(),
                name: name.into(),
            };
            let waypoint = Waypoint {
                key: key.clone(),
                identity: Identity::new("cluster.local", namespace, name).unwrap(),
                takes: WaypointFor::Service,
                endpoints: Vec::new(),
            };
            snapshot.waypoints.insert(key, Arc::new(waypoint));
        }
        assert_eq!(
            wanted(&snapshot, &"weft-system".into()),
            set(&["bank", "shop", "weft-system"])
        );
    }

    #[test]
    fn what_is_missing_or_changed_is_applied_and_only_what_we_made_is_deleted() {
        let there = BTreeMap::from([
            ("right".into(), there("roots", true)),
            ("changed".into(), there("others", true)),
            ("anothers".into(), there("roots", false)),
            ("left".into(), there("roots", true)),
            ("foreign".into(), there("roots", false)),
        ]);
        let steps = steps(&set(&["right", "changed", "anothers", "missing"]), &there, "roots");
        let expected = [
            ("anothers", Step::Apply),
            ("changed", Step::Apply),
            ("missing", Step::Apply),
            ("left", Step::Delete(Some("7".to_owned()))),
        ];
        assert_eq!(steps, expected.map(|(namespace, step)| (Arc::from(namespace), step)));
    }
}
