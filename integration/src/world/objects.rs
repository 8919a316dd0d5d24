//! The few Kubernetes objects that the world itself acts on, as a kubelet and kube-proxy would: Pods, Services,
//! ConfigMaps, and which namespaces are enrolled. Deliberately its own reading: what it serves must not depend on
//! how the mesh reads the same files.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use act::process::Failure;
use serde::Deserialize;

/// How the names of nodes begin that are not here. The mesh knows their pods as it knows any; the world runs none of
/// them and sends them nothing.
const ELSEWHERE: &str = "far-";

/// Everything in a directory that the world acts on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Objects {
    /// Pods by `namespace/name`.
    pub pods: BTreeMap<String, Pod>,
    /// Services, by namespace and name.
    pub services: Vec<Service>,
    /// ConfigMaps' files by `namespace/name`.
    pub config_maps: BTreeMap<String, BTreeMap<String, String>>,
    /// Labels of namespaces.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// A pod that has a node and an address.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pod {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// `metadata.uid`, else `<namespace>.<name>`.
    pub uid: String,
    /// `spec.nodeName`.
    pub node: String,
    /// `status.podIPs`, else `status.podIP`.
    pub addresses: Vec<IpAddr>,
    /// Service account, `default` when none is named.
    pub account: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it shares its node's network.
    pub host_network: bool,
    /// Whether it is annotated as serving HBONE itself.
    pub native: bool,
    /// Whether Services send traffic to it: unless `status.conditions` says it is not Ready.
    pub ready: bool,
    /// What runs in it.
    pub spec: PodSpec,
}

/// A Service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Service {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Cluster addresses; empty when headless.
    pub addresses: Vec<IpAddr>,
    /// Which pods stand behind it; empty: none that we look for.
    pub selector: BTreeMap<String, String>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// One TCP port of a Service.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// What clients dial.
    pub port: u16,
    /// The pod's port: a number or the name of a container port; the Service's own when absent.
    pub target_port: Option<TargetPort>,
    /// Only TCP is served.
    pub protocol: Option<String>,
}

/// A port of a pod, by number or by name.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By name.
    Name(String),
}

/// What runs in a pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are those of the Kubernetes API")]
pub struct PodSpec {
    pub node_name: String,
    pub service_account_name: String,
    pub host_network: bool,
    pub containers: Vec<Container>,
    pub volumes: Vec<Volume>,
}

/// One program in a pod.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are those of the Kubernetes API")]
pub struct Container {
    pub name: String,
    pub command: Vec<String>,
    pub args: Vec<String>,
    pub working_dir: Option<String>,
    pub ports: Vec<ContainerPort>,
    pub volume_mounts: Vec<VolumeMount>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are those of the Kubernetes API")]
pub struct ContainerPort {
    pub name: String,
    pub container_port: u16,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are those of the Kubernetes API")]
pub struct VolumeMount {
    pub name: String,
    pub mount_path: PathBuf,
}

/// A volume: a ConfigMap's files, or an empty directory.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are those of the Kubernetes API")]
pub struct Volume {
    pub name: String,
    pub config_map: Option<NamedObject>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields are those of the Kubernetes API")]
pub struct NamedObject {
    pub name: String,
}

impl Objects {
    /// Reads every `*.yaml` of a directory, in order of name.
    ///
    /// # Errors
    /// Which file cannot be read or understood.
    pub fn read(directory: &Path) -> Result<Self, Failure> {
        let mut objects = Self::default();
        for file in yaml_files(directory)? {
            let name = file.display();
            let text = fs::read_to_string(&file).map_err(|error| Failure(format!("{name} cannot be read: {error}")))?;
            for document in serde_yaml::Deserializer::from_str(&text) {
                let object = Value::deserialize(document)
                    .map_err(|error| Failure(format!("{name} cannot be understood: {error}")))?;
                objects
                    .add(object)
                    .map_err(|error| Failure(format!("{name} cannot be understood: {error}")))?;
            }
        }
        Ok(objects)
    }

    /// Whether a pod is in the mesh by its own label or its namespace's.
    pub fn enrolled(&self, pod: &Pod) -> bool {
        const LABEL: &str = "weft.dev/dataplane-mode";
        let of_namespace = self.namespaces.get(&pod.namespace).and_then(|labels| labels.get(LABEL));
        let mode = pod.labels.get(LABEL).or(of_namespace);
        !pod.host_network && mode.is_some_and(|mode| mode == "ambient") && !pod.serves_hbone()
    }

    fn add(&mut self, value: Value) -> Result<(), serde_yaml::Error> {
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or("").to_owned();
        match &*kind {
            "Pod" => {
                let pod = Pod::from(serde_yaml::from_value::<PodObject>(value)?);
                if !pod.node.starts_with(ELSEWHERE) {
                    self.pods.insert(pod.key(), pod);
                }
            }
            "Service" => self
                .services
                .push(serde_yaml::from_value::<ServiceObject>(value)?.into()),
            "ConfigMap" => {
                let map: ConfigMapObject = serde_yaml::from_value(value)?;
                self.config_maps.insert(map.metadata.key(), map.data);
            }
            "Namespace" => {
                let namespace: NamespaceObject = serde_yaml::from_value(value)?;
                self.namespaces
                    .insert(namespace.metadata.name, namespace.metadata.labels);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Pod {
    /// `namespace/name`.
    pub fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The name of what belongs to it in the run directory: `namespace.name`, in the mesh's own namespace the
    /// name alone.
    pub fn short_name(&self) -> String {
        match &*self.namespace {
            "weft-system" => self.name.clone(),
            namespace => format!("{namespace}.{}", self.name),
        }
    }

    /// The waypoint's Gateway it serves, if it is a waypoint's pod.
    pub fn gateway(&self) -> Option<&str> {
        self.labels
            .get("gateway.networking.k8s.io/gateway-name")
            .map(String::as_str)
    }

    /// The number of one of its ports.
    pub fn port(&self, port: &ServicePort) -> Option<u16> {
        match &port.target_port {
            None => Some(port.port),
            Some(TargetPort::Number(number)) => Some(*number),
            Some(TargetPort::Name(name)) => {
                let mut ports = self.spec.containers.iter().flat_map(|it| &it.ports);
                ports.find(|it| it.name == *name).map(|it| it.container_port)
            }
        }
    }

    fn serves_hbone(&self) -> bool {
        self.gateway().is_some() || self.native
    }
}

/// The YAML files of a directory, in order of name.
///
/// # Errors
/// When it cannot be listed.
pub fn yaml_files(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let list = || -> std::io::Result<Vec<PathBuf>> {
        let entries: Result<Vec<_>, _> = fs::read_dir(directory)?.collect();
        let paths = entries?.into_iter().map(|entry| entry.path());
        Ok(paths
            .filter(|path| path.extension().is_some_and(|it| it == "yaml" || it == "yml"))
            .collect())
    };
    let mut files = list().map_err(|error| Failure(format!("{} cannot be listed: {error}", directory.display())))?;
    files.sort();
    Ok(files)
}

use serde_yaml::Value;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Metadata {
    name: String,
    namespace: String,
    uid: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct PodObject {
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    #[serde(rename = "podIP")]
    pod_ip: Option<IpAddr>,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Vec<PodCondition>,
}

#[derive(Deserialize)]
struct PodIp {
    ip: IpAddr,
}

#[derive(Deserialize)]
struct PodCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Deserialize)]
struct ServiceObject {
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Vec<String>,
    selector: BTreeMap<String, String>,
    ports: Vec<ServicePort>,
}

#[derive(Deserialize)]
struct ConfigMapObject {
    metadata: Metadata,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct NamespaceObject {
    metadata: Metadata,
}

impl Metadata {
    fn key(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

impl From<PodObject> for Pod {
    fn from(object: PodObject) -> Self {
        let PodObject { metadata, spec, status } = object;
        let mut addresses: Vec<_> = status.pod_ips.iter().map(|it| it.ip).collect();
        if addresses.is_empty() {
            addresses.extend(status.pod_ip);
        }
        Self {
            uid: metadata
                .uid
                .unwrap_or_else(|| format!("{}.{}", metadata.namespace, metadata.name)),
            namespace: metadata.namespace,
            name: metadata.name,
            node: spec.node_name.clone(),
            addresses,
            account: match &*spec.service_account_name {
                "" => "default".into(),
                name => name.into(),
            },
            labels: metadata.labels,
            native: metadata
                .annotations
                .get("weft.dev/tunnel")
                .is_some_and(|it| it == "hbone"),
            host_network: spec.host_network,
            ready: !status
                .conditions
                .iter()
                .any(|it| it.kind == "Ready" && it.status != "True"),
            spec,
        }
    }
}

impl From<ServiceObject> for Service {
    fn from(object: ServiceObject) -> Self {
        let spec = object.spec;
        let mut addresses = spec.cluster_ips;
        if addresses.is_empty() {
            addresses.extend(spec.cluster_ip);
        }
        Self {
            namespace: object.metadata.namespace,
            name: object.metadata.name,
            addresses: addresses.iter().filter_map(|it| it.parse().ok()).collect(),
            selector: spec.selector,
            ports: spec.ports,
        }
    }
}
