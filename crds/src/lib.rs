//! The types users write: group `weft.dev`, version `v1alpha1`.
//!
//! Each type is the schema of its CustomResourceDefinition: doc comments are what `kubectl explain` shows,
//! attributes are what an API server refuses. The YAML in `manifests/crds/` is generated from here
//! (`UPDATE=1 cargo test -p crds` rewrites it) and a test compares.
//!
//! Two habits keep a misspelling from widening a policy. The specs of the policy kinds, and every level below
//! them, keep fields they do not know (`unknown`) instead of dropping them, so that `form:` for `from:` is seen
//! and can deny. And their lists keep an empty value (`from:` with nothing behind it, which is null in YAML)
//! instead of taking it for absent.

#![allow(clippy::duplicated_attributes, reason = "printer columns may have the same type")]
#![allow(
    unreachable_pub,
    reason = "kube's derive copies each spec with its visibility into a function"
)]

mod attach;
mod authorization_policy;
mod external_service;
pub mod fields;
mod mesh_config;
mod peer_authentication;
pub mod rule;
mod traffic_policy;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

pub use attach::{Selector, TargetRef, Unknown};
pub use authorization_policy::{
    Action, AuthorizationPolicy, AuthorizationPolicySpec, Condition, From, Operation, PolicyRule, Provider, Source, To,
};
pub use external_service::{
    ExternalEndpoint, ExternalPort, ExternalProtocol, ExternalService, ExternalServiceSpec, Resolution, Visibility,
};
pub use mesh_config::{MeshConfig, MeshConfigSpec, Outbound, SameNode};
pub use peer_authentication::{Mode, Mtls, PeerAuthentication, PeerAuthenticationSpec};
pub use traffic_policy::{Timeouts, TrafficPolicy, TrafficPolicySpec};

/// The API group of everything here.
pub const GROUP: &str = "weft.dev";
/// The version of everything here.
pub const VERSION: &str = "v1alpha1";

/// Every CustomResourceDefinition, by kind.
pub fn all() -> Vec<CustomResourceDefinition> {
    vec![
        AuthorizationPolicy::crd(),
        ExternalService::crd(),
        MeshConfig::crd(),
        PeerAuthentication::crd(),
        TrafficPolicy::crd(),
    ]
}
