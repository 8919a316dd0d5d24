//! Gateway and ReferenceGrant of Gateway API.

use std::sync::Arc;

use decide::model::Labels;
use serde::Deserialize;
use serde_json::Value;

use super::{
    Metadata,
    read::{FieldError, or_default, section},
    word::read_labels,
};

/// `gateway.networking.k8s.io/v1` Gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its metadata.
    pub metadata: Metadata,
    /// What it should be.
    pub spec: GatewaySpec,
}

/// What a Gateway should be.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Its class; ours is `weft-waypoint`.
    #[serde(default, deserialize_with = "or_default")]
    pub gateway_class_name: Arc<str>,
    /// Its listeners.
    #[serde(default, deserialize_with = "or_default")]
    pub listeners: Vec<Listener>,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Port.
    #[serde(default, deserialize_with = "or_default")]
    pub port: u16,
    /// Protocol; `HBONE` for a waypoint.
    #[serde(default, deserialize_with = "or_default")]
    pub protocol: Arc<str>,
    /// Which namespaces may use it.
    #[serde(default, deserialize_with = "or_default")]
    pub allowed_routes: AllowedRoutes,
}

/// Which routes, and for a waypoint which Services and workloads, may use a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct AllowedRoutes {
    /// By their namespaces.
    #[serde(default, deserialize_with = "or_default")]
    pub namespaces: RouteNamespaces,
}

/// Namespaces that may use a listener.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct RouteNamespaces {
    /// Which.
    #[serde(default, deserialize_with = "or_default")]
    pub from: FromNamespaces,
    /// Their labels, for [`FromNamespaces::Selector`].
    #[serde(default)]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum FromNamespaces {
    /// The Gateway's own.
    #[default]
    Same,
    /// Every one.
    All,
    /// By their labels.
    Selector,
    /// None, not even the Gateway's own.
    None,
}

/// `metav1.LabelSelector`: all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels with these values.
    #[serde(default, deserialize_with = "read_labels")]
    pub match_labels: Labels,
    /// Further requirements.
    #[serde(default, deserialize_with = "or_default")]
    pub match_expressions: Vec<Requirement>,
}

/// One requirement of a [`LabelSelector`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Requirement {
    /// Label.
    pub key: Arc<str>,
    /// `In`, `NotIn`, `Exists`, `DoesNotExist`; anything else matches nothing.
    pub operator: Arc<str>,
    /// Values, for the first two.
    #[serde(default, deserialize_with = "or_default")]
    pub values: Vec<Arc<str>>,
}

/// `gateway.networking.k8s.io/v1` ReferenceGrant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceGrant {
    /// Its metadata; it grants into its own namespace.
    pub metadata: Metadata,
    /// Who may refer to what.
    pub spec: GrantSpec,
}

/// Who may refer to what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
pub struct GrantSpec {
    /// Any of these.
    #[serde(default, deserialize_with = "or_default")]
    pub from: Vec<GrantFrom>,
    /// May refer to any of these.
    #[serde(default, deserialize_with = "or_default")]
    pub to: Vec<GrantTo>,
}

/// Objects that may refer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GrantFrom {
    /// API group.
    #[serde(default, deserialize_with = "or_default")]
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Namespace.
    pub namespace: Arc<str>,
}

/// Objects that may be referred to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct GrantTo {
    /// API group; empty for the core group.
    #[serde(default, deserialize_with = "or_default")]
    pub group: Arc<str>,
    /// Kind.
    pub kind: Arc<str>,
    /// Name; `None`: every one.
    #[serde(default)]
    pub name: Option<Arc<str>>,
}

impl Gateway {
    pub(super) fn read(metadata: Metadata, object: &Value) -> Result<Self, FieldError> {
        Ok(Self {
            metadata,
            spec: section(object, "spec")?,
        })
    }
}

impl ReferenceGrant {
    pub(super) fn read(metadata: Metadata, object: &Value) -> Result<Self, FieldError> {
        Ok(Self {
            metadata,
            spec: section(object, "spec")?,
        })
    }
}

impl LabelSelector {
    /// Whether labels satisfy all of it.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.match_labels.is_subset_of(labels) && self.match_expressions.iter().all(|it| it.matches(labels))
    }
}

impl Requirement {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match &*self.operator {
            "In" => listed,
            "NotIn" => !listed,
            "Exists" => value.is_some(),
            "DoesNotExist" => value.is_none(),
            _ => false,
        }
    }
}
