//! From a changed object to what must be translated again.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use decide::model::{Locality, ObjectRef};

use super::{
    Translation,
    links::Referrer,
    name::Name,
    policies,
    policy::{Scope, TargetKind},
    waypoint::SERVED,
};
use crate::config::objects::{
    EndpointSlice, Gateway, Named, NetworkPolicy, Object, Pod, ReferenceGrant, Service, Written,
};

/// What must be translated again, by kind.
#[derive(Debug, Default)]
pub(super) struct Dirty {
    /// MeshConfig.
    pub(super) mesh: bool,
    pub(super) namespaces: BTreeSet<Name>,
    pub(super) accounts: BTreeSet<Name>,
    pub(super) policies: BTreeSet<Name>,
    pub(super) peers: BTreeSet<Name>,
    pub(super) traffic: BTreeSet<Name>,
    pub(super) gateways: BTreeSet<Name>,
    pub(super) routes: BTreeSet<Name>,
    pub(super) externals: BTreeSet<Name>,
    pub(super) services: BTreeSet<Name>,
    pub(super) pods: BTreeSet<Name>,
    pub(super) pod_addresses: BTreeSet<IpAddr>,
    pub(super) service_addresses: BTreeSet<IpAddr>,
    /// Nodes that said something of where they are, or of which endpoints did.
    pub(super) nodes: BTreeSet<Arc<str>>,
    /// AuthorizationPolicies whose reach or references changed.
    pub(super) policy_problems: BTreeSet<Name>,
    /// PeerAuthentications whose reach or age among others changed.
    pub(super) peer_problems: BTreeSet<Name>,
    /// ExternalServices that share a claim with one that changed.
    pub(super) external_problems: BTreeSet<Name>,
}

impl Dirty {
    pub(super) fn mark_policy_problems(&mut self, objects: Vec<ObjectRef>) {
        for object in objects {
            let name = Name::of_object(&object);
            if &*object.kind == policies::KIND {
                self.policy_problems.insert(name);
            } else {
                self.peer_problems.insert(name);
            }
        }
    }
}

impl Translation {
    /// An object is there now.
    pub(super) fn put(&mut self, object: Object) {
        let name = Name::of(object.metadata());
        match object {
            Object::Namespace(new) => self.namespace(&name, Some(new)),
            Object::ServiceAccount(new) => self.account(&name, Some(new)),
            Object::Pod(new) => self.pod(&name, Some(new)),
            Object::Service(new) => self.service_object(&name, Some(new)),
            Object::EndpointSlice(new) => self.slice(&name, Some(new)),
            Object::NetworkPolicy(new) => self.network_policy(&name, Some(new)),
            Object::Gateway(new) => self.gateway(&name, Some(new)),
            Object::HttpRoute(new) => self.route(&name, Some(new)),
            Object::ReferenceGrant(new) => self.grant(&name, Some(new)),
            Object::AuthorizationPolicy(new) => self.policy(&name, Some(new)),
            Object::PeerAuthentication(new) => self.peer_authentication(&name, Some(new)),
            Object::TrafficPolicy(new) => self.traffic_policy(&name, Some(new)),
            Object::ExternalService(new) => self.external_service(&name, Some(new)),
            Object::MeshConfig(new) => self.mesh_config(&name, Some(new)),
            Object::Node(new) => self.node(&name.name, Some(&new)),
        }
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, object: &ObjectRef) {
        let name = Name::of_object(object);
        match &*object.kind {
            "Namespace" => self.namespace(&name, None),
            "ServiceAccount" => self.account(&name, None),
            "Pod" => self.pod(&name, None),
            "Service" => self.service_object(&name, None),
            "EndpointSlice" => self.slice(&name, None),
            "NetworkPolicy" => self.network_policy(&name, None),
            "Gateway" => self.gateway(&name, None),
            "HTTPRoute" => self.route(&name, None),
            "ReferenceGrant" => self.grant(&name, None),
            "AuthorizationPolicy" => self.policy(&name, None),
            "PeerAuthentication" => self.peer_authentication(&name, None),
            "TrafficPolicy" => self.traffic_policy(&name, None),
            "ExternalService" => self.external_service(&name, None),
            "MeshConfig" => self.mesh_config(&name, None),
            "Node" => self.node(&name.name, None),
            _ => {}
        }
    }

    /// Everything, when the settings changed.
    pub(super) fn mark_everything(&mut self) {
        let (dirty, store) = (&mut self.dirty, &self.store);
        dirty.namespaces.extend(store.namespaces.names().cloned());
        dirty.gateways.extend(store.gateways.names().cloned());
        dirty.services.extend(store.services.names().cloned());
        dirty.externals.extend(store.externals.names().cloned());
        dirty.pods.extend(store.pods.names().cloned());
        dirty.policy_problems.extend(store.policies.names().cloned());
        dirty.peer_problems.extend(store.peer_authentications.names().cloned());
    }

    /// What a policy binds.
    pub(super) fn mark_scope(&mut self, policy: &Name, scope: &Scope) {
        match scope {
            Scope::Selected(selector) => {
                let is_root = policy.namespace == self.snapshot.mesh.root_namespace;
                let own = (!is_root).then(|| self.store.pods.in_namespace(&policy.namespace));
                let all = is_root.then(|| self.store.pods.all());
                let pods = own.into_iter().flatten().chain(all.into_iter().flatten());
                let selected = pods.filter(|(_, pod)| selector.matches(&pod.metadata.labels));
                self.dirty.pods.extend(selected.map(|(name, _)| name.clone()));
            }
            Scope::Targets(targets) => {
                for target in targets {
                    match target.kind {
                        TargetKind::Service => drop(self.dirty.services.insert(target.name.clone())),
                        TargetKind::ExternalService => drop(self.dirty.externals.insert(target.name.clone())),
                        TargetKind::Gateway => self.mark_referrers(&target.name),
                    }
                }
            }
        }
    }

    /// Every pod of a namespace; of the root namespace: of all.
    pub(super) fn mark_pods_of(&mut self, namespace: &Arc<str>) {
        if *namespace == self.snapshot.mesh.root_namespace {
            self.dirty.pods.extend(self.store.pods.names().cloned());
        } else {
            let pods = self.store.pods.in_namespace(namespace);
            self.dirty.pods.extend(pods.map(|(name, _)| name.clone()));
        }
    }

    /// Whatever names a waypoint.
    fn mark_referrers(&mut self, gateway: &Name) {
        for referrer in self.waypoints_named.referrers(gateway) {
            match referrer {
                Referrer::Namespace(name) => drop(self.dirty.namespaces.insert(Name::cluster(name))),
                Referrer::Account(name) => drop(self.dirty.accounts.insert(name.clone())),
                Referrer::Service(name) => drop(self.dirty.services.insert(name.clone())),
                Referrer::External(name) => drop(self.dirty.externals.insert(name.clone())),
                Referrer::Pod(name) => drop(self.dirty.pods.insert(name.clone())),
            }
        }
    }

    fn namespace(&mut self, name: &Name, new: Option<Arc<Named>>) {
        if self.store.namespaces.change(name, new).is_none() {
            return;
        }
        let namespace = &name.name;
        let (dirty, store) = (&mut self.dirty, &self.store);
        dirty.namespaces.insert(name.clone());
        dirty
            .accounts
            .extend(store.accounts.in_namespace(namespace).map(|(it, _)| it.clone()));
        dirty
            .services
            .extend(store.services.in_namespace(namespace).map(|(it, _)| it.clone()));
        dirty
            .externals
            .extend(store.externals.in_namespace(namespace).map(|(it, _)| it.clone()));
        dirty
            .pods
            .extend(store.pods.in_namespace(namespace).map(|(it, _)| it.clone()));
    }

    fn account(&mut self, name: &Name, new: Option<Arc<Named>>) {
        if self.store.accounts.change(name, new).is_none() {
            return;
        }
        self.dirty.accounts.insert(name.clone());
        for (pod_name, pod) in self.store.pods.in_namespace(&name.namespace) {
            if pod.service_account() == &*name.name {
                self.dirty.pods.insert(pod_name.clone());
                self.dirty
                    .services
                    .extend(self.pods_behind.referrers(pod_name).cloned());
            }
        }
    }

    fn pod(&mut self, name: &Name, new: Option<Arc<Pod>>) {
        let Some(versions) = self.store.change_pod(name, new) else {
            return;
        };
        self.dirty.pods.insert(name.clone());
        self.dirty.services.extend(self.pods_behind.referrers(name).cloned());
        for pod in &versions {
            self.mark_around_pod(name, pod);
        }
    }

    fn mark_around_pod(&mut self, name: &Name, pod: &Pod) {
        let (dirty, store) = (&mut self.dirty, &self.store);
        let labels = &pod.metadata.labels;
        let selecting = store.services_selecting(&name.namespace, labels);
        dirty.services.extend(selecting.cloned());
        dirty.pods.extend(store.uids.all(&pod.uid()).cloned());
        for address in pod.addresses() {
            dirty.pod_addresses.insert(address);
            dirty
                .pods
                .extend(store.pod_addresses.all(&address).map(|claim| claim.2.clone()));
            let services = store.slice_addresses.all(&address);
            dirty.services.extend(services.map(|(service, _)| service.clone()));
        }
        if let Some(gateway) = labels.get(SERVED) {
            dirty.gateways.insert(Name::new(&name.namespace, gateway.clone()));
        }
    }

    fn service_object(&mut self, name: &Name, new: Option<Arc<Service>>) {
        let Some(versions) = self.store.change_service(name, new) else {
            return;
        };
        self.dirty.services.insert(name.clone());
        self.dirty
            .routes
            .extend(self.services_of_routes.referrers(name).cloned());
        let targeting = self.policies.targeting_names(TargetKind::Service, name);
        self.dirty.policy_problems.extend(targeting.cloned());
        for address in versions.iter().flat_map(|service| service.addresses().iter().copied()) {
            self.dirty.service_addresses.insert(address);
            let claims = self.store.service_addresses.all(&address);
            self.dirty.services.extend(claims.map(|claim| claim.2.clone()));
        }
    }

    fn slice(&mut self, name: &Name, new: Option<Arc<EndpointSlice>>) {
        let versions = self.store.change_slice(name, new);
        for slice in versions.iter().flatten() {
            self.dirty.nodes.extend(slice.zones().map(|(node, _)| node.clone()));
            if let Some(service) = slice.service() {
                self.dirty.services.insert(Name::new(&name.namespace, service.clone()));
            }
        }
    }

    /// Only what tells where it is counts: the rest of a node changes every few minutes.
    fn node(&mut self, node: &Arc<str>, new: Option<&Named>) {
        let locality = new.map(|new| Locality::of(&new.metadata.labels));
        if self.store.change_node(node, locality) {
            self.dirty.nodes.insert(node.clone());
            self.dirty.services.extend(self.nodes_behind.referrers(node).cloned());
        }
    }

    fn network_policy(&mut self, name: &Name, new: Option<Arc<NetworkPolicy>>) {
        let Some(versions) = self.store.network_policies.change(name, new) else {
            return;
        };
        for (pod_name, pod) in self.store.pods.in_namespace(&name.namespace) {
            if versions.iter().any(|policy| policy.selects(&pod.metadata.labels)) {
                self.dirty.pods.insert(pod_name.clone());
            }
        }
    }

    fn gateway(&mut self, name: &Name, new: Option<Arc<Gateway>>) {
        if self.store.gateways.change(name, new).is_none() {
            return;
        }
        self.dirty.gateways.insert(name.clone());
        self.mark_referrers(name);
        let targeting = self.policies.targeting_names(TargetKind::Gateway, name);
        self.dirty.policy_problems.extend(targeting.cloned());
        for (pod, _) in self.store.pods_labelled(&name.namespace, SERVED, &name.name) {
            self.dirty.pods.insert(pod.clone());
            self.dirty.services.extend(self.pods_behind.referrers(pod).cloned());
        }
    }

    fn route(&mut self, name: &Name, new: Option<Arc<Written>>) {
        if self.store.routes.change(name, new).is_some() {
            self.dirty.routes.insert(name.clone());
        }
    }

    fn grant(&mut self, grant: &Name, new: Option<Arc<ReferenceGrant>>) {
        if self.store.grants.change(grant, new).is_none() {
            return;
        }
        for service in self.services_of_routes.referents() {
            if service.namespace == grant.namespace {
                self.dirty
                    .routes
                    .extend(self.services_of_routes.referrers(service).cloned());
            }
        }
    }

    fn policy(&mut self, name: &Name, new: Option<Arc<Written>>) {
        if self.store.policies.change(name, new).is_some() {
            self.dirty.policies.insert(name.clone());
        }
    }

    fn peer_authentication(&mut self, name: &Name, new: Option<Arc<Written>>) {
        if self.store.peer_authentications.change(name, new).is_some() {
            self.dirty.peers.insert(name.clone());
        }
    }

    fn traffic_policy(&mut self, name: &Name, new: Option<Arc<Written>>) {
        if self.store.traffic_policies.change(name, new).is_some() {
            self.dirty.traffic.insert(name.clone());
        }
    }

    fn external_service(&mut self, name: &Name, new: Option<Arc<Written>>) {
        if self.store.externals.change(name, new).is_none() {
            return;
        }
        self.dirty.externals.insert(name.clone());
        let targeting = self.policies.targeting_names(TargetKind::ExternalService, name);
        self.dirty.policy_problems.extend(targeting.cloned());
    }

    fn mesh_config(&mut self, name: &Name, new: Option<Arc<Written>>) {
        if self.store.mesh_configs.change(name, new).is_some() {
            self.dirty.mesh = true;
        }
    }
}
