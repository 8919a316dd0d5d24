//! `v1` Pod.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    Metadata,
    probe::{Handler, Lifecycle},
    read::{FieldError, or_default, section},
    word::read_word,
};

/// `v1` Pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its metadata.
    pub metadata: Metadata,
    /// What should run.
    pub spec: PodSpec,
    /// What does.
    pub status: PodStatus,
}

/// What should run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Node it was scheduled to; empty before.
    #[serde(default, deserialize_with = "read_word")]
    pub node_name: Arc<str>,
    /// Service account; empty means `default`.
    #[serde(default, deserialize_with = "read_word")]
    pub service_account_name: Arc<str>,
    /// Whether it shares its node's network.
    #[serde(default, deserialize_with = "or_default")]
    pub host_network: bool,
    /// Its containers.
    #[serde(default, deserialize_with = "or_default")]
    pub containers: Box<[Container]>,
    /// What runs before them, or beside them (sidecars).
    #[serde(default, deserialize_with = "or_default")]
    pub init_containers: Box<[Container]>,
    /// Whether its containers are started again.
    #[serde(default, deserialize_with = "or_default")]
    pub restart_policy: RestartPolicy,
}

/// One container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    /// Ports it names.
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Box<[ContainerPort]>,
    /// Whether it lives.
    #[serde(default)]
    pub liveness_probe: Option<Box<Handler>>,
    /// Whether it is ready.
    #[serde(default)]
    pub readiness_probe: Option<Box<Handler>>,
    /// Whether it has started.
    #[serde(default)]
    pub startup_probe: Option<Box<Handler>>,
    /// What the kubelet calls around its life.
    #[serde(default, deserialize_with = "or_default")]
    pub lifecycle: Lifecycle,
}

/// One port of a container.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPort {
    /// Name; empty when unnamed.
    #[serde(default, deserialize_with = "read_word")]
    pub name: Arc<str>,
    /// Number.
    pub container_port: u16,
    /// Protocol.
    #[serde(default, deserialize_with = "or_default")]
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Protocol {
    /// TCP.
    #[default]
    #[serde(rename = "TCP")]
    Tcp,
    /// UDP.
    #[serde(rename = "UDP")]
    Udp,
    /// SCTP.
    #[serde(rename = "SCTP")]
    Sctp,
}

/// Whether containers are started again once they end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[allow(missing_docs, reason = "the values are the Kubernetes API's")]
pub enum RestartPolicy {
    #[default]
    Always,
    OnFailure,
    Never,
}

/// What runs.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Phase; `None` if the source does not tell.
    #[serde(default)]
    pub phase: Option<PodPhase>,
    /// First address.
    #[serde(default, rename = "podIP")]
    pub pod_ip: Option<IpAddr>,
    /// All addresses, the first one included.
    #[serde(default, rename = "podIPs", deserialize_with = "or_default")]
    pub pod_ips: Box<[PodIp]>,
    /// Whether its condition `Ready` is `True`, if it has that condition; the others decide nothing here.
    #[serde(default, rename = "conditions", deserialize_with = "condition_ready")]
    pub ready: Option<bool>,
}

/// `status.phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "the values are the Kubernetes API's")]
pub enum PodPhase {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// One address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct PodIp {
    /// The address.
    pub ip: IpAddr,
}

/// One condition.
#[derive(Deserialize)]
struct Condition {
    /// Which, such as `Ready`.
    #[serde(rename = "type")]
    kind: String,
    /// `True`, `False` or `Unknown`.
    #[serde(default, deserialize_with = "or_default")]
    status: String,
}

/// Written by the kubelet on the object that shows a static pod (mirror pod): the hash by which it runs.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// Whether this is what a static pod runs by: the hash of a manifest, 32 hexadecimal digits. No object's own UID looks
/// so: whatever an annotation says, it names no pod but a static one.
pub fn is_static_uid(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Pod {
    pub(super) fn read(metadata: Metadata, object: &Value) -> Result<Self, FieldError> {
        Ok(Self {
            metadata,
            spec: section(object, "spec")?,
            status: section(object, "status")?,
        })
    }

    /// Its UID as its node knows it, or `<namespace>.<name>` where the source has none. A static pod's object in the API
    /// has a UID that its node has never heard of: what runs there is known by the hash of its manifest.
    pub fn uid(&self) -> Arc<str> {
        if let Some(hash) = self.metadata.annotations.get(MIRROR).filter(|hash| is_static_uid(hash)) {
            return hash.clone();
        }
        match &self.metadata.uid {
            Some(uid) if !uid.is_empty() => uid.clone(),
            _ => format!("{}.{}", self.metadata.namespace, self.metadata.name).into(),
        }
    }

    /// The service account it runs as.
    pub fn service_account(&self) -> &str {
        match &*self.spec.service_account_name {
            "" => "default",
            name => name,
        }
    }

    /// Its addresses, first one first, each once.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        let listed = self.status.pod_ips.iter().map(|it| it.ip);
        for address in self.status.pod_ip.into_iter().chain(listed) {
            let address = address.to_canonical();
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// Whether it ended, for good.
    pub fn is_finished(&self) -> bool {
        matches!(self.status.phase, Some(PodPhase::Succeeded | PodPhase::Failed))
    }

    /// Whether it was asked to stop.
    pub fn is_terminating(&self) -> bool {
        self.metadata.deleted.is_some()
    }

    /// Whether it is ready: its condition `Ready`; where nobody writes conditions, whether it runs; where
    /// nobody writes the phase either, whether it has an address.
    pub fn is_ready(&self) -> bool {
        match (self.status.ready, self.status.phase) {
            (Some(ready), _) => ready,
            (None, Some(phase)) => phase == PodPhase::Running,
            (None, None) => self.status.pod_ip.is_some() || !self.status.pod_ips.is_empty(),
        }
    }

    /// The TCP port a container gives this name.
    pub fn named_port(&self, name: &str) -> Option<u16> {
        self.spec
            .containers
            .iter()
            .flat_map(|container| &container.ports)
            .find(|port| *port.name == *name && port.protocol == Protocol::Tcp)
            .map(|port| port.container_port)
    }
}

fn condition_ready<'de, D: Deserializer<'de>>(input: D) -> Result<Option<bool>, D::Error> {
    let conditions: Vec<Condition> = or_default(input)?;
    let ready = conditions.iter().find(|it| it.kind == "Ready");
    Ok(ready.map(|it| it.status == "True"))
}
