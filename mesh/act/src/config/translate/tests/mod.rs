//! The whole translation: YAML in, snapshot out.

mod binding;
mod endpoints;
mod exclusions;
mod external;
mod incremental;
mod policies;
mod problems;
mod routes;
mod tiers;
mod workloads;

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use decide::model::{
    ExternalService, Locality, ObjectRef, Problem, Service, ServiceKey, Waypoint, WaypointKey, Workload,
};
use serde::Deserialize;

use super::*;
use crate::config::Object;

/// Objects of a stream of YAML documents.
fn objects(yaml: &str) -> Vec<Object> {
    serde_yaml::Deserializer::from_str(yaml)
        .map(|document| serde_json::Value::deserialize(document).expect("YAML"))
        .filter(|value| !value.is_null())
        .map(|value| Object::parse(&value).expect("readable").expect("a kind we read"))
        .collect()
}

fn put(object: Object) -> Change {
    Change::Put(Box::new(object), Arc::default())
}

/// A translation that has seen these objects.
fn translation(yaml: &str) -> Translation {
    let mut translation = Translation::new(MeshSettings::default());
    add(&mut translation, yaml);
    translation
}

fn add(translation: &mut Translation, yaml: &str) {
    for object in objects(yaml) {
        translation.change(put(object));
    }
    translation.settle();
}

fn remove(translation: &mut Translation, kind: &str, namespace: &str, name: &str) {
    translation.change(Change::Delete(ObjectRef {
        kind: kind.into(),
        namespace: namespace.into(),
        name: name.into(),
    }));
    translation.settle();
}

fn workload<'a>(translation: &'a Translation, name: &str) -> &'a Arc<Workload> {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let mut all = translation.snapshot().workloads.values();
    all.find(|it| *it.namespace == *namespace && *it.name == *name)
        .expect("a workload")
}

fn service<'a>(translation: &'a Translation, name: &str) -> &'a Arc<Service> {
    let (namespace, name) = name.split_once('/').expect("namespace/name");
    let key = ServiceKey {
        namespace: namespace.into(),
        name: name.into(),
    };
    translation.snapshot().services.get(&key).expect("a Service")
}

/// Every problem, as `Kind namespace/name field: what`.
fn told(translation: &Translation) -> Vec<String> {
    let problems = translation.snapshot().problems.values().flat_map(|it| it.iter());
    let mut all: Vec<String> = problems
        .map(|it| format!("{} {}: {}", it.object, it.field, it.what))
        .collect();
    all.sort();
    all
}

/// Names of policies and their ports, in order, of what judges a workload.
fn applied(workload: &Workload) -> Vec<String> {
    let policies = workload.policies.policies.iter();
    policies
        .map(|it| match &it.ports {
            Some(ports) => format!("{} {ports:?}", it.policy.object.name),
            None => it.policy.object.name.to_string(),
        })
        .collect()
}

/// Waypoints bound to a workload, and their ports.
fn bound(workload: &Workload) -> Vec<String> {
    let waypoints = workload.policies.waypoints.iter();
    waypoints
        .map(|it| match &it.ports {
            Some(ports) => format!("{} {ports:?}", it.key),
            None => it.key.to_string(),
        })
        .collect()
}

/// Everything a snapshot says, without what it has by chance.
#[derive(Debug, PartialEq)]
struct Contents {
    complete: bool,
    mesh: Arc<MeshSettings>,
    workloads: BTreeMap<Arc<str>, Arc<Workload>>,
    services: BTreeMap<ServiceKey, Arc<Service>>,
    waypoints: BTreeMap<WaypointKey, Arc<Waypoint>>,
    workload_addresses: BTreeMap<IpAddr, Arc<str>>,
    service_addresses: BTreeMap<IpAddr, ServiceKey>,
    endpoints_outside: BTreeMap<SocketAddr, ServiceKey>,
    nodes: BTreeMap<Arc<str>, Arc<Locality>>,
    exclusions: BTreeMap<Arc<str>, Arc<decide::model::Exclusions>>,
    externals: BTreeMap<ServiceKey, Arc<ExternalService>>,
    external_claims: BTreeMap<String, ServiceKey>,
    problems: BTreeMap<ObjectRef, Arc<[Problem]>>,
}

fn contents(snapshot: &Snapshot) -> Contents {
    let clone = |(key, value): (&Arc<str>, &Arc<Workload>)| (key.clone(), value.clone());
    Contents {
        complete: snapshot.complete,
        mesh: snapshot.mesh.clone(),
        workloads: snapshot.workloads.iter().map(clone).collect(),
        services: snapshot.services.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        waypoints: snapshot.waypoints.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        workload_addresses: snapshot
            .workload_addresses
            .iter()
            .map(|(k, v)| (*k, v.clone()))
            .collect(),
        service_addresses: snapshot
            .service_addresses
            .iter()
            .map(|(k, v)| (*k, v.clone()))
            .collect(),
        endpoints_outside: snapshot
            .endpoints_outside
            .iter()
            .map(|(k, v)| (*k, v.clone()))
            .collect(),
        nodes: snapshot.nodes.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        exclusions: snapshot
            .exclusions
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect(),
        externals: snapshot
            .external
            .values()
            .map(|it| (it.key.clone(), it.clone()))
            .collect(),
        external_claims: snapshot.external.claims().collect(),
        problems: snapshot.problems.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
    }
}

/// A pod in YAML.
fn pod(namespace: &str, name: &str, address: &str, more: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, uid: uid-{name}, labels: {{app: {name}}}}},\
         \n  spec: {{nodeName: node-1, serviceAccountName: {name}{more}}}, status: {{phase: Running, podIP: {address}}}}}\n"
    )
}

const SHOP: &str = "
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/dataplane-mode: ambient}}}
";

const WAYPOINT: &str = "
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: shop}
spec: {gatewayClassName: weft-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: v1
kind: Pod
metadata: {name: way-1, namespace: shop, uid: uid-way-1, labels: {gateway.networking.k8s.io/gateway-name: way}}
spec: {nodeName: node-2, serviceAccountName: way}
status: {phase: Running, podIP: 10.1.0.9}
";

const WEB: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.2.0.1, selector: {app: web}, ports: [{name: http-main, port: 80, targetPort: 8080}]}
";
