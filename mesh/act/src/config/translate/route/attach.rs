//! A route looked up among the Services: where it is attached, and which of its backends can be honoured.

use std::{collections::BTreeMap, sync::Arc};

use decide::model::{Backend, HttpRoute, RouteRule};

use super::{CompiledBackend, CompiledRoute, KIND, Parent};
use crate::config::{
    objects::{FieldError, Protocol, Service},
    translate::{name::Name, store::Store},
};

/// A route as it is attached now.
#[derive(Debug, Default, PartialEq)]
pub(in crate::config::translate) struct Attached {
    /// By Service.
    pub(in crate::config::translate) to: BTreeMap<Name, Vec<Arc<HttpRoute>>>,
    /// References that cannot be honoured now.
    pub(in crate::config::translate) found: Vec<FieldError>,
}

/// Looks a route up.
pub(in crate::config::translate) fn attach(store: &Store, route: &CompiledRoute) -> Attached {
    let mut attached = Attached::default();
    for parent in &route.parents {
        match service_and_port(store, parent) {
            Ok((service, port)) => {
                let routes = for_parent(store, route, parent, service, port);
                let list = attached.to.entry(parent.service.clone()).or_default();
                for route in routes {
                    if !list.contains(&route) {
                        list.push(route);
                    }
                }
            }
            Err(error) => attached.found.push(error),
        }
    }
    for backend in route.rules.iter().flat_map(|rule| &rule.backends) {
        if backend.broken.is_none()
            && let Some(missing) = missing(store, route, backend)
        {
            attached.found.push(FieldError::new(
                &backend.field,
                format!("{missing}; its share of requests is answered 500."),
                "Make it, allow it by a ReferenceGrant, or send elsewhere.",
            ));
        }
    }
    attached
}

fn service_and_port<'a>(store: &'a Store, parent: &Parent) -> Result<(&'a Service, Option<u16>), FieldError> {
    let error = |what: String, remedy: &str| Err(FieldError::new(&parent.field, what, remedy));
    let Some(service) = store.services.get(&parent.service) else {
        return error(
            format!(
                "names Service {}, which does not exist; the route waits for it.",
                parent.service
            ),
            "Make the Service, or name another.",
        );
    };
    let ports = || service.spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    if let Some(section) = &parent.section {
        return match ports().find(|port| port.name == *section) {
            Some(port) if parent.port.is_none_or(|wanted| wanted == port.port) => Ok((service, Some(port.port))),
            _ => error(
                format!(
                    "names a port that Service {} does not have; the route waits for it.",
                    parent.service
                ),
                "Name one of its ports.",
            ),
        };
    }
    match parent.port {
        Some(wanted) if !ports().any(|port| port.port == wanted) => error(
            format!(
                "names port {wanted}, which Service {} does not have; the route waits for it.",
                parent.service
            ),
            "Name one of its ports.",
        ),
        port => Ok((service, port)),
    }
}

/// One route for the parent; where a rule names no backend and the parent no port, one for each port: such
/// requests go to the Service itself, to the port they came for.
fn for_parent(
    store: &Store,
    route: &CompiledRoute,
    parent: &Parent,
    service: &Service,
    port: Option<u16>,
) -> Vec<Arc<HttpRoute>> {
    let implicit = route.rules.iter().any(|rule| rule.backends.is_empty());
    let ports: Vec<Option<u16>> = if implicit && port.is_none() {
        let tcp = service.spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
        tcp.map(|port| Some(port.port)).collect()
    } else {
        vec![port]
    };
    ports
        .into_iter()
        .map(|port| {
            Arc::new(HttpRoute {
                object: Name::of(&route.metadata).object(KIND),
                parent_port: port,
                consumer: route.metadata.namespace != parent.service.namespace,
                rules: rules(store, route, parent, port),
            })
        })
        .collect()
}

fn rules(store: &Store, route: &CompiledRoute, parent: &Parent, port: Option<u16>) -> Vec<RouteRule> {
    route
        .rules
        .iter()
        .map(|compiled| {
            let mut rule = compiled.rule.clone();
            rule.backends = compiled.backends.iter().map(|it| backend(store, route, it)).collect();
            if rule.backends.is_empty() {
                rule.backends.extend(port.map(|port| Backend {
                    service: parent.service.service_key(),
                    port,
                    weight: 1,
                    broken: None,
                }));
            }
            rule
        })
        .collect()
}

fn backend(store: &Store, route: &CompiledRoute, backend: &CompiledBackend) -> Backend {
    let broken = backend.broken.clone();
    Backend {
        service: backend.service.service_key(),
        port: backend.port,
        weight: backend.weight,
        broken: broken.or_else(|| missing(store, route, backend).map(Arc::from)),
    }
}

/// Why a backend cannot be honoured now.
fn missing(store: &Store, route: &CompiledRoute, backend: &CompiledBackend) -> Option<String> {
    let service = &backend.service;
    let is_parent = || route.parents.iter().any(|parent| parent.service == *service);
    if service.namespace != route.metadata.namespace && !is_parent() && !granted(store, route, service) {
        return Some(format!(
            "Service {service} is in another namespace, and no ReferenceGrant there allows it"
        ));
    }
    let Some(found) = store.services.get(service) else {
        return Some(format!("Service {service} does not exist"));
    };
    let mut tcp = found.spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    if tcp.any(|port| port.port == backend.port) {
        None
    } else {
        Some(format!("Service {service} has no port {}", backend.port))
    }
}

fn granted(store: &Store, route: &CompiledRoute, service: &Name) -> bool {
    store.grants.in_namespace(&service.namespace).any(|(_, grant)| {
        let from = grant.spec.from.iter().any(|it| {
            &*it.group == "gateway.networking.k8s.io" && &*it.kind == KIND && it.namespace == route.metadata.namespace
        });
        let to = grant.spec.to.iter().any(|it| {
            matches!(&*it.group, "" | "core")
                && &*it.kind == "Service"
                && it.name.as_ref().is_none_or(|name| *name == service.name)
        });
        from && to
    })
}
