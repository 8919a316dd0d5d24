//! `v1` Service.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use serde::Deserialize;
use serde_json::Value;

use super::{
    Metadata, Protocol,
    read::{FieldError, or_default, section},
};

/// `v1` Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its metadata.
    pub metadata: Metadata,
    /// What it is.
    pub spec: ServiceSpec,
}

/// What a Service is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceSpec {
    /// First cluster IP; `None` as text for a headless one.
    #[serde(default, rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: String,
    /// All cluster IPs.
    #[serde(default, rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<String>,
    /// Ports.
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Vec<ServicePort>,
    /// Labels of the pods behind it; empty: none, its EndpointSlices come from elsewhere.
    #[serde(default, deserialize_with = "or_default")]
    pub selector: BTreeMap<Arc<str>, Arc<str>>,
    /// Type.
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    pub kind: ServiceType,
    /// Whether endpoints that are not ready get traffic.
    #[serde(default, deserialize_with = "or_default")]
    pub publish_not_ready_addresses: bool,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`; empty, or one we do not know: no preference.
    #[serde(default, deserialize_with = "or_default")]
    pub traffic_distribution: Arc<str>,
    /// `Local`: only endpoints of the client's own node; else every one.
    #[serde(default, deserialize_with = "or_default")]
    pub internal_traffic_policy: Arc<str>,
    /// `IPv4`, `IPv6` or both; empty where nobody tells.
    #[serde(default, deserialize_with = "or_default")]
    ip_families: Vec<String>,
}

/// `spec.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[allow(missing_docs, reason = "the values are the Kubernetes API's")]
pub enum ServiceType {
    #[default]
    #[serde(rename = "ClusterIP")]
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// Name; empty when unnamed.
    #[serde(default, deserialize_with = "or_default")]
    pub name: Arc<str>,
    /// The port clients address.
    pub port: u16,
    /// The port behind it; `None`: the same.
    #[serde(default)]
    pub target_port: Option<TargetPort>,
    /// Transport protocol.
    #[serde(default, deserialize_with = "or_default")]
    pub protocol: Protocol,
    /// What is spoken over it.
    #[serde(default)]
    pub app_protocol: Option<Arc<str>>,
}

/// A port by number, or by the name that the pod's container gives it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum TargetPort {
    /// By number.
    Number(u16),
    /// By name.
    Name(Arc<str>),
}

impl Service {
    pub(super) fn read(metadata: Metadata, object: &Value) -> Result<Self, FieldError> {
        let service = Self {
            metadata,
            spec: section(object, "spec")?,
        };
        service.check_addresses()?;
        Ok(service)
    }

    /// Its cluster IPs, first one first, each once; none when headless or external.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut all: Vec<IpAddr> = Vec::new();
        if self.spec.kind == ServiceType::ExternalName {
            return all;
        }
        for (_, written) in self.written_addresses() {
            let Ok(address) = written.parse::<IpAddr>() else {
                continue;
            };
            let address = address.to_canonical();
            if !all.contains(&address) {
                all.push(address);
            }
        }
        all
    }

    /// Whether endpoints of this address' family belong to it: as `ipFamilies` says, else as its cluster IPs
    /// are, else every one.
    pub fn takes_family_of(&self, address: IpAddr) -> bool {
        let families = &self.spec.ip_families;
        let wanted = if address.is_ipv4() { "IPv4" } else { "IPv6" };
        if !families.is_empty() {
            return families.iter().any(|family| family == wanted);
        }
        let own = self.addresses();
        own.is_empty() || own.iter().any(|it| it.is_ipv4() == address.is_ipv4())
    }

    fn check_addresses(&self) -> Result<(), FieldError> {
        match self.written_addresses().find(|(_, it)| it.parse::<IpAddr>().is_err()) {
            None => Ok(()),
            Some((field, written)) => Err(FieldError::new(
                field,
                format!("{written:?} is no IP address."),
                "Write an address, or None for a headless Service.",
            )),
        }
    }

    fn written_addresses(&self) -> impl Iterator<Item = (String, &str)> {
        let first = (String::from("spec.clusterIP"), self.spec.cluster_ip.as_str());
        let all = self.spec.cluster_ips.iter().enumerate();
        std::iter::once(first)
            .chain(all.map(|(index, it)| (format!("spec.clusterIPs[{index}]"), it.as_str())))
            .filter(|(_, it)| !matches!(*it, "" | "None"))
    }
}
