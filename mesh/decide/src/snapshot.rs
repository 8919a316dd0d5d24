//! What should be, at one moment: immutable, cheap to copy with a change, cheap to read.
//!
//! Every index is a few hundred map shards behind `Arc`, so that a change copies one shard (design 3).

mod external;

use std::{
    collections::HashMap,
    hash::{BuildHasher, Hash, RandomState},
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

pub use external::ExternalServices;

use crate::model::{
    Exclusions, Locality, MeshSettings, ObjectRef, Problem, REGION, Service, ServiceKey, Waypoint, WaypointKey,
    Workload, ZONE,
};

const SHARDS: usize = 256;

/// An immutable map in shards: `clone` copies pointers, a change copies one shard.
#[derive(Debug, Clone)]
pub struct Shards<K, V> {
    hasher: RandomState,
    shards: Box<[Arc<HashMap<K, V>>]>,
    len: usize,
}

/// Everything the decisions need to know.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts up with every change.
    pub version: u64,
    /// Whether the first list of every kind has arrived; before, nothing is judged (design 5).
    pub complete: bool,
    /// Settings of the mesh.
    pub mesh: Arc<MeshSettings>,
    /// Workloads by UID.
    pub workloads: Shards<Arc<str>, Arc<Workload>>,
    /// Services by namespace and name.
    pub services: Shards<ServiceKey, Arc<Service>>,
    /// Waypoints by namespace and name.
    pub waypoints: Shards<WaypointKey, Arc<Waypoint>>,
    /// UIDs of the workloads at an address that own it (host-network and finished pods own none).
    pub workload_addresses: Shards<IpAddr, Arc<str>>,
    /// Services at an address.
    pub service_addresses: Shards<IpAddr, ServiceKey>,
    /// Services without an address of their own that no waypoint stands before, by their endpoints outside the mesh:
    /// clients address those as DNS tells them.
    pub endpoints_outside: Shards<SocketAddr, ServiceKey>,
    /// What workloads exclude from the mesh, by UID; none for most.
    pub exclusions: Shards<Arc<str>, Arc<Exclusions>>,
    /// Where nodes are, by name, as far as they tell themselves or endpoints on them do.
    pub nodes: Shards<Arc<str>, Arc<Locality>>,
    /// Destinations outside the mesh that somebody described.
    pub external: ExternalServices,
    /// What users wrote that cannot be honoured, by object.
    pub problems: Shards<ObjectRef, Arc<[Problem]>>,
}

impl<K: Hash + Eq + Clone, V: Clone> Shards<K, V> {
    /// An empty map: it has no shard until there is something in it.
    pub fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: Box::default(),
            len: 0,
        }
    }

    /// The value at a key.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
    {
        self.shards.get(self.shard(key))?.get(key)
    }

    /// Sets a key; copies its shard if another snapshot shares it.
    pub fn insert(&mut self, key: K, value: V) {
        if self.shards.is_empty() {
            self.shards = vec![Arc::default(); SHARDS].into();
        }
        let shard = self.shard(&key);
        if Arc::make_mut(&mut self.shards[shard]).insert(key, value).is_none() {
            self.len += 1;
        }
    }

    /// Removes a key; copies its shard only if the key is there.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
    {
        let shard = self.shard(key);
        let there = self.shards.get(shard)?.contains_key(key);
        there.then(|| {
            self.len -= 1;
            Arc::make_mut(&mut self.shards[shard]).remove(key)
        })?
    }

    /// Every entry, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }

    /// Every value, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// How many entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether nothing changed from one to the other, which is known without a look at any entry: `false` may be said
    /// of equal ones.
    pub fn is(&self, other: &Self) -> bool {
        let mut both = self.shards.iter().zip(&other.shards);
        self.shards.len() == other.shards.len() && both.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    #[allow(clippy::cast_possible_truncation, reason = "only the low bits choose the shard")]
    fn shard<Q: Hash + ?Sized>(&self, key: &Q) -> usize {
        self.hasher.hash_one(key) as usize % SHARDS
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Default for Shards<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl Snapshot {
    /// The snapshot before anything is known: not complete.
    pub fn empty(mesh: Arc<MeshSettings>) -> Self {
        Self {
            version: 0,
            complete: false,
            mesh,
            workloads: Shards::new(),
            services: Shards::new(),
            waypoints: Shards::new(),
            workload_addresses: Shards::new(),
            service_addresses: Shards::new(),
            endpoints_outside: Shards::new(),
            exclusions: Shards::new(),
            nodes: Shards::new(),
            external: ExternalServices::default(),
            problems: Shards::new(),
        }
    }

    /// The workload with this UID.
    pub fn workload(&self, uid: &str) -> Option<&Arc<Workload>> {
        self.workloads.get(uid)
    }

    /// The workload that owns this address.
    pub fn workload_at(&self, address: IpAddr) -> Option<&Arc<Workload>> {
        self.workloads.get(self.workload_addresses.get(&address)?)
    }

    /// The Service at this address.
    pub fn service_at(&self, address: IpAddr) -> Option<&Arc<Service>> {
        self.services.get(self.service_addresses.get(&address)?)
    }

    /// The zone a workload runs in, if anybody tells: its own label (`topology.kubernetes.io/zone`, which newer
    /// clusters copy there from the node), else its node.
    pub fn zone_of<'a>(&'a self, workload: &'a Workload) -> Option<&'a Arc<str>> {
        let node = || self.nodes.get(&workload.node)?.zone.as_ref();
        workload.labels.get(ZONE).or_else(node)
    }

    /// The region a workload runs in, if anybody tells: as its zone, by `topology.kubernetes.io/region`.
    pub fn region_of<'a>(&'a self, workload: &'a Workload) -> Option<&'a Arc<str>> {
        let node = || self.nodes.get(&workload.node)?.region.as_ref();
        workload.labels.get(REGION).or_else(node)
    }

    /// Sets a workload and its addresses, taking away those it had before and no longer has.
    pub fn put_workload(&mut self, workload: Arc<Workload>) {
        self.remove_workload(&workload.uid);
        if workload.owns_addresses() {
            for address in &workload.addresses {
                self.workload_addresses.insert(*address, workload.uid.clone());
            }
        }
        self.workloads.insert(workload.uid.clone(), workload);
    }

    /// Removes a workload and the addresses that are still its own.
    pub fn remove_workload(&mut self, uid: &str) {
        let Some(old) = self.workloads.remove(uid) else { return };
        for address in &old.addresses {
            if self
                .workload_addresses
                .get(address)
                .is_some_and(|owner| **owner == *uid)
            {
                self.workload_addresses.remove(address);
            }
        }
    }

    /// Sets a Service and its addresses, taking away those it had before and no longer has.
    pub fn put_service(&mut self, service: Arc<Service>) {
        self.remove_service(&service.key);
        for address in &service.addresses {
            self.service_addresses.insert(*address, service.key.clone());
        }
        self.services.insert(service.key.clone(), service);
    }

    /// Removes a Service and the addresses that are still its own.
    pub fn remove_service(&mut self, key: &ServiceKey) {
        let Some(old) = self.services.remove(key) else { return };
        for address in &old.addresses {
            if self.service_addresses.get(address) == Some(key) {
                self.service_addresses.remove(address);
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{
        testing::{ip, pod, service, snapshot},
        *,
    };
    use crate::model::{Capture, Phase};

    fn shared<K, V>(a: &Shards<K, V>, b: &Shards<K, V>) -> usize {
        a.shards
            .iter()
            .zip(&b.shards)
            .filter(|(a, b)| Arc::ptr_eq(a, b))
            .count()
    }

    #[test]
    fn a_change_copies_one_shard() {
        let before: Shards<u32, u32> = (0..10_000).fold(Shards::new(), |mut map, key| {
            map.insert(key, key);
            map
        });
        let mut after = before.clone();
        after.insert(7, 8);
        assert_eq!(shared(&before, &after), SHARDS - 1);
        assert_eq!((before.get(&7), after.get(&7)), (Some(&7), Some(&8)));
    }

    #[test]
    fn removing_what_is_not_there_copies_nothing() {
        let mut before = Shards::new();
        before.insert(1, "one");
        let mut after = before.clone();
        assert_eq!(after.remove(&2), None);
        assert_eq!(shared(&before, &after), SHARDS);
        assert!(before.is(&after));
        assert_eq!(after.remove(&1), Some("one"));
        assert!(!before.is(&after));
        assert_eq!((before.len(), after.len(), after.is_empty()), (1, 0, true));
    }

    proptest! {
        #[test]
        fn shards_are_a_map(changes in prop::collection::vec((0u8..40, prop::option::of(any::<u8>())), 0..200)) {
            let (mut shards, mut map) = (Shards::new(), HashMap::new());
            for (key, value) in changes {
                match value {
                    Some(value) => {
                        shards.insert(key, value);
                        map.insert(key, value);
                    }
                    None => prop_assert_eq!(shards.remove(&key), map.remove(&key)),
                }
                prop_assert_eq!(shards.len(), map.len());
            }
            prop_assert_eq!(shards.iter().map(|(key, value)| (*key, *value)).collect::<HashMap<_, _>>(), map);
        }
    }

    #[test]
    fn workloads_and_services_are_found_by_address() {
        let web = pod("demo", "web", "10.1.0.2");
        let snapshot = snapshot(
            &[&web],
            &[&service("demo", "web", "10.2.0.1", (80, 8080), &[&web])],
            &[],
        );
        assert_eq!(&*snapshot.workload_at(ip("10.1.0.2")).expect("a workload").name, "web");
        assert_eq!(
            &*snapshot.service_at(ip("10.2.0.1")).expect("a Service").key.name,
            "web"
        );
        assert!(snapshot.workload_at(ip("10.2.0.1")).is_none());
        assert!(snapshot.workload("demo.web").is_some());
    }

    #[test]
    fn a_reused_address_belongs_to_the_later_pod_and_outlives_the_former() {
        let (old, new) = (pod("demo", "old", "10.1.0.2"), pod("demo", "new", "10.1.0.2"));
        let mut snapshot = snapshot(&[&old, &new], &[], &[]);
        snapshot.remove_workload(&old.uid);
        assert_eq!(&*snapshot.workload_at(ip("10.1.0.2")).expect("a workload").name, "new");
    }

    #[test]
    fn an_address_given_up_is_nobodys() {
        let before = pod("demo", "web", "10.1.0.2");
        let mut snapshot = snapshot(&[&before], &[], &[]);
        snapshot.put_workload(Arc::new(pod("demo", "web", "10.1.0.3")));
        assert!(snapshot.workload_at(ip("10.1.0.2")).is_none());
        assert!(snapshot.workload_at(ip("10.1.0.3")).is_some());
    }

    #[test]
    fn host_network_and_finished_pods_own_no_address() {
        let mut host = pod("demo", "host", "10.1.0.2");
        host.capture = Capture::HostNetwork;
        let mut done = pod("demo", "done", "10.1.0.3");
        done.phase = Phase::Finished;
        let snapshot = snapshot(&[&host, &done], &[], &[]);
        assert!(snapshot.workload_at(ip("10.1.0.2")).is_none() && snapshot.workload_at(ip("10.1.0.3")).is_none());
        assert!(snapshot.workload("demo.host").is_some());
    }

    #[test]
    fn an_older_snapshot_does_not_see_a_change() {
        let before = snapshot(&[&pod("demo", "web", "10.1.0.2")], &[], &[]);
        let mut after = before.clone();
        after.remove_workload("demo.web");
        assert!(before.workload("demo.web").is_some() && after.workload("demo.web").is_none());
    }

    #[test]
    fn a_services_address_goes_with_it_unless_another_has_it_by_now() {
        let (a, b) = (
            service("demo", "a", "10.2.0.1", (80, 80), &[]),
            service("demo", "b", "10.2.0.1", (80, 80), &[]),
        );
        let mut snapshot = snapshot(&[], &[&a, &b], &[]);
        snapshot.remove_service(&a.key);
        assert_eq!(
            snapshot.service_at(ip("10.2.0.1")).map(|it| it.key.clone()),
            Some(b.key.clone())
        );
        snapshot.remove_service(&b.key);
        assert!(snapshot.service_at(ip("10.2.0.1")).is_none());
    }
}
