//! Waypoints: Gateways of our class, and the labels that bind traffic to them (design 28).
//!
//! A reference that cannot be honoured stays in the model under a key that no waypoint has, so that the traffic
//! is refused and never goes around the waypoint somebody asked for.

use std::{net::SocketAddr, sync::Arc};

use decide::model::{Identity, MeshSettings, Waypoint, WaypointEndpoint, WaypointFor, WaypointKey, ports};

use super::{
    name::Name,
    store::Store,
    written::{below, shown},
};
use crate::config::objects::{FieldError, FromNamespaces, Gateway, Metadata, Pod};

/// The class of Gateways that are waypoints.
pub(super) const CLASS: &str = "weft-waypoint";
/// The label by which a pod names the Gateway it serves.
pub(super) const SERVED: &str = "gateway.networking.k8s.io/gateway-name";

const USE: &str = "weft.dev/use-waypoint";
const USE_NAMESPACE: &str = "weft.dev/use-waypoint-namespace";
const FOR: &str = "weft.dev/waypoint-for";
const HBONE: &str = "HBONE";

/// What the labels of an object say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reference {
    /// No waypoint, whatever a less specific object says.
    None,
    /// One that should be made when it is needed.
    Auto,
    /// This Gateway.
    Gateway(Name),
}

/// A reference, looked up.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Binding {
    /// The Gateway that is named, whether it exists or not.
    pub(super) named: Option<Name>,
    /// What the traffic must take: perhaps a waypoint that does not exist.
    pub(super) key: Option<WaypointKey>,
    /// The waypoint, if it exists, admits the traffic and takes such traffic.
    pub(super) standing: Option<Box<(WaypointKey, Identity)>>,
}

impl Binding {
    /// The Gateway of the waypoint that stands before it.
    pub(super) fn gateway(&self) -> Option<Name> {
        let (key, _) = self.standing.as_deref()?;
        Some(Name::new(&key.namespace, key.name.clone()))
    }
}

/// What an object's labels say; `None`: nothing, so that the next less specific object is asked.
pub(super) fn reference(metadata: &Metadata, namespace: &Arc<str>) -> Option<Reference> {
    let named = metadata.label(USE).filter(|name| !name.is_empty())?;
    Some(match &**named {
        "none" => Reference::None,
        "auto" => Reference::Auto,
        _ => Reference::Gateway(Name::new(
            metadata.label(USE_NAMESPACE).unwrap_or(namespace),
            named.clone(),
        )),
    })
}

/// Looks up what binds traffic of a namespace that is addressed in this way.
pub(super) fn bind(
    store: &Store,
    settings: &MeshSettings,
    reference: Option<Reference>,
    namespace: &Arc<str>,
    addressed: WaypointFor,
) -> Binding {
    match reference {
        None | Some(Reference::None) => Binding::default(),
        Some(Reference::Auto) => Binding {
            key: Some(unavailable(namespace, "auto", "not provisioned yet")),
            ..Binding::default()
        },
        Some(Reference::Gateway(name)) => bind_to(store, settings, name, namespace, addressed),
    }
}

fn bind_to(
    store: &Store,
    settings: &MeshSettings,
    name: Name,
    namespace: &Arc<str>,
    addressed: WaypointFor,
) -> Binding {
    let key = name.waypoint_key();
    let Some((gateway, identity)) = waypoint_gateway(store, &name).zip(identity(settings, &name)) else {
        return Binding {
            named: Some(name),
            key: Some(key),
            standing: None,
        };
    };
    if !admits(store, gateway, namespace) {
        let refused = format!("does not admit namespace {namespace}");
        return Binding {
            key: Some(unavailable(&name.namespace, &name.name, &refused)),
            named: Some(name),
            standing: None,
        };
    }
    let takes = takes(gateway).unwrap_or(WaypointFor::All);
    let taken = takes == WaypointFor::All || takes == addressed;
    Binding {
        named: Some(name),
        key: taken.then(|| key.clone()),
        standing: taken.then(|| Box::new((key, identity))),
    }
}

/// What an object's labels ask for and cannot have.
pub(super) fn label_problems(store: &Store, metadata: &Metadata, namespace: &Arc<str>) -> Vec<FieldError> {
    const REFUSED: &str = "traffic that should take it is refused";
    let at = |key: &str, what: String, remedy: &str| vec![FieldError::new(below("metadata.labels", key), what, remedy)];
    let name = match reference(metadata, namespace) {
        None if metadata.label(USE_NAMESPACE).is_some() => {
            return at(
                USE_NAMESPACE,
                format!("stands without {USE} and means nothing."),
                "Name the waypoint, or remove it.",
            );
        }
        None | Some(Reference::None) => return Vec::new(),
        Some(Reference::Auto) => {
            return at(
                USE,
                format!("is auto, and waypoints are not provisioned by themselves yet; {REFUSED}."),
                "Make a Gateway of class weft-waypoint and name it.",
            );
        }
        Some(Reference::Gateway(name)) => name,
    };
    match store.gateways.get(&name) {
        None => at(
            USE,
            format!("names waypoint {name}, and there is no such Gateway; {REFUSED}."),
            "Make the Gateway, name another, or write none.",
        ),
        Some(gateway) if &*gateway.spec.gateway_class_name != CLASS => at(
            USE,
            format!("names Gateway {name}, which is no waypoint; {REFUSED}."),
            "Name a Gateway of class weft-waypoint.",
        ),
        Some(gateway) if !admits(store, gateway, namespace) => at(
            USE,
            format!("names waypoint {name}, whose listener does not admit namespace {namespace}; {REFUSED}."),
            "Admit the namespace by the listener's allowedRoutes.namespaces, or name another waypoint.",
        ),
        Some(_) => Vec::new(),
    }
}

/// The waypoint that a pod serves: its label names one, and it runs as the account that proves it.
pub(super) fn served(store: &Store, pod: &Pod) -> Result<Option<Name>, FieldError> {
    let Some(label) = pod.metadata.label(SERVED) else {
        return Ok(None);
    };
    let name = Name::new(&pod.metadata.namespace, label.clone());
    if waypoint_gateway(store, &name).is_none() {
        return Ok(None);
    }
    let error = |what: String, remedy: String| Err(FieldError::new(below("metadata.labels", SERVED), what, remedy));
    if pod.spec.host_network {
        return error(
            format!("names waypoint {name}, but the pod is on its node's network, so it does not serve it."),
            "Give the pod a network of its own.".to_owned(),
        );
    }
    if pod.service_account() != &**label {
        return error(
            format!(
                "names waypoint {name}, but the pod runs as service account {}, so it does not serve it.",
                pod.service_account()
            ),
            format!("Run it as service account {label}."),
        );
    }
    Ok(Some(name))
}

/// The waypoint of a Gateway, if it is one.
pub(super) fn waypoint(store: &Store, settings: &MeshSettings, name: &Name) -> Option<Waypoint> {
    let gateway = waypoint_gateway(store, name)?;
    let pods = store.pods_labelled(&name.namespace, SERVED, &name.name);
    let endpoints = pods.filter(|(_, pod)| pod.is_ready() && !pod.is_terminating() && !pod.is_finished());
    let endpoints = endpoints.filter(|(_, pod)| matches!(served(store, pod), Ok(Some(_))));
    let endpoints = endpoints.filter_map(|(_, pod)| {
        Some(WaypointEndpoint {
            workload: pod.uid(),
            address: SocketAddr::new(*pod.addresses().first()?, ports::HBONE),
            node: pod.spec.node_name.clone(),
        })
    });
    Some(Waypoint {
        key: name.waypoint_key(),
        identity: identity(settings, name)?,
        takes: takes(gateway).unwrap_or(WaypointFor::All),
        endpoints: endpoints.collect(),
    })
}

/// What is wrong with a Gateway of our class.
pub(super) fn gateway_problems(settings: &MeshSettings, gateway: &Gateway) -> Vec<FieldError> {
    if &*gateway.spec.gateway_class_name != CLASS {
        return Vec::new();
    }
    let mut found = Vec::new();
    if identity(settings, &Name::of(&gateway.metadata)).is_none() {
        found.push(FieldError::new(
            "metadata.name",
            "is no part of an identity, so this is no waypoint.",
            "Use letters, digits, dots and dashes.",
        ));
    }
    if let Err(label) = takes(gateway) {
        found.push(FieldError::new(
            below("metadata.labels", FOR),
            format!(
                "{} is none of service, workload, all and none; the waypoint takes all.",
                shown(label)
            ),
            "Write one of them.",
        ));
    }
    let hbone = gateway.spec.listeners.iter().find(|it| &*it.protocol == HBONE);
    if hbone.is_none_or(|listener| listener.port != ports::HBONE) {
        found.push(FieldError::new(
            "spec.listeners",
            "has no listener of protocol HBONE on port 15008; the waypoint is reached there all the same, and \
             without such a protocol by its own namespace alone.",
            "Write {name: mesh, port: 15008, protocol: HBONE}.",
        ));
    }
    found
}

/// The Gateway of this name, if it is a waypoint.
pub(super) fn waypoint_gateway<'a>(store: &'a Store, name: &Name) -> Option<&'a Arc<Gateway>> {
    store
        .gateways
        .get(name)
        .filter(|gateway| &*gateway.spec.gateway_class_name == CLASS)
}

/// A waypoint's pods run as the service account of the Gateway's own name.
fn identity(settings: &MeshSettings, gateway: &Name) -> Option<Identity> {
    Identity::new(&settings.trust_domain, &gateway.namespace, &gateway.name).ok()
}

/// No Gateway has such a name.
fn unavailable(namespace: &Arc<str>, name: &str, why: &str) -> WaypointKey {
    WaypointKey {
        namespace: namespace.clone(),
        name: format!("{name} ({why})").into(),
    }
}

fn takes(gateway: &Gateway) -> Result<WaypointFor, &str> {
    match gateway.metadata.label(FOR).map_or("service", |label| label) {
        "service" => Ok(WaypointFor::Service),
        "workload" => Ok(WaypointFor::Workload),
        "all" => Ok(WaypointFor::All),
        "none" => Ok(WaypointFor::None),
        unknown => Err(unknown),
    }
}

fn admits(store: &Store, gateway: &Gateway, namespace: &Arc<str>) -> bool {
    let same = gateway.metadata.namespace == *namespace;
    let mut hbone = gateway
        .spec
        .listeners
        .iter()
        .filter(|it| &*it.protocol == HBONE)
        .peekable();
    if hbone.peek().is_none() {
        return same;
    }
    hbone.any(|listener| {
        let namespaces = &listener.allowed_routes.namespaces;
        match namespaces.from {
            FromNamespaces::Same => same,
            FromNamespaces::All => true,
            FromNamespaces::None => false,
            FromNamespaces::Selector => namespaces.selector.as_ref().is_some_and(|selector| {
                let labels = store.namespace(namespace).map(|it| &it.metadata.labels);
                // The API server labels every namespace so.
                let own = ("kubernetes.io/metadata.name".into(), namespace.clone());
                selector.matches(&labels.cloned().unwrap_or_default().with(own.0, own.1))
            }),
        }
    })
}
