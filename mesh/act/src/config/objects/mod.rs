//! The Kubernetes objects we read, with only the fields we use.
//!
//! In: a JSON value that admission let pass. Out: an [`Object`], or the field that could not be read. Never:
//! references between objects, or what they amount to (that is the translation's). The `spec` of our own kinds
//! and of HTTPRoute is kept as written, so that what nobody knows becomes a broken part and not a parse error.

mod endpoint_slice;
mod gateway;
mod lines;
mod metadata;
mod network_policy;
mod pod;
mod probe;
mod read;
mod service;
mod word;

use std::sync::Arc;

use decide::model::{ObjectRef, Place, Problem};
use serde_json::Value;

pub use endpoint_slice::{
    AddressType, EndpointSlice, SliceConditions, SliceEndpoint, SliceHint, SliceHints, SlicePort, SliceTarget,
};
pub use gateway::{
    AllowedRoutes, FromNamespaces, Gateway, GatewaySpec, GrantFrom, GrantSpec, GrantTo, LabelSelector, Listener,
    ReferenceGrant, Requirement, RouteNamespaces,
};
pub use lines::FieldLines;
pub use metadata::{Metadata, OwnerReference};
pub use network_policy::NetworkPolicy;
pub use pod::{
    Container, ContainerPort, MIRROR, Pod, PodIp, PodPhase, PodSpec, PodStatus, Protocol, RestartPolicy, is_static_uid,
};
pub use probe::{GrpcTarget, Handler, Lifecycle, Target};
pub use read::FieldError;
pub use service::{Service, ServicePort, ServiceSpec, ServiceType, TargetPort};
pub(super) use word::word;

/// An object of a kind we read.
#[derive(Debug, Clone, PartialEq)]
pub enum Object {
    /// `v1` Namespace.
    Namespace(Arc<Named>),
    /// `v1` ServiceAccount.
    ServiceAccount(Arc<Named>),
    /// `v1` Pod.
    Pod(Arc<Pod>),
    /// `v1` Service.
    Service(Arc<Service>),
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice(Arc<EndpointSlice>),
    /// `v1` Node.
    Node(Arc<Named>),
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy(Arc<NetworkPolicy>),
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway(Arc<Gateway>),
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute(Arc<Written>),
    /// `gateway.networking.k8s.io/v1` ReferenceGrant.
    ReferenceGrant(Arc<ReferenceGrant>),
    /// `weft.dev/v1alpha1` AuthorizationPolicy.
    AuthorizationPolicy(Arc<Written>),
    /// `weft.dev/v1alpha1` PeerAuthentication.
    PeerAuthentication(Arc<Written>),
    /// `weft.dev/v1alpha1` TrafficPolicy.
    TrafficPolicy(Arc<Written>),
    /// `weft.dev/v1alpha1` ExternalService.
    ExternalService(Arc<Written>),
    /// `weft.dev/v1alpha1` MeshConfig (cluster-scoped, only `default` counts).
    MeshConfig(Arc<Written>),
}

/// An object of which we use the metadata alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its metadata.
    pub metadata: Metadata,
}

/// An object whose `spec` is kept as written.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Its metadata.
    pub metadata: Metadata,
    /// Its `spec`; an empty object when there is none.
    pub spec: Value,
}

/// Where an object came from, and what its admission found.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Origin {
    /// File and line, from the directory source.
    pub place: Option<Place>,
    /// Lines of fields by path (`spec.rules[0]`), from the directory source, for problems found later.
    pub lines: FieldLines,
    /// What admission found wrong without refusing the object (fields we do not know).
    pub problems: Vec<Problem>,
}

/// What we know of a kind: `(kind, group, versions, cluster-scoped)`.
struct Known(&'static str, &'static str, &'static [&'static str], bool);

const GATEWAY_API: &str = "gateway.networking.k8s.io";
const OURS: &str = "weft.dev";

const KINDS: &[Known] = &[
    Known("Namespace", "", &["v1"], true),
    Known("ServiceAccount", "", &["v1"], false),
    Known("Pod", "", &["v1"], false),
    Known("Service", "", &["v1"], false),
    Known("EndpointSlice", "discovery.k8s.io", &["v1"], false),
    Known("Node", "", &["v1"], true),
    Known("NetworkPolicy", "networking.k8s.io", &["v1"], false),
    Known("Gateway", GATEWAY_API, &["v1", "v1beta1"], false),
    Known("HTTPRoute", GATEWAY_API, &["v1", "v1beta1"], false),
    Known("ReferenceGrant", GATEWAY_API, &["v1", "v1beta1"], false),
    Known("AuthorizationPolicy", OURS, &["v1alpha1"], false),
    Known("PeerAuthentication", OURS, &["v1alpha1"], false),
    Known("TrafficPolicy", OURS, &["v1alpha1"], false),
    Known("ExternalService", OURS, &["v1alpha1"], false),
    Known("MeshConfig", OURS, &["v1alpha1"], true),
];

impl Object {
    /// Reads an object as admission let it pass. `None`: of a kind we do not read.
    ///
    /// # Errors
    /// The first field that could not be read, or an `apiVersion` of a kind we know that we do not.
    pub fn parse(value: &Value) -> Result<Option<Self>, FieldError> {
        let text = |field: &str| value.get(field).and_then(Value::as_str);
        let kind = text("kind").ok_or_else(|| FieldError::new("kind", "is missing", "Name the object's kind."))?;
        let Some(known) = KINDS.iter().find(|known| known.0 == kind) else {
            return Ok(None);
        };
        known.check_version(text("apiVersion"))?;
        let metadata = Metadata::read(value, known.3)?;
        let named = |metadata| Arc::new(Named { metadata });
        let written = |metadata| -> Result<Arc<Written>, FieldError> {
            let spec = read::spec_as_written(value)?;
            Ok(Arc::new(Written { metadata, spec }))
        };
        Ok(Some(match kind {
            "Namespace" => Self::Namespace(named(metadata)),
            "ServiceAccount" => Self::ServiceAccount(named(metadata)),
            "Pod" => Self::Pod(Arc::new(Pod::read(metadata, value)?)),
            "Service" => Self::Service(Arc::new(Service::read(metadata, value)?)),
            "EndpointSlice" => Self::EndpointSlice(Arc::new(EndpointSlice::read(metadata, value)?)),
            "Node" => Self::Node(named(metadata)),
            "NetworkPolicy" => Self::NetworkPolicy(Arc::new(NetworkPolicy::read(metadata, value))),
            "Gateway" => Self::Gateway(Arc::new(Gateway::read(metadata, value)?)),
            "HTTPRoute" => Self::HttpRoute(written(metadata)?),
            "ReferenceGrant" => Self::ReferenceGrant(Arc::new(ReferenceGrant::read(metadata, value)?)),
            "AuthorizationPolicy" => Self::AuthorizationPolicy(written(metadata)?),
            "PeerAuthentication" => Self::PeerAuthentication(written(metadata)?),
            "TrafficPolicy" => Self::TrafficPolicy(written(metadata)?),
            "ExternalService" => Self::ExternalService(written(metadata)?),
            "MeshConfig" => Self::MeshConfig(written(metadata)?),
            _ => return Ok(None),
        }))
    }

    /// Whether objects of this kind stand outside every namespace; `None`: not a kind we read.
    pub fn is_cluster_scoped(kind: &str) -> Option<bool> {
        KINDS.iter().find(|known| known.0 == kind).map(|known| known.3)
    }

    /// Which object.
    pub fn key(&self) -> ObjectRef {
        let metadata = self.metadata();
        ObjectRef {
            kind: word(self.kind()),
            namespace: metadata.namespace.clone(),
            name: metadata.name.clone(),
        }
    }

    /// Its Kubernetes kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Namespace(_) => "Namespace",
            Self::ServiceAccount(_) => "ServiceAccount",
            Self::Pod(_) => "Pod",
            Self::Service(_) => "Service",
            Self::EndpointSlice(_) => "EndpointSlice",
            Self::Node(_) => "Node",
            Self::NetworkPolicy(_) => "NetworkPolicy",
            Self::Gateway(_) => "Gateway",
            Self::HttpRoute(_) => "HTTPRoute",
            Self::ReferenceGrant(_) => "ReferenceGrant",
            Self::AuthorizationPolicy(_) => "AuthorizationPolicy",
            Self::PeerAuthentication(_) => "PeerAuthentication",
            Self::TrafficPolicy(_) => "TrafficPolicy",
            Self::ExternalService(_) => "ExternalService",
            Self::MeshConfig(_) => "MeshConfig",
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &Metadata {
        match self {
            Self::Namespace(it) | Self::ServiceAccount(it) | Self::Node(it) => &it.metadata,
            Self::Pod(it) => &it.metadata,
            Self::NetworkPolicy(it) => &it.metadata,
            Self::Service(it) => &it.metadata,
            Self::EndpointSlice(it) => &it.metadata,
            Self::Gateway(it) => &it.metadata,
            Self::ReferenceGrant(it) => &it.metadata,
            Self::HttpRoute(it)
            | Self::AuthorizationPolicy(it)
            | Self::PeerAuthentication(it)
            | Self::TrafficPolicy(it)
            | Self::ExternalService(it)
            | Self::MeshConfig(it) => &it.metadata,
        }
    }
}

impl Origin {
    /// Where a field stands: its own line, else that of the nearest field around it, else the object's.
    pub fn place_of(&self, field: &str) -> Option<Place> {
        let place = self.place.as_ref()?;
        Some(Place {
            file: place.file.clone(),
            line: self.lines.around(field).unwrap_or(place.line),
        })
    }
}

impl Known {
    fn check_version(&self, written: Option<&str>) -> Result<(), FieldError> {
        let Self(kind, group, versions, _) = self;
        let written = written.unwrap_or_default();
        let (found_group, found_version) = written.rsplit_once('/').unwrap_or(("", written));
        if found_group == *group && versions.contains(&found_version) {
            return Ok(());
        }
        let newest = versions.first().copied().unwrap_or_default();
        let expected = match *group {
            "" => newest.to_owned(),
            group => format!("{group}/{newest}"),
        };
        Err(FieldError::new(
            "apiVersion",
            format!("{written:?} is no version of {kind} that the mesh reads, so the object has no effect."),
            format!("Write apiVersion {expected}."),
        ))
    }
}

#[cfg(test)]
mod tests;
