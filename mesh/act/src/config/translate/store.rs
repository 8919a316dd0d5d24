//! The objects seen so far, by kind, namespace and name, with the indexes the translation looks them up by.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
    time::SystemTime,
};

use decide::model::{Labels, Locality};

use super::{claims::Claims, name::Name};
use crate::config::objects::{
    EndpointSlice, Gateway, Metadata, Named, NetworkPolicy, Pod, ReferenceGrant, Service, Written, word,
};

/// Objects of one kind.
#[derive(Debug)]
pub(super) struct Kind<T>(BTreeMap<Name, Arc<T>>);

/// Every object seen so far.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) namespaces: Kind<Named>,
    pub(super) accounts: Kind<Named>,
    pub(super) pods: Kind<Pod>,
    pub(super) services: Kind<Service>,
    pub(super) slices: Kind<EndpointSlice>,
    pub(super) network_policies: Kind<NetworkPolicy>,
    pub(super) gateways: Kind<Gateway>,
    pub(super) routes: Kind<Written>,
    pub(super) grants: Kind<ReferenceGrant>,
    pub(super) policies: Kind<Written>,
    pub(super) peer_authentications: Kind<Written>,
    pub(super) traffic_policies: Kind<Written>,
    pub(super) externals: Kind<Written>,
    pub(super) mesh_configs: Kind<Written>,
    /// Where nodes say they are.
    nodes: HashMap<Arc<str>, Arc<Locality>>,
    pods_by_label: Claims<Label, Name>,
    slices_of: Claims<Name, Name>,
    /// Services by the first label they select.
    services_by_label: Claims<Label, Name>,
    /// Who owns an address.
    pub(super) pod_addresses: Claims<IpAddr, PodClaim>,
    /// Which pod of several with one UID counts.
    pub(super) uids: Claims<Arc<str>, Name>,
    /// Who owns a cluster IP.
    pub(super) service_addresses: Claims<IpAddr, ServiceClaim>,
    /// Services with a slice that holds an address without saying whose it is, and the slice.
    pub(super) slice_addresses: Claims<IpAddr, (Name, Name)>,
    /// What slices say of the zone of a node.
    node_zones: Claims<Arc<str>, (Arc<str>, Name)>,
}

/// A label with its value, in a namespace.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Label {
    namespace: Arc<str>,
    key: Arc<str>,
    value: Arc<str>,
}

/// A pod's claim to an address: one that stays before one that goes, then the youngest, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PodClaim(bool, Reverse<Option<SystemTime>>, pub(super) Name);

/// A Service's claim to an address: the oldest, then by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ServiceClaim(bool, Option<SystemTime>, pub(super) Name);

impl<T> Kind<T> {
    pub(super) fn get(&self, name: &Name) -> Option<&Arc<T>> {
        self.0.get(name)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Name, &Arc<T>)> {
        self.0.iter()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    pub(super) fn in_namespace<'a>(&'a self, namespace: &'a Arc<str>) -> impl Iterator<Item = (&'a Name, &'a Arc<T>)> {
        self.0
            .range(Name::new(namespace, "")..)
            .take_while(move |(name, _)| name.namespace == *namespace)
    }

    /// Sets or removes one; what was there before.
    fn swap(&mut self, name: &Name, new: Option<Arc<T>>) -> Option<Arc<T>> {
        match new {
            Some(new) => self.0.insert(name.clone(), new),
            None => self.0.remove(name),
        }
    }
}

impl<T: PartialEq> Kind<T> {
    /// Sets or removes one; what was there before and what is now, if that is not the same.
    pub(super) fn change(&mut self, name: &Name, new: Option<Arc<T>>) -> Option<Vec<Arc<T>>> {
        let old = self.swap(name, new.clone());
        (old != new).then(|| [old, new].into_iter().flatten().collect())
    }
}

impl<T> Default for Kind<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl Store {
    /// As [`Kind::change`], indexes included.
    pub(super) fn change_pod(&mut self, name: &Name, new: Option<Arc<Pod>>) -> Option<Vec<Arc<Pod>>> {
        let old = self.pods.swap(name, new.clone());
        if old == new {
            return None;
        }
        if let Some(old) = &old {
            for (key, value) in old.metadata.labels.iter() {
                self.pods_by_label
                    .remove(&Label::new(&name.namespace, key, value), name);
            }
            self.uids.remove(&old.uid(), name);
            for (address, claim) in pod_claims(name, old) {
                self.pod_addresses.remove(&address, &claim);
            }
        }
        if let Some(new) = &new {
            for (key, value) in new.metadata.labels.iter() {
                let label = Label::new(&name.namespace, key, value);
                self.pods_by_label.add(label, name.clone());
            }
            self.uids.add(new.uid(), name.clone());
            for (address, claim) in pod_claims(name, new) {
                self.pod_addresses.add(address, claim);
            }
        }
        Some([old, new].into_iter().flatten().collect())
    }

    /// As [`Kind::change`], indexes included.
    pub(super) fn change_service(&mut self, name: &Name, new: Option<Arc<Service>>) -> Option<Vec<Arc<Service>>> {
        let old = self.services.swap(name, new.clone());
        if old == new {
            return None;
        }
        let claim = |service: &Service| ServiceClaim::new(&service.metadata, name);
        let first_label = |service: &Service| {
            let (key, value) = service.spec.selector.iter().next()?;
            Some(Label::new(&name.namespace, key, value))
        };
        if let Some(old) = &old {
            for address in old.addresses() {
                self.service_addresses.remove(address, &claim(old));
            }
            if let Some(label) = first_label(old) {
                self.services_by_label.remove(&label, name);
            }
        }
        if let Some(new) = &new {
            for address in new.addresses().iter().copied() {
                self.service_addresses.add(address, claim(new));
            }
            if let Some(label) = first_label(new) {
                self.services_by_label.add(label, name.clone());
            }
        }
        Some([old, new].into_iter().flatten().collect())
    }

    /// As [`Kind::change`], indexes included.
    pub(super) fn change_slice(
        &mut self,
        name: &Name,
        new: Option<Arc<EndpointSlice>>,
    ) -> Option<Vec<Arc<EndpointSlice>>> {
        let old = self.slices.swap(name, new.clone());
        if old == new {
            return None;
        }
        for (slice, is_new) in old.iter().map(|it| (it, false)).chain(new.iter().map(|it| (it, true))) {
            let Some(service) = slice.service() else { continue };
            let service = Name::new(&name.namespace, service.clone());
            for address in slice.addresses_of_nobody() {
                let claim = (service.clone(), name.clone());
                if is_new {
                    self.slice_addresses.add(address, claim);
                } else {
                    self.slice_addresses.remove(&address, &claim);
                }
            }
            for (node, zone) in slice.zones() {
                let claim = (zone.clone(), name.clone());
                if is_new {
                    self.node_zones.add(node.clone(), claim);
                } else {
                    self.node_zones.remove(node, &claim);
                }
            }
            if is_new {
                self.slices_of.add(service, name.clone());
            } else {
                self.slices_of.remove(&service, name);
            }
        }
        Some([old, new].into_iter().flatten().collect())
    }

    /// Sets or removes where a node says it is; whether that is not the same as before.
    pub(super) fn change_node(&mut self, node: &Arc<str>, new: Option<Locality>) -> bool {
        let new = new.filter(|new| !new.is_unknown()).map(Arc::new);
        let old = match new.clone() {
            Some(new) => self.nodes.insert(node.clone(), new),
            None => self.nodes.remove(node),
        };
        old != new
    }

    /// Where a node says it is.
    pub(super) fn node(&self, node: &Arc<str>) -> Option<&Arc<Locality>> {
        self.nodes.get(node)
    }

    /// Where a node is: as it says itself, and where it does not, in the zone that endpoints there say is theirs.
    pub(super) fn locality(&self, node: &Arc<str>) -> Option<Arc<Locality>> {
        let own = self.nodes.get(node);
        if let Some(own) = own.filter(|own| own.zone.is_some()) {
            return Some(own.clone());
        }
        let zone = self.node_zones.owner(node).map(|(zone, _)| zone.clone());
        let region = own.and_then(|own| own.region.clone());
        let locality = Locality { zone, region };
        (!locality.is_unknown()).then(|| Arc::new(locality))
    }

    /// Pods of a namespace that have all of these labels.
    pub(super) fn pods_with<'a>(
        &'a self,
        namespace: &Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = (&'a Name, &'a Arc<Pod>)> {
        let rarest = labels
            .iter()
            .map(|(key, value)| Label::new(namespace, key, value))
            .min_by_key(|label| self.pods_by_label.count(label));
        let candidates = rarest.map(|label| self.pods_by_label.all(&label));
        candidates
            .into_iter()
            .flatten()
            .filter_map(|name| Some((name, self.pods.get(name)?)))
            .filter(|(_, pod)| labels.is_subset_of(&pod.metadata.labels))
    }

    /// Services of a namespace that select such labels.
    pub(super) fn services_selecting<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Name> {
        let names = labels
            .iter()
            .flat_map(|(key, value)| self.services_by_label.all(&Label::new(namespace, key, value)));
        names.filter(|name| {
            let service = self.services.get(name);
            service.is_some_and(|service| service.spec.selector.is_subset_of(labels))
        })
    }

    /// Pods of a namespace with this label.
    pub(super) fn pods_labelled<'a>(
        &'a self,
        namespace: &Arc<str>,
        key: &str,
        value: &Arc<str>,
    ) -> impl Iterator<Item = (&'a Name, &'a Arc<Pod>)> {
        let names = self.pods_by_label.all(&Label::new(namespace, &word(key), value));
        names.filter_map(|name| Some((name, self.pods.get(name)?)))
    }

    /// The EndpointSlices of a Service, by name.
    pub(super) fn slices_of(&self, service: &Name) -> impl Iterator<Item = &Arc<EndpointSlice>> {
        let names = self.slices_of.all(service);
        names.filter_map(|name| self.slices.get(name))
    }

    /// The labels of a namespace; none if nobody told of it.
    pub(super) fn namespace(&self, namespace: &Arc<str>) -> Option<&Arc<Named>> {
        self.namespaces.get(&Name::cluster(namespace))
    }

    /// The pod that owns an address.
    pub(super) fn pod_at(&self, address: IpAddr) -> Option<&Name> {
        self.pod_addresses.owner(&address).map(|claim| &claim.2)
    }

    /// The Service that owns an address.
    pub(super) fn service_at(&self, address: IpAddr) -> Option<&Name> {
        self.service_addresses.owner(&address).map(|claim| &claim.2)
    }
}

impl ServiceClaim {
    pub(super) fn new(metadata: &Metadata, name: &Name) -> Self {
        Self(metadata.created.is_none(), metadata.created, name.clone())
    }
}

impl Label {
    fn new(namespace: &Arc<str>, key: &Arc<str>, value: &Arc<str>) -> Self {
        Self {
            namespace: namespace.clone(),
            key: key.clone(),
            value: value.clone(),
        }
    }
}

/// Host-network and finished pods own no address.
fn pod_claims(name: &Name, pod: &Pod) -> Vec<(IpAddr, PodClaim)> {
    if pod.spec.host_network || pod.is_finished() {
        return Vec::new();
    }
    let claim = PodClaim(pod.is_terminating(), Reverse(pod.metadata.created), name.clone());
    pod.addresses().into_iter().map(|it| (it, claim.clone())).collect()
}
