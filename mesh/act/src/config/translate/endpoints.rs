//! What stands behind a Service: from its EndpointSlices if there are any, else from its selector, as the
//! controllers of Kubernetes would make them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use decide::model::Endpoint;

use super::{name::Name, store::Store, tiers::Near};
use crate::config::objects::{
    AddressType, EndpointSlice, Pod, Protocol, Service, ServicePort, SliceEndpoint, TargetPort,
};

/// Everything behind a Service. Kept for every Service: each part as large as what is in it.
#[derive(Debug, PartialEq)]
pub(super) struct Behind {
    /// By address.
    pub(super) endpoints: Arc<[Endpoint]>,
    /// Where each of them is, and whom it is meant for.
    pub(super) near: Box<[Near]>,
    /// Pods behind it, in order, and their ports. Of the Service's own namespace alone: nobody binds pods of another
    /// namespace to policies or waypoints by writing an EndpointSlice.
    pub(super) pods: Box<[(Name, Box<[u16]>)]>,
    /// Whether something behind it is none of these pods.
    pub(super) foreign: bool,
}

impl Behind {
    /// The ports of one of its pods.
    pub(super) fn ports_of(&self, pod: &Name) -> Option<&[u16]> {
        let at = self.pods.binary_search_by(|(known, _)| known.cmp(pod)).ok()?;
        self.pods.get(at).map(|(_, ports)| &**ports)
    }
}

/// Gathers what stands behind a Service.
pub(super) fn behind(store: &Store, name: &Name, service: &Service) -> Behind {
    let mut gathering = Gathering {
        store,
        namespace: &name.namespace,
        by_address: BTreeMap::new(),
        pods: BTreeMap::new(),
        foreign: false,
    };
    let mut slices = store.slices_of(name).peekable();
    if slices.peek().is_some() {
        for slice in slices.filter(|slice| slice.address_type != AddressType::Fqdn) {
            gathering.slice(service, slice);
        }
    } else if !service.spec.selector.is_empty() {
        for (pod_name, pod) in store.pods_with(&name.namespace, &service.spec.selector) {
            if !pod.is_finished() {
                gathering.pod(service, pod_name, pod);
            }
        }
    }
    gathering.done()
}

/// The TCP ports of a Service.
pub(super) fn tcp_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service.spec.ports.iter().filter(|port| port.protocol == Protocol::Tcp)
}

struct Gathering<'a> {
    store: &'a Store,
    namespace: &'a Arc<str>,
    by_address: BTreeMap<IpAddr, Found>,
    pods: BTreeMap<Name, BTreeSet<u16>>,
    foreign: bool,
}

struct Found {
    workload: Option<Arc<str>>,
    node: Option<Arc<str>>,
    ports: BTreeSet<(u16, u16)>,
    ready: bool,
    leaving: bool,
    near: Near,
}

impl Gathering<'_> {
    fn pod(&mut self, service: &Service, name: &Name, pod: &Pod) {
        let ports: BTreeSet<(u16, u16)> = tcp_ports(service)
            .filter_map(|port| Some((port.port, target_port(port, pod)?)))
            .collect();
        self.pods
            .entry(name.clone())
            .or_default()
            .extend(ports.iter().map(|(_, target)| *target));
        let node = (!pod.spec.node_name.is_empty()).then(|| pod.spec.node_name.clone());
        for address in pod.addresses() {
            if !service.takes_family_of(address) {
                continue;
            }
            let found = Found {
                workload: Some(pod.uid()),
                node: node.clone(),
                ports: ports.clone(),
                ready: pod.is_ready() && !pod.is_terminating(),
                leaving: pod.is_ready() && pod.is_terminating(),
                near: Near::of_pod(pod, node.clone()),
            };
            self.add(address, found);
        }
    }

    fn slice(&mut self, service: &Service, slice: &EndpointSlice) {
        let mut ports = BTreeSet::new();
        for port in tcp_ports(service) {
            let same = |it: &&crate::config::objects::SlicePort| it.name == port.name && it.protocol == Protocol::Tcp;
            if let Some(target) = slice.ports.iter().find(same).and_then(|it| it.port) {
                ports.insert((port.port, target));
            }
        }
        for endpoint in &slice.endpoints {
            let Some(address) = endpoint.address() else { continue };
            let pod = self.pod_of(slice, endpoint, address);
            match &pod {
                Some(name) => {
                    let targets = ports.iter().map(|(_, target)| *target);
                    self.pods.entry(name.clone()).or_default().extend(targets);
                }
                None => self.foreign = true,
            }
            let pod = pod.and_then(|name| self.store.pods.get(&name));
            let node = endpoint.node_name.clone();
            let node = node.or_else(|| pod.map(|pod| pod.spec.node_name.clone()));
            let found = Found {
                workload: pod.map(|pod| pod.uid()),
                near: Near::told(endpoint, node.clone()),
                node,
                ports: ports.clone(),
                ready: endpoint.conditions.ready.unwrap_or(true),
                leaving: endpoint.is_leaving(),
            };
            self.add(address, found);
        }
    }

    /// The pod it says it is, else the one that owns its address; of this namespace.
    fn pod_of(&self, slice: &EndpointSlice, endpoint: &SliceEndpoint, address: IpAddr) -> Option<Name> {
        let name = match endpoint.pod() {
            Some(target) => {
                let namespace = match &*target.namespace {
                    "" => &slice.metadata.namespace,
                    _ => &target.namespace,
                };
                Name::new(namespace, target.name.clone())
            }
            None => self.store.pod_at(address)?.clone(),
        };
        (name.namespace == *self.namespace).then_some(name)
    }

    fn add(&mut self, address: IpAddr, found: Found) {
        match self.by_address.get_mut(&address) {
            None => drop(self.by_address.insert(address, found)),
            Some(known) => {
                known.ports.extend(found.ports);
                known.ready |= found.ready;
                known.leaving |= found.leaving;
                known.near.merge(found.near);
                // Two that claim one address: the same one wins in whatever order they are read.
                known.workload = known.workload.take().into_iter().chain(found.workload).min();
                known.node = known.node.take().into_iter().chain(found.node).min();
            }
        }
    }

    fn done(self) -> Behind {
        let (mut endpoints, mut near) = (Vec::new(), Vec::new());
        for (address, mut found) in self.by_address {
            let node = found.near.node.as_ref().and_then(|node| self.store.node(node));
            found.near.complete(node.map(|node| &**node));
            near.push(found.near);
            endpoints.push(Endpoint {
                workload: found.workload,
                address,
                node: found.node,
                ports: found.ports.into_iter().collect(),
                leaving: found.leaving && !found.ready,
                ready: found.ready,
            });
        }
        let pods = self.pods.into_iter();
        Behind {
            endpoints: endpoints.into(),
            near: near.into(),
            pods: pods.map(|(name, ports)| (name, ports.into_iter().collect())).collect(),
            foreign: self.foreign,
        }
    }
}

fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    match &port.target_port {
        None => Some(port.port),
        Some(TargetPort::Number(number)) => Some(*number),
        Some(TargetPort::Name(name)) => pod.named_port(name),
    }
}
