//! Who may do what.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Selector, TargetRef, Unknown, rule};

/// Who may do what with the pods, Services or ExternalServices it binds. Order: CUSTOM, then DENY, then ALLOW; as soon as one
/// ALLOW policy binds a pod, everything no ALLOW policy permits is denied. What can be decided from the
/// connection is decided at the pod; rules about requests need a waypoint, and without one they refuse.
#[derive(Debug, Clone, Default, PartialEq, CustomResource, KubeSchema, Serialize, Deserialize)]
#[kube(
    group = "weft.dev",
    version = "v1alpha1",
    kind = "AuthorizationPolicy",
    namespaced,
    derive = "PartialEq",
    shortname = "authz",
    category = "weft",
    doc = "Who may do what with the pods, Services or ExternalServices it binds. A policy in the mesh's root namespace without selector and targetRefs binds every namespace.",
    printcolumn(
        name = "Action",
        json_path = ".spec.action",
        type_ = "string",
        description = "What it does when a rule matches"
    ),
    printcolumn(
        name = "Dry run",
        json_path = ".spec.dryRun",
        type_ = "boolean",
        description = "Judged and reported, never enforced"
    ),
    printcolumn(name = "Age", json_path = ".metadata.creationTimestamp", type_ = "date")
)]
#[x_kube(validation = rule::ONE_ATTACHMENT.kube())]
#[serde(rename_all = "camelCase")]
pub struct AuthorizationPolicySpec {
    /// The pods of this namespace it binds, by label. Absent (and no targetRefs): every pod of the namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The Services, ExternalServices and waypoint Gateways of this namespace it binds, instead of a selector. What
    /// goes to an ExternalService is judged by its waypoint, and without one where it comes from: by the port that was
    /// addressed, rules about requests refusing.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(min = 1, max = 16))]
    #[x_kube(validation = rule::POLICY_TARGET.kube())]
    pub target_refs: Vec<TargetRef>,
    /// What it does when a rule matches: ALLOW permits, DENY refuses, CUSTOM asks the external authorizer
    /// named by `provider` (until that is built: refuses).
    #[serde(default)]
    #[schemars(extend("nullable" = true))]
    pub action: Action,
    /// The external authorizer of a CUSTOM policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Any of these. An ALLOW policy without rules permits nothing, a DENY policy without rules refuses
    /// nothing; an empty rule (`{}`) matches everything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(max = 256))]
    pub rules: Vec<PolicyRule>,
    /// Judge and report what it would have done, enforce nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
    /// Fields this version does not know: the policy then refuses everything it binds.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a policy does when one of its rules matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Action {
    /// Permit; anything no ALLOW policy permits is denied.
    #[default]
    Allow,
    /// Refuse.
    Deny,
    /// Ask an external authorizer.
    Custom,
}

/// An external authorizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Provider {
    /// Its name in the mesh configuration.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// All of: one of `from` (if given), one of `to` (if given), every one of `when`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PolicyRule {
    /// Who: any of these. Absent: anybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(min = 1, max = 128))]
    pub from: Vec<From>,
    /// What: any of these. Absent: anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(min = 1, max = 128))]
    pub to: Vec<To>,
    /// Further conditions: all of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(min = 1, max = 128))]
    pub when: Vec<Condition>,
    /// Fields this version does not know: the rule then never permits, and always refuses.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One entry of `from`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct From {
    /// A client: all of the lists given; within one list, any.
    pub source: Source,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// One entry of `to`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct To {
    /// An operation: all of the lists given; within one list, any.
    pub operation: Operation,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

macro_rules! matches_struct {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "camelCase")]
        #[schemars(extend("minProperties" = 1))]
        pub struct $name {
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Vec::is_empty")]
                #[schemars(extend("nullable" = true), length(min = 1, max = 2048), inner(length(min = 1, max = 1024)))]
                pub $field: Vec<String>,
            )*
            /// Fields this version does not know: this part then never permits, and always refuses.
            #[serde(flatten)]
            pub unknown: Unknown,
        }
    };
}

matches_struct! {
    /// A client: all of the lists given; within one list, any. A name may be exact, `prefix*`, `*suffix`, or
    /// `*` (there, and not empty).
    Source {
        /// Identities from the client's certificate, such as `cluster.local/ns/shop/sa/web`.
        principals,
        /// None of these identities.
        not_principals,
        /// `<issuer>/<subject>` of the request's verified token. Needs a waypoint.
        request_principals,
        /// None of these.
        not_request_principals,
        /// Namespaces, from the client's certificate.
        namespaces,
        /// None of these namespaces.
        not_namespaces,
        /// `<namespace>/<name>`, or `<name>` in the policy's own namespace, from the client's certificate.
        service_accounts,
        /// None of these.
        not_service_accounts,
        /// Trust domains, from the client's certificate.
        trust_domains,
        /// None of these trust domains.
        not_trust_domains,
        /// Addresses or networks (`10.0.0.0/8`, `2001:db8::1`) the connection comes from.
        ip_blocks,
        /// None of these networks.
        not_ip_blocks,
        /// Addresses or networks the request originally comes from, as trusted proxies tell. Needs a waypoint.
        remote_ip_blocks,
        /// None of these networks.
        not_remote_ip_blocks,
    }
}

matches_struct! {
    /// An operation: all of the lists given; within one list, any. Everything but ports needs a waypoint.
    Operation {
        /// Hosts of the request, exact, `prefix*`, `*suffix` or `*`; not case-sensitive.
        hosts,
        /// None of these hosts.
        not_hosts,
        /// Ports of the pod, or of an ExternalService as it is addressed, as text: "8080".
        ports,
        /// None of these ports.
        not_ports,
        /// HTTP methods, such as GET.
        methods,
        /// None of these methods.
        not_methods,
        /// Paths, exact, `prefix*`, `*suffix`, `*`, or a template with `{*}` (one segment) and `{**}` (any).
        paths,
        /// None of these paths.
        not_paths,
    }
}

/// One condition: the attribute has one of `values` (if given) and none of `notValues`.
#[derive(Debug, Clone, Default, PartialEq, KubeSchema, Serialize, Deserialize)]
#[x_kube(validation = rule::CONDITION_ASKS.kube())]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which attribute: `source.ip`, `remote.ip`, `source.namespace`, `source.principal`,
    /// `source.serviceAccount`, `destination.ip`, `destination.port`, `request.headers[name]`.
    #[schemars(length(min = 1, max = 256))]
    pub key: String,
    /// Any of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(min = 1, max = 2048), inner(length(max = 1024)))]
    pub values: Vec<String>,
    /// None of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("nullable" = true), length(min = 1, max = 2048), inner(length(max = 1024)))]
    pub not_values: Vec<String>,
    /// Fields this version does not know.
    #[serde(flatten)]
    pub unknown: Unknown,
}
