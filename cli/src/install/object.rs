//! One object of an installation: what it is called, where the API server has it, and when its turn is.

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::Value;

/// Kinds in the order in which they are applied, with their plurals and whether they stand in no namespace.
/// What is not listed cannot be installed by us: the chart's test finds it.
const KINDS: &[(&str, &str, &str, bool)] = &[
    ("v1", "Namespace", "namespaces", true),
    (
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        true,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicy",
        "validatingadmissionpolicies",
        true,
    ),
    (
        "admissionregistration.k8s.io/v1",
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        true,
    ),
    ("v1", "ServiceAccount", "serviceaccounts", false),
    ("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", true),
    (
        "rbac.authorization.k8s.io/v1",
        "ClusterRoleBinding",
        "clusterrolebindings",
        true,
    ),
    ("rbac.authorization.k8s.io/v1", "Role", "roles", false),
    ("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings", false),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies", false),
    ("v1", "ConfigMap", "configmaps", false),
    ("v1", "Service", "services", false),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", false),
    ("weft.dev/v1alpha1", "MeshConfig", "meshconfigs", true),
    ("apps/v1", "Deployment", "deployments", false),
    ("apps/v1", "DaemonSet", "daemonsets", false),
];

/// An object as it is applied.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// All of it.
    pub(crate) value: Value,
    kind: usize,
}

/// Where objects of a kind are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    /// For `kube`.
    pub(crate) resource: ApiResource,
    /// Whether it stands in no namespace.
    pub(crate) cluster: bool,
}

/// Every kind an installation may hold, in the order in which they are applied.
pub(crate) fn kinds() -> Vec<Kind> {
    (0..KINDS.len()).map(kind).collect()
}

fn kind(at: usize) -> Kind {
    let (version, kind, plural, cluster) = KINDS[at];
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    Kind {
        resource: ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural),
        cluster,
    }
}

impl Object {
    /// Takes an object.
    ///
    /// # Errors
    /// When it has no name, or is of a kind that no installation holds.
    pub(crate) fn new(value: Value) -> Result<Self, String> {
        let text = |field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let (version, kind) = (text("apiVersion"), text("kind"));
        let known = KINDS.iter().position(|it| it.0 == version && it.1 == kind);
        let at = known.ok_or_else(|| format!("an installation holds no {version} {kind}"))?;
        if value["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            return Err(format!("a {kind} has no name"));
        }
        Ok(Self { value, kind: at })
    }

    /// Takes an object from a list, whose items do not say what they are.
    ///
    /// # Errors
    /// As [`Object::new`].
    pub(crate) fn of(kind: &Kind, mut value: Value) -> Result<Self, String> {
        value["apiVersion"] = kind.resource.api_version.clone().into();
        value["kind"] = kind.resource.kind.clone().into();
        Self::new(value)
    }

    /// Its turn: kinds in order; within a kind the order of the files.
    pub(crate) fn order(&self) -> usize {
        self.kind
    }

    /// Its kind.
    pub(crate) fn kind(&self) -> Kind {
        kind(self.kind)
    }

    /// Its kind's name.
    pub(crate) fn kind_name(&self) -> &'static str {
        KINDS[self.kind].1
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        self.value["metadata"]["name"].as_str().unwrap_or_default()
    }

    /// Its namespace; none where it stands in none.
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.value["metadata"]["namespace"].as_str()
    }

    /// As a person calls it: `DaemonSet weft-system/ztunnel`.
    pub(crate) fn title(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{} {namespace}/{}", self.kind_name(), self.name()),
            None => format!("{} {}", self.kind_name(), self.name()),
        }
    }

    /// Labels it as made by `manager`.
    pub(crate) fn mark(&mut self, manager: &str) {
        self.value["metadata"]["labels"]["app.kubernetes.io/managed-by"] = manager.into();
        self.value["metadata"]["labels"]["app.kubernetes.io/part-of"] = "weft".into();
    }

    /// A label of it.
    pub(crate) fn label(&self, name: &str) -> Option<&str> {
        self.value["metadata"]["labels"][name].as_str()
    }
}
