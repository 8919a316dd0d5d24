//! `discovery.k8s.io/v1` EndpointSlice.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{
    Metadata, Protocol,
    read::{FieldError, or_default, section},
    word::{read_word, read_word_if_any},
};

/// `discovery.k8s.io/v1` EndpointSlice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Its metadata; the label `kubernetes.io/service-name` names its Service.
    pub metadata: Metadata,
    /// What its addresses are.
    pub address_type: AddressType,
    /// Its endpoints.
    pub endpoints: Box<[SliceEndpoint]>,
    /// Its ports, the same for each endpoint.
    pub ports: Box<[SlicePort]>,
}

/// What the addresses of a slice are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    #[default]
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// Names, which nobody routes to.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceEndpoint {
    /// The first of its addresses, which counts (the others mean the same endpoint), if it is one.
    #[serde(default, rename = "addresses", deserialize_with = "first_address")]
    address: Option<IpAddr>,
    /// Its state.
    #[serde(default, deserialize_with = "or_default")]
    pub conditions: SliceConditions,
    /// The object behind it.
    #[serde(default)]
    pub target_ref: Option<SliceTarget>,
    /// Its node.
    #[serde(default, deserialize_with = "read_word_if_any")]
    pub node_name: Option<Arc<str>>,
    /// Its zone.
    #[serde(default, deserialize_with = "read_word_if_any")]
    pub zone: Option<Arc<str>>,
    /// Whose connections it is meant for.
    #[serde(default)]
    pub hints: Option<Box<SliceHints>>,
}

/// State of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct SliceConditions {
    /// Ready for new connections; not told means ready.
    #[serde(default)]
    pub ready: Option<bool>,
    /// Serves, whether it terminates or not; not told means as ready.
    #[serde(default)]
    pub serving: Option<bool>,
    /// On its way out; not told means not.
    #[serde(default)]
    pub terminating: Option<bool>,
}

/// Whose connections an endpoint is meant for, as the cluster's own controller wants it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SliceHints {
    /// Zones.
    #[serde(default, deserialize_with = "or_default")]
    pub for_zones: Vec<SliceHint>,
    /// Nodes.
    #[serde(default, deserialize_with = "or_default")]
    pub for_nodes: Vec<SliceHint>,
}

/// A zone or node by name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SliceHint {
    /// Its name.
    #[serde(default, deserialize_with = "read_word")]
    pub name: Arc<str>,
}

/// The object behind an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SliceTarget {
    /// Its kind.
    #[serde(default, deserialize_with = "read_word")]
    pub kind: Arc<str>,
    /// Its namespace; empty: the slice's own.
    #[serde(default, deserialize_with = "read_word")]
    pub namespace: Arc<str>,
    /// Its name.
    #[serde(default, deserialize_with = "read_word")]
    pub name: Arc<str>,
}

/// One port of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SlicePort {
    /// Name of the Service's port; empty when unnamed.
    #[serde(default, deserialize_with = "read_word")]
    pub name: Arc<str>,
    /// Number; `None`: every port, which nobody can address by a Service.
    #[serde(default)]
    pub port: Option<u16>,
    /// Transport protocol.
    #[serde(default, deserialize_with = "or_default")]
    pub protocol: Protocol,
}

/// The fields of an EndpointSlice stand at the top level.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    #[serde(default, deserialize_with = "or_default")]
    address_type: AddressType,
    #[serde(default, deserialize_with = "or_default")]
    endpoints: Box<[SliceEndpoint]>,
    #[serde(default, deserialize_with = "or_default")]
    ports: Box<[SlicePort]>,
}

impl EndpointSlice {
    pub(super) fn read(metadata: Metadata, object: &Value) -> Result<Self, FieldError> {
        let body: Body = section(&serde_json::json!({ "it": object }), "it").map_err(|error| FieldError {
            field: error.field.trim_start_matches("it.").to_owned(),
            ..error
        })?;
        let slice = Self {
            metadata,
            address_type: body.address_type,
            endpoints: body.endpoints,
            ports: body.ports,
        };
        slice.check_addresses()?;
        Ok(slice)
    }

    /// The Service whose endpoints these are, if any.
    pub fn service(&self) -> Option<&Arc<str>> {
        self.metadata.label("kubernetes.io/service-name")
    }

    /// Addresses of endpoints that do not say which pod they are.
    pub fn addresses_of_nobody(&self) -> impl Iterator<Item = IpAddr> {
        self.endpoints
            .iter()
            .filter(|endpoint| endpoint.pod().is_none())
            .filter_map(SliceEndpoint::address)
    }

    /// Nodes and their zones, as far as endpoints tell both; perhaps more than once.
    pub fn zones(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        let told = self
            .endpoints
            .iter()
            .filter_map(|endpoint| endpoint.node_name.as_ref().zip(endpoint.zone.as_ref()));
        told.filter(|(node, zone)| !node.is_empty() && !zone.is_empty())
    }

    fn check_addresses(&self) -> Result<(), FieldError> {
        let unreadable = |endpoint: &SliceEndpoint| endpoint.address().is_none();
        match self.endpoints.iter().position(unreadable) {
            Some(index) if self.address_type != AddressType::Fqdn => Err(FieldError::new(
                format!("endpoints[{index}].addresses[0]"),
                "is no IP address.",
                "Write the endpoint's address.",
            )),
            _ => Ok(()),
        }
    }
}

impl SliceEndpoint {
    /// Its address.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Whether it terminates and still serves.
    pub fn is_leaving(&self) -> bool {
        let SliceConditions {
            ready,
            serving,
            terminating,
        } = self.conditions;
        terminating == Some(true) && serving.or(ready) == Some(true)
    }

    /// The pod it says it is.
    pub fn pod(&self) -> Option<&SliceTarget> {
        self.target_ref
            .as_ref()
            .filter(|target| &*target.kind == "Pod" && !target.name.is_empty())
    }
}

fn first_address<'de, D: Deserializer<'de>>(input: D) -> Result<Option<IpAddr>, D::Error> {
    let addresses: Vec<String> = or_default(input)?;
    let first = addresses.first().and_then(|first| first.parse::<IpAddr>().ok());
    Ok(first.map(|address| address.to_canonical()))
}
