//! Objects to snapshot, incrementally: a change touches what depends on it and nothing else.
//!
//! ```text
//! put, delete -> store (objects by kind) and dirty (what depends on them)
//! settle: mesh . policies . peers . gateways . routes . externals . services . addresses . nodes . pods . what is told -> snapshot
//! ```
//!
//! Each stage reads the objects and what the stages before it made, marks what the stages after it must look at,
//! and writes only what is no longer the same: an `Arc` that still says the same stays the same `Arc`
//! (design 15). So any order of the same changes, in one batch or many, comes to the same snapshot.

mod claims;
mod dirty;
mod endpoints;
mod exclusions;
mod external;
mod judge;
mod links;
mod mesh;
mod name;
mod peer_authentication;
mod policies;
mod policy;
mod problem;
mod reach;
mod route;
mod selector;
mod service;
mod store;
mod tiers;
mod told;
mod waypoint;
mod workload;
mod written;

pub use workload::{CAPTURE, EXCLUDED, MODE, is_enabled};

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use decide::{
    model::{MeshSettings, PolicySet, Tiers},
    snapshot::Snapshot,
};

use self::{
    dirty::Dirty,
    external::Externals,
    links::{Links, Referrer},
    name::Name,
    peer_authentication::PeerAuthentications,
    policies::Policies,
    problem::{Part, Problems},
    reach::Reach,
    route::{Attached, CompiledRoute},
    service::ServiceState,
    store::Store,
};
use super::{Change, background::give_way, objects::FieldError};

/// The objects seen so far and the snapshot they amount to.
#[derive(Debug)]
pub(super) struct Translation {
    /// Settings where no MeshConfig says otherwise.
    defaults: Arc<MeshSettings>,
    store: Store,
    /// Whether every NetworkPolicy there is was told.
    fences_read: bool,
    dirty: Dirty,
    policies: Policies,
    peers: PeerAuthentications,
    routes: HashMap<Name, Arc<CompiledRoute>>,
    attached: HashMap<Name, Attached>,
    services: HashMap<Name, Box<ServiceState>>,
    /// What judges the many Services that no policy names, and what is near of those that ask for nothing: one for all.
    unjudged: Arc<PolicySet>,
    flat: Arc<Tiers>,
    externals: Externals,
    /// UID under which each translated pod stands in the snapshot.
    uids: HashMap<Name, Arc<str>>,
    /// Services to the pods behind them.
    pods_behind: Links<Name, Name>,
    /// Services to the nodes whose place decides which of their endpoints are near.
    nodes_behind: Links<Name, Arc<str>>,
    /// Services without an address to their endpoints outside the mesh.
    endpoints_outside: Links<Name, SocketAddr>,
    /// Whatever names a waypoint, to the Gateway.
    waypoints_named: Links<Referrer, Name>,
    /// Routes to the Services they are for or send to.
    services_of_routes: Links<Name, Name>,
    /// Routes to the Services they are attached to.
    attached_to: Links<Name, Name>,
    reach: Reach,
    problems: Problems,
    snapshot: Snapshot,
    changed: bool,
    work: Work,
}

/// How much was translated again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Work {
    pub(super) policies: usize,
    pub(super) waypoints: usize,
    pub(super) routes: usize,
    pub(super) services: usize,
    pub(super) externals: usize,
    pub(super) workloads: usize,
}

impl Translation {
    pub(super) fn new(defaults: MeshSettings) -> Self {
        let defaults = Arc::new(defaults);
        Self {
            store: Store::default(),
            fences_read: false,
            dirty: Dirty::default(),
            policies: Policies::default(),
            peers: PeerAuthentications::default(),
            routes: HashMap::new(),
            attached: HashMap::new(),
            services: HashMap::new(),
            unjudged: Arc::default(),
            flat: Arc::default(),
            externals: Externals::default(),
            uids: HashMap::new(),
            pods_behind: Links::default(),
            nodes_behind: Links::default(),
            endpoints_outside: Links::default(),
            waypoints_named: Links::default(),
            services_of_routes: Links::default(),
            attached_to: Links::default(),
            reach: Reach::default(),
            problems: Problems::default(),
            snapshot: Snapshot::empty(defaults.clone()),
            changed: false,
            work: Work::default(),
            defaults,
        }
    }

    /// Takes note of a change; [`Self::settle`] makes it count.
    pub(super) fn change(&mut self, change: Change) {
        match change {
            Change::Put(object, origin) => {
                self.problems.origin(object.key(), origin);
                self.put(*object);
            }
            Change::Delete(object) => {
                self.problems.forget(&object);
                self.delete(&object);
            }
            Change::Reject(problem) => self.problems.reject(problem),
            Change::Accept(object) => self.problems.accept(&object),
            Change::Fences(read) => {
                if self.fences_read != read {
                    self.fences_read = read;
                    self.dirty.pods.extend(self.store.pods.names().cloned());
                }
            }
            Change::Complete => {
                self.changed |= !self.snapshot.complete;
                self.snapshot.complete = true;
            }
        }
    }

    /// The snapshot after every change so far; `None` if it says the same as the one before.
    pub(super) fn settle(&mut self) -> Option<Snapshot> {
        self.work = Work::default();
        self.settle_mesh();
        self.settle_policies();
        self.settle_waypoints();
        self.settle_routes();
        self.settle_externals();
        for name in std::mem::take(&mut self.dirty.services) {
            give_way();
            self.translate_service(&name);
        }
        self.settle_service_addresses();
        self.settle_nodes();
        let pods = std::mem::take(&mut self.dirty.pods);
        for name in &pods {
            self.remove_stale_workload(name);
        }
        for name in &pods {
            give_way();
            self.translate_pod(name);
        }
        self.settle_pod_addresses();
        for name in std::mem::take(&mut self.dirty.policy_problems) {
            self.tell_policy(&name);
        }
        for name in std::mem::take(&mut self.dirty.peer_problems) {
            self.tell_peer_authentication(&name);
        }
        self.changed |= self.problems.settle(&mut self.snapshot.problems);
        tracing::trace!(work = ?self.work, changed = self.changed, "configuration settled");
        std::mem::take(&mut self.changed).then(|| {
            self.snapshot.version += 1;
            self.snapshot.clone()
        })
    }

    /// The snapshot as it was settled last.
    pub(super) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// An invalid MeshConfig leaves the settings as they were.
    fn settle_mesh(&mut self) {
        if !std::mem::take(&mut self.dirty.mesh) {
            return;
        }
        let mut settings = Ok((*self.defaults).clone());
        let mut told = Vec::new();
        for name in self.store.mesh_configs.names() {
            let Some(written) = self.store.mesh_configs.get(name) else {
                continue;
            };
            let mut found = Vec::new();
            if &*name.name == mesh::SINGLETON {
                settings = mesh::settings(&self.defaults, written).map_err(|errors| found = errors);
            } else {
                found.push(FieldError::new(
                    "metadata.name",
                    "is not default, so this MeshConfig has no effect.",
                    "Name it default.",
                ));
            }
            told.push((name.object("MeshConfig"), found));
        }
        for (object, found) in told {
            self.problems.set(object, Part::Object, found);
        }
        if let Ok(settings) = settings
            && settings != *self.snapshot.mesh
        {
            self.snapshot.mesh = Arc::new(settings);
            self.changed = true;
            self.mark_everything();
        }
    }

    fn settle_policies(&mut self) {
        for name in std::mem::take(&mut self.dirty.policies) {
            self.work.policies += 1;
            let written = self.store.policies.get(&name).cloned();
            for scope in self.policies.set(&name, written.as_deref()) {
                self.mark_scope(&name, &scope);
            }
            if let Some(compiled) = self.policies.get(&name) {
                self.problems
                    .set(name.object(policies::KIND), Part::Object, compiled.found.clone());
            }
            self.dirty.policy_problems.insert(name);
        }
        for name in std::mem::take(&mut self.dirty.peers) {
            self.work.policies += 1;
            let written = self.store.peer_authentications.get(&name).cloned();
            if self.peers.set(&name, written.as_deref()) {
                self.mark_pods_of(&name.namespace);
            }
            if let Some(compiled) = self.peers.get(&name) {
                let object = compiled.object().clone();
                self.problems.set(object, Part::Object, compiled.found.clone());
            }
            self.dirty.peer_problems.extend(self.peers.names_in(&name.namespace));
        }
        for name in std::mem::take(&mut self.dirty.traffic) {
            if self.store.traffic_policies.get(&name).is_some() {
                let found = FieldError::new(
                    "",
                    "cannot be honoured yet: traffic is treated as if it were not there.",
                    "Remove it.",
                );
                self.problems
                    .set(name.object("TrafficPolicy"), Part::Object, vec![found]);
            }
        }
    }

    /// Where nodes are.
    fn settle_nodes(&mut self) {
        for node in std::mem::take(&mut self.dirty.nodes) {
            let locality = self.store.locality(&node);
            if self.snapshot.nodes.get(&node) == locality.as_ref() {
                continue;
            }
            self.changed = true;
            match locality {
                Some(locality) => self.snapshot.nodes.insert(node, locality),
                None => drop(self.snapshot.nodes.remove(&node)),
            }
        }
    }

    fn settle_waypoints(&mut self) {
        for name in std::mem::take(&mut self.dirty.gateways) {
            self.work.waypoints += 1;
            if let Some(gateway) = self.store.gateways.get(&name) {
                let found = waypoint::gateway_problems(&self.snapshot.mesh, gateway);
                self.problems.set(name.object("Gateway"), Part::Object, found);
            }
            let key = name.waypoint_key();
            let new = waypoint::waypoint(&self.store, &self.snapshot.mesh, &name);
            let same = self.snapshot.waypoints.get(&key).map(|old| &**old) == new.as_ref();
            if !same {
                self.changed = true;
                match new {
                    Some(new) => self.snapshot.waypoints.insert(key, Arc::new(new)),
                    None => drop(self.snapshot.waypoints.remove(&key)),
                }
            }
        }
        for name in std::mem::take(&mut self.dirty.namespaces) {
            let metadata = self.store.namespaces.get(&name).map(|it| it.metadata.clone());
            let referrer = Referrer::Namespace(name.name.clone());
            let namespace = name.name.clone();
            self.tell_labels(&name.object("Namespace"), &referrer, &namespace, metadata.as_ref());
        }
        for name in std::mem::take(&mut self.dirty.accounts) {
            let metadata = self.store.accounts.get(&name).map(|it| it.metadata.clone());
            let referrer = Referrer::Account(name.clone());
            self.tell_labels(
                &name.object("ServiceAccount"),
                &referrer,
                &name.namespace,
                metadata.as_ref(),
            );
        }
    }

    fn tell_labels(
        &mut self,
        object: &decide::model::ObjectRef,
        referrer: &Referrer,
        namespace: &Arc<str>,
        metadata: Option<&super::objects::Metadata>,
    ) {
        let named = match metadata.and_then(|metadata| waypoint::reference(metadata, namespace)) {
            Some(waypoint::Reference::Gateway(name)) => BTreeSet::from([name]),
            _ => BTreeSet::new(),
        };
        self.waypoints_named.set(referrer, named);
        if let Some(metadata) = metadata {
            let found = waypoint::label_problems(&self.store, metadata, namespace);
            self.problems.set(object.clone(), Part::References, found);
            if &*object.kind == "Namespace" {
                let mut found: Vec<FieldError> = workload::mode_problem(metadata).into_iter().collect();
                found.extend(exclusions::exclusion_problems(&self.snapshot.mesh, metadata));
                self.problems.set(object.clone(), Part::Object, found);
            }
        }
    }

    fn settle_routes(&mut self) {
        for name in std::mem::take(&mut self.dirty.routes) {
            self.work.routes += 1;
            let new = self
                .store
                .routes
                .get(&name)
                .map(|written| Arc::new(route::compile(written)));
            let attached = new.as_ref().map(|route| route::attach(&self.store, route));
            let attached = attached.unwrap_or_default();
            let object = name.object(route::KIND);
            if let Some(route) = &new {
                self.problems.set(object.clone(), Part::Object, route.found.clone());
                self.problems.set(object, Part::References, attached.found.clone());
            }
            let services = new.as_ref().map(|route| route.services()).unwrap_or_default();
            self.services_of_routes.set(&name, services);
            self.attached_to.set(&name, attached.to.keys().cloned().collect());
            self.dirty.services.extend(attached.to.keys().cloned());
            if let Some(old) = self.attached.remove(&name) {
                self.dirty.services.extend(old.to.into_keys());
            }
            self.routes.remove(&name);
            if let Some(new) = new {
                self.routes.insert(name.clone(), new);
                self.attached.insert(name, attached);
            }
        }
    }
}

#[cfg(test)]
mod tests;
