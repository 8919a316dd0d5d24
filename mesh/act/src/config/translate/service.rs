//! Services: what stands behind them, which waypoint their traffic takes, what judges it, how it is routed.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use decide::model::{
    AppliedPolicy, Endpoint, HttpRoute, Policy, PolicySet, Service, ServiceKey, ServicePort, Tiers, WaypointFor,
};

use super::{
    Translation,
    endpoints::{Behind, behind, tcp_ports},
    links::Referrer,
    name::Name,
    policy::TargetKind,
    problem::Part,
    tiers::Preference,
    waypoint::{Binding, bind, label_problems, reference, served},
};
use crate::config::objects::{self, FieldError, ServiceType};

const KIND: &str = "Service";

/// What the pods behind a Service need to know of it.
#[derive(Debug, PartialEq)]
pub(super) struct ServiceState {
    pub(super) behind: Behind,
    pub(super) binding: Binding,
    /// Endpoints outside the mesh, if it has no address of its own to be addressed by.
    outside: BTreeSet<SocketAddr>,
    /// Policies that target it, or its waypoint.
    pub(super) policies: Vec<Arc<Policy>>,
}

impl Translation {
    /// Translates one Service anew, and marks the pods whose share in it changed.
    pub(super) fn translate_service(&mut self, name: &Name) {
        self.work.services += 1;
        let written = self.store.services.get(name).cloned();
        let written = written.filter(|service| service.spec.kind != ServiceType::ExternalName);
        let new = written.as_ref().map(|service| self.service_state(name, service));
        let old = self.services.remove(name);
        self.settle_endpoints_outside(name, old.as_deref(), new.as_ref());
        self.mark_pods_behind(old.as_deref(), new.as_ref());
        if old.as_ref().map(|it| &it.binding) != new.as_ref().map(|it| &it.binding) {
            let targeting = self.policies.targeting_names(TargetKind::Service, name);
            self.dirty.policy_problems.extend(targeting.cloned());
        }
        let pods = new
            .iter()
            .flat_map(|state| state.behind.pods.iter().map(|(pod, _)| pod.clone()));
        self.pods_behind.set(name, pods.collect());
        self.nodes_behind
            .set(name, written.iter().zip(&new).flat_map(near_nodes).collect());
        let named = new.iter().filter_map(|state| state.binding.named.clone());
        self.waypoints_named
            .set(&Referrer::Service(name.clone()), named.collect());
        match (written, new) {
            (Some(written), Some(state)) => {
                self.service_problems(name, &written);
                let service = self.service(name, &written, &state);
                self.put_service(service);
                self.services.insert(name.clone(), Box::new(state));
            }
            _ => {
                self.problems.set(name.object(KIND), Part::Object, Vec::new());
                self.problems.set(name.object(KIND), Part::References, Vec::new());
                self.changed |= self.snapshot.services.remove(&name.service_key()).is_some();
            }
        }
    }

    /// Sets or clears the owner of every address that changed hands.
    pub(super) fn settle_service_addresses(&mut self) {
        for address in std::mem::take(&mut self.dirty.service_addresses) {
            let owner = self.store.service_at(address).map(Name::service_key);
            let owner = owner.filter(|key| self.snapshot.services.get(key).is_some());
            if self.snapshot.service_addresses.get(&address) == owner.as_ref() {
                continue;
            }
            self.changed = true;
            match owner {
                Some(key) => self.snapshot.service_addresses.insert(address, key),
                None => drop(self.snapshot.service_addresses.remove(&address)),
            }
        }
    }

    fn service_state(&self, name: &Name, service: &objects::Service) -> ServiceState {
        let behind = behind(&self.store, name, service);
        let binding = self.service_binding(name, service, &behind);
        let gateway = binding.gateway();
        ServiceState {
            policies: self.policies.judging(TargetKind::Service, name, gateway.as_ref()),
            outside: self.outside(service, &behind, &binding),
            behind,
            binding,
        }
    }

    fn outside(&self, service: &objects::Service, behind: &Behind, binding: &Binding) -> BTreeSet<SocketAddr> {
        let mesh = &self.snapshot.mesh;
        let ours = |ip: IpAddr| {
            let mut ranges = mesh.pod_ranges.iter().chain(&mesh.service_ranges);
            ranges.any(|range| range.contains(&ip))
        };
        // Around a waypoint nobody is led, and it cannot be asked for a Service without an address.
        if !service.addresses().is_empty() || binding.key.is_some() {
            return BTreeSet::new();
        }
        let endpoints = behind.endpoints.iter();
        let outside = endpoints.filter(|endpoint| endpoint.workload.is_none() && !ours(endpoint.address));
        let ports = |endpoint: &Endpoint| {
            let address = endpoint.address;
            let ports: Vec<SocketAddr> = endpoint.ports.iter().map(|(_, port)| (address, *port).into()).collect();
            ports
        };
        outside.flat_map(ports).collect()
    }

    /// Of two Services with one endpoint the first by name is told of.
    fn settle_endpoints_outside(&mut self, name: &Name, old: Option<&ServiceState>, new: Option<&ServiceState>) {
        let (old, new) = (old.map(|it| &it.outside), new.map(|it| &it.outside));
        if old == new {
            return;
        }
        self.endpoints_outside.set(name, new.cloned().unwrap_or_default());
        for at in old.into_iter().chain(new).flatten() {
            let owner = self.endpoints_outside.referrers(at).next().map(Name::service_key);
            let index = &mut self.snapshot.endpoints_outside;
            if index.get(at) == owner.as_ref() {
                continue;
            }
            self.changed = true;
            match owner {
                Some(owner) => index.insert(*at, owner),
                None => drop(index.remove(at)),
            }
        }
    }

    /// The Service's own label, else the service account's that all its endpoints share, else its namespace's.
    /// A waypoint's own Service stands behind no waypoint.
    fn service_binding(&self, name: &Name, service: &objects::Service, behind: &Behind) -> Binding {
        let store = &self.store;
        let namespace = &name.namespace;
        let pods = || behind.pods.iter().map(|(pod, _)| store.pods.get(pod));
        let serves = |pod: Option<&Arc<objects::Pod>>| pod.is_some_and(|pod| matches!(served(store, pod), Ok(Some(_))));
        let has_pods = !behind.pods.is_empty() && !behind.foreign;
        if has_pods && pods().all(serves) {
            return Binding::default();
        }
        let of_account = || {
            let accounts: BTreeSet<Option<&str>> = pods().map(|pod| pod.map(|it| it.service_account())).collect();
            let account = accounts
                .first()
                .copied()
                .flatten()
                .filter(|_| has_pods && accounts.len() == 1)?;
            let account = store.accounts.get(&Name::new(namespace, account))?;
            reference(&account.metadata, namespace)
        };
        let of_namespace = || reference(&store.namespace(namespace)?.metadata, namespace);
        let reference = reference(&service.metadata, namespace)
            .or_else(of_account)
            .or_else(of_namespace);
        bind(store, &self.snapshot.mesh, reference, namespace, WaypointFor::Service)
    }

    fn mark_pods_behind(&mut self, old: Option<&ServiceState>, new: Option<&ServiceState>) {
        let judged_alike = match (old, new) {
            (Some(old), Some(new)) => old.binding == new.binding && old.policies == new.policies,
            _ => false,
        };
        for (state, other) in [(old, new), (new, old)] {
            let Some(state) = state else { continue };
            for (pod, ports) in &state.behind.pods {
                let same_ports = other.and_then(|other| other.behind.ports_of(pod)) == Some(&**ports);
                if !judged_alike || !same_ports {
                    self.dirty.pods.insert(pod.clone());
                }
            }
        }
    }

    fn service(&self, name: &Name, written: &objects::Service, state: &ServiceState) -> Service {
        let key = name.service_key();
        let applied = state.policies.iter().map(|policy| AppliedPolicy {
            policy: policy.clone(),
            ports: None,
        });
        let policies = PolicySet {
            policies: applied.collect(),
            ..PolicySet::default()
        };
        let before = self.snapshot.services.get(&key).map(|service| &service.policies);
        let policies = known_or_new(policies, [before, Some(&self.unjudged)]);
        let ports = tcp_ports(written).map(|port| ServicePort {
            name: port.name.clone(),
            port: port.port,
            app_protocol: app_protocol(port),
        });
        let (mut addresses, mut ports) = (written.addresses().to_vec(), ports.collect::<Vec<_>>());
        addresses.shrink_to_fit();
        ports.shrink_to_fit();
        Service {
            addresses,
            ports,
            endpoints: state.behind.endpoints.clone(),
            publish_not_ready: written.spec.publish_not_ready_addresses,
            tiers: self.tiers_of(&key, written, state),
            waypoint: state.binding.key.clone(),
            policies,
            routes: self.routes_of(name),
            key,
        }
    }

    fn tiers_of(&self, key: &ServiceKey, written: &objects::Service, state: &ServiceState) -> Arc<Tiers> {
        let preference = preference(written, &state.behind);
        let tiers = preference.map_or_else(Tiers::default, |it| it.tiers(&state.behind.near));
        let before = self.snapshot.services.get(key).map(|service| &service.tiers);
        known_or_new(tiers, [before, Some(&self.flat)])
    }

    fn routes_of(&self, service: &Name) -> Arc<[Arc<HttpRoute>]> {
        let mut routes: Vec<_> = self
            .attached_to
            .referrers(service)
            .filter_map(|name| Some((self.routes.get(name)?, self.attached.get(name)?)))
            .collect();
        routes.sort_unstable_by(|(a, _), (b, _)| a.metadata.by_age(&b.metadata));
        routes
            .iter()
            .flat_map(|(_, attached)| attached.to.get(service).into_iter().flatten().cloned())
            .collect()
    }

    fn service_problems(&mut self, name: &Name, written: &objects::Service) {
        let mut found = Vec::new();
        for address in written.addresses().iter().copied() {
            match self.store.service_at(address) {
                Some(owner) if owner != name => found.push(FieldError::new(
                    "spec.clusterIP",
                    format!("{address} belongs to Service {owner}, which is older; this Service is not reached by it."),
                    "Give each Service an address of its own.",
                )),
                _ => {}
            }
        }
        self.problems.set(name.object(KIND), Part::Object, found);
        let labels = label_problems(&self.store, &written.metadata, &name.namespace);
        self.problems.set(name.object(KIND), Part::References, labels);
    }

    fn put_service(&mut self, service: Service) {
        let same = |before: &Arc<Service>| **before == service;
        if !self.snapshot.services.get(&service.key).is_some_and(same) {
            self.changed = true;
            self.snapshot.services.insert(service.key.clone(), Arc::new(service));
        }
    }
}

/// The first that says the same already: who compares by `Arc` then sees no change, and what many share is there once.
pub(super) fn known_or_new<T: PartialEq>(new: T, known: [Option<&Arc<T>>; 2]) -> Arc<T> {
    let same = known.into_iter().flatten().find(|known| ***known == new);
    same.cloned().unwrap_or_else(|| Arc::new(new))
}

fn preference(written: &objects::Service, behind: &Behind) -> Option<Preference> {
    Preference::of(&written.spec, &behind.endpoints, &behind.near)
}

/// The nodes whose place decides which endpoints are near; none where every endpoint is.
fn near_nodes((written, state): (&Arc<objects::Service>, &ServiceState)) -> BTreeSet<Arc<str>> {
    let near = preference(written, &state.behind).map(|_| state.behind.near.iter());
    near.into_iter()
        .flatten()
        .filter_map(|near| near.node.clone())
        .collect()
}

/// `appProtocol`, else what the port's name starts with.
fn app_protocol(port: &objects::ServicePort) -> Option<Arc<str>> {
    if let Some(told) = port.app_protocol.as_ref().filter(|it| !it.is_empty()) {
        return Some(told.to_ascii_lowercase().into());
    }
    let name = port.name.to_ascii_lowercase();
    let prefix = name.split('-').next().unwrap_or_default();
    matches!(prefix, "http" | "http2" | "grpc" | "tcp").then(|| prefix.into())
}
