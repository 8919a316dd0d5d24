//! `v1` Service.

use std::{net::IpAddr, sync::Arc};

use decide::model::Labels;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Metadata, Protocol,
    read::{FieldError, or_default, section},
    word::{read_labels, read_word, read_word_if_any},
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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServiceSpec {
    /// Its cluster IPs, first one first, each once; none when headless.
    cluster_ips: Box<[IpAddr]>,
    /// Ports.
    pub ports: Box<[ServicePort]>,
    /// Labels of the pods behind it; empty: none, its EndpointSlices come from elsewhere.
    pub selector: Labels,
    /// Type.
    pub kind: ServiceType,
    /// Whether endpoints that are not ready get traffic.
    pub publish_not_ready_addresses: bool,
    /// `PreferClose`, `PreferSameZone` or `PreferSameNode`; empty, or one we do not know: no preference.
    pub traffic_distribution: Arc<str>,
    /// `Local`: only endpoints of the client's own node; else every one.
    pub internal_traffic_policy: Arc<str>,
    /// Whether endpoints of IPv4 and of IPv6 belong to it, where somebody tells.
    families: Option<(bool, bool)>,
}

/// `spec` as it is written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    /// First cluster IP; `None` as text for a headless one.
    #[serde(default, rename = "clusterIP", deserialize_with = "or_default")]
    cluster_ip: String,
    /// All cluster IPs.
    #[serde(default, rename = "clusterIPs", deserialize_with = "or_default")]
    cluster_ips: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Box<[ServicePort]>,
    #[serde(default, deserialize_with = "read_labels")]
    selector: Labels,
    #[serde(default, rename = "type", deserialize_with = "or_default")]
    kind: ServiceType,
    #[serde(default, deserialize_with = "or_default")]
    publish_not_ready_addresses: bool,
    #[serde(default, deserialize_with = "read_word")]
    traffic_distribution: Arc<str>,
    #[serde(default, deserialize_with = "read_word")]
    internal_traffic_policy: Arc<str>,
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
    #[serde(default, deserialize_with = "read_word")]
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
    #[serde(default, deserialize_with = "read_word_if_any")]
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
        let written: Written = section(object, "spec")?;
        let spec = ServiceSpec {
            cluster_ips: written.addresses()?.into(),
            families: written.families(),
            ports: written.ports,
            selector: written.selector,
            kind: written.kind,
            publish_not_ready_addresses: written.publish_not_ready_addresses,
            traffic_distribution: written.traffic_distribution,
            internal_traffic_policy: written.internal_traffic_policy,
        };
        Ok(Self { metadata, spec })
    }

    /// Its cluster IPs, first one first, each once; none when headless or external.
    pub fn addresses(&self) -> &[IpAddr] {
        match self.spec.kind {
            ServiceType::ExternalName => &[],
            _ => &self.spec.cluster_ips,
        }
    }

    /// Whether endpoints of this address' family belong to it: as `ipFamilies` says, else as its cluster IPs
    /// are, else every one.
    pub fn takes_family_of(&self, address: IpAddr) -> bool {
        if let Some((v4, v6)) = self.spec.families {
            return if address.is_ipv4() { v4 } else { v6 };
        }
        let own = self.addresses();
        own.is_empty() || own.iter().any(|it| it.is_ipv4() == address.is_ipv4())
    }
}

impl Written {
    fn addresses(&self) -> Result<Vec<IpAddr>, FieldError> {
        let first = (String::from("spec.clusterIP"), &self.cluster_ip);
        let all = self.cluster_ips.iter().enumerate();
        let all = all.map(|(index, it)| (format!("spec.clusterIPs[{index}]"), it));
        let mut addresses = Vec::new();
        for (field, written) in std::iter::once(first).chain(all) {
            if matches!(written.as_str(), "" | "None") {
                continue;
            }
            let address: IpAddr = written.parse().map_err(|_| {
                FieldError::new(
                    field,
                    format!("{written:?} is no IP address."),
                    "Write an address, or None for a headless Service.",
                )
            })?;
            let address = address.to_canonical();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        Ok(addresses)
    }

    fn families(&self) -> Option<(bool, bool)> {
        let told = |family| self.ip_families.iter().any(|it| it == family);
        (!self.ip_families.is_empty()).then(|| (told("IPv4"), told("IPv6")))
    }
}
