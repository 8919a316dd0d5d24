//! Which ExternalService a connection or a name means, as the pods of one namespace see it.
//!
//! What the mesh as a whole knows comes first: no namespace takes a destination away from what the mesh's operator
//! said of it. Then what the namespace itself knows. Within each, the longest network and the longest name count.

use std::{
    net::IpAddr,
    sync::{Arc, LazyLock},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Shards;
use crate::model::{ExternalService, ServiceKey};

/// Every ExternalService, by what it is found by. A scope is a namespace; the empty one is the mesh.
#[derive(Debug, Clone, Default)]
pub struct ExternalServices {
    all: Shards<ServiceKey, Arc<ExternalService>>,
    networks: Shards<(Arc<str>, IpNet), ServiceKey>,
    hosts: Shards<(Arc<str>, Arc<str>), ServiceKey>,
    scopes: Shards<Arc<str>, Extent>,
    /// How many of each scope the mesh answers names for.
    answering: Shards<Arc<str>, usize>,
}

/// What a scope holds, so that little of it need be tried.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Extent {
    /// How many networks there are of each length; IPv6 after IPv4.
    lengths: Vec<(bool, u8, usize)>,
    /// How many hosts.
    hosts: usize,
}

impl ExternalServices {
    /// Every one, in no order.
    pub fn values(&self) -> impl Iterator<Item = &Arc<ExternalService>> {
        self.all.values()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether none was changed, made or removed from one to the other; `false` may be said of equal ones.
    pub fn is(&self, other: &Self) -> bool {
        self.all.is(&other.all)
    }

    /// The one of this namespace and name.
    pub fn get(&self, key: &ServiceKey) -> Option<&Arc<ExternalService>> {
        self.all.get(key)
    }

    /// What an address means to the pods of a namespace.
    pub fn at(&self, namespace: &Arc<str>, address: IpAddr) -> Option<&Arc<ExternalService>> {
        if self.is_empty() {
            return None;
        }
        let address = address.to_canonical();
        let in_scope = |scope: &Arc<str>| {
            let extent = self.scopes.get(scope)?;
            let lengths = extent.lengths.iter().filter(|(v6, ..)| *v6 == address.is_ipv6());
            lengths
                .filter_map(|(_, length, _)| network(address, *length))
                .find_map(|network| self.networks.get(&(scope.clone(), network)))
        };
        self.all.get(in_scope(&mesh()).or_else(|| in_scope(namespace))?)
    }

    /// What a name means to the pods of a namespace: exactly it, else the closest `*.` above it. Upper case and a dot
    /// at the end do not matter.
    pub fn named(&self, namespace: &Arc<str>, host: &str) -> Option<&Arc<ExternalService>> {
        if self.is_empty() {
            return None;
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        let in_scope = |scope: &Arc<str>| {
            self.scopes.get(scope).filter(|extent| extent.hosts > 0)?;
            let find = |host: &str| self.hosts.get(&(scope.clone(), Arc::from(host)));
            find(&host).or_else(|| {
                let dots = host.match_indices('.').map(|(at, _)| at);
                dots.take(MOST_LABELS)
                    .find_map(|at| find(&format!("*{}", host.get(at..)?)))
            })
        };
        self.all.get(in_scope(&mesh()).or_else(|| in_scope(namespace))?)
    }

    /// Whether any name at all is known to the pods of a namespace.
    pub fn knows_names(&self, namespace: &str) -> bool {
        let in_scope = |scope: &str| self.scopes.get(scope).is_some_and(|extent| extent.hosts > 0);
        in_scope(MESH) || in_scope(namespace)
    }

    /// Whose everything is that is found, by scope and what it is: for who compares snapshots.
    pub fn claims(&self) -> impl Iterator<Item = (String, ServiceKey)> {
        let networks = self.networks.iter();
        let networks = networks.map(|((scope, network), owner)| (format!("{scope} {network}"), owner.clone()));
        let hosts = self.hosts.iter();
        networks.chain(hosts.map(|((scope, host), owner)| (format!("{scope} {host}"), owner.clone())))
    }

    /// Whether the mesh answers any name of the pods of a namespace.
    pub fn answers_names(&self, namespace: &str) -> bool {
        self.answering.get(MESH).is_some() || self.answering.get(namespace).is_some()
    }

    /// Sets one, without anything it is found by.
    pub fn put(&mut self, service: Arc<ExternalService>) {
        self.remove(&service.key);
        self.count_answering(&service, 1);
        self.all.insert(service.key.clone(), service);
    }

    /// Removes one; what it was found by is for [`Self::own_network`] and [`Self::own_host`] to give to another.
    pub fn remove(&mut self, key: &ServiceKey) -> bool {
        let Some(removed) = self.all.remove(key) else {
            return false;
        };
        self.count_answering(&removed, -1);
        true
    }

    /// Says whose a network is in a scope (`None`: the mesh); whether that is news.
    pub fn own_network(&mut self, scope: Option<&Arc<str>>, network: IpNet, owner: Option<ServiceKey>) -> bool {
        let scope = scope.cloned().unwrap_or_else(mesh);
        let key = (scope.clone(), network);
        let before = self.networks.get(&key).cloned();
        if before == owner {
            return false;
        }
        let counted = isize::from(owner.is_some()) - isize::from(before.is_some());
        set(&mut self.networks, key, owner);
        self.count(&scope, |extent| extent.count_network(&network, counted));
        true
    }

    /// Says whose a host is in a scope (`None`: the mesh); whether that is news.
    pub fn own_host(&mut self, scope: Option<&Arc<str>>, host: &Arc<str>, owner: Option<ServiceKey>) -> bool {
        let scope = scope.cloned().unwrap_or_else(mesh);
        let key = (scope.clone(), host.clone());
        let before = self.hosts.get(&key).cloned();
        if before == owner {
            return false;
        }
        let counted = isize::from(owner.is_some()) - isize::from(before.is_some());
        set(&mut self.hosts, key, owner);
        self.count(&scope, |extent| {
            extent.hosts = extent.hosts.saturating_add_signed(counted)
        });
        true
    }

    fn count_answering(&mut self, service: &ExternalService, by: isize) {
        if service.answers().next().is_none() {
            return;
        }
        let scope = service.scope().cloned().unwrap_or_else(mesh);
        let count = self.answering.get(&scope).copied().unwrap_or_default();
        let count = count.saturating_add_signed(by);
        set(&mut self.answering, scope, (count > 0).then_some(count));
    }

    fn count(&mut self, scope: &Arc<str>, change: impl FnOnce(&mut Extent)) {
        let mut extent = self.scopes.get(scope).cloned().unwrap_or(Extent {
            lengths: Vec::new(),
            hosts: 0,
        });
        change(&mut extent);
        let is_empty = extent.lengths.is_empty() && extent.hosts == 0;
        set(&mut self.scopes, scope.clone(), (!is_empty).then_some(extent));
    }
}

impl Extent {
    /// Longest first, so that the first that is found is the one that counts.
    fn count_network(&mut self, network: &IpNet, by: isize) {
        let key = (matches!(network, IpNet::V6(_)), network.prefix_len());
        match self.lengths.iter().position(|(v6, length, _)| (*v6, *length) == key) {
            Some(at) => self.lengths[at].2 = self.lengths[at].2.saturating_add_signed(by),
            None => self.lengths.push((key.0, key.1, by.max(0).unsigned_abs())),
        }
        self.lengths.retain(|(.., count)| *count > 0);
        self.lengths
            .sort_unstable_by_key(|(v6, length, _)| (*v6, u8::MAX - length));
    }
}

/// Labels of a name that are looked at: a name has at most 127.
const MOST_LABELS: usize = 127;
const MESH: &str = "";

/// The scope of the mesh. One for all: it is asked for a connection.
fn mesh() -> Arc<str> {
    static SCOPE: LazyLock<Arc<str>> = LazyLock::new(|| MESH.into());
    SCOPE.clone()
}

fn network(address: IpAddr, length: u8) -> Option<IpNet> {
    Some(match address {
        IpAddr::V4(address) => Ipv4Net::new(address, length).ok()?.trunc().into(),
        IpAddr::V6(address) => Ipv6Net::new(address, length).ok()?.trunc().into(),
    })
}

fn set<K: std::hash::Hash + Eq + Clone, V: Clone>(shards: &mut Shards<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => shards.insert(key, value),
        None => drop(shards.remove(&key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::testing::{external, ip};

    /// The ExternalServices with everything they claim.
    fn known(services: &[ExternalService]) -> ExternalServices {
        let mut known = ExternalServices::default();
        for service in services {
            let scope = service.scope().cloned();
            for network in &service.networks {
                known.own_network(scope.as_ref(), *network, Some(service.key.clone()));
            }
            for host in &service.hosts {
                known.own_host(scope.as_ref(), host, Some(service.key.clone()));
            }
            known.put(Arc::new(service.clone()));
        }
        known
    }

    fn name(found: Option<&Arc<ExternalService>>) -> Option<&str> {
        found.map(|service| &*service.key.name)
    }

    #[test]
    fn the_longest_network_that_holds_an_address_counts() {
        let known = known(&[
            external("shop", "wide", &["a.example"], &["192.0.0.0/16", "2001:db8::/32"]),
            external("shop", "near", &["b.example"], &["192.0.2.0/24"]),
            external("shop", "one", &["c.example"], &["192.0.2.7", "2001:db8::7"]),
        ]);
        let shop = Arc::from("shop");
        for (address, expected) in [
            ("192.0.2.7", Some("one")),
            ("192.0.2.8", Some("near")),
            ("192.0.3.8", Some("wide")),
            ("192.1.0.1", None),
            ("2001:db8::7", Some("one")),
            ("2001:db8::8", Some("wide")),
            ("2001:db9::8", None),
            ("::ffff:192.0.2.7", Some("one")),
        ] {
            assert_eq!(name(known.at(&shop, ip(address))), expected, "{address}");
        }
        assert_eq!(name(known.at(&"other".into(), ip("192.0.2.7"))), None);
    }

    #[test]
    fn a_name_is_found_exactly_and_else_by_the_closest_wildcard_above_it() {
        let known = known(&[
            external("shop", "all", &["*.example.com"], &[]),
            external("shop", "deep", &["*.eu.example.com"], &[]),
            external("shop", "one", &["api.example.com"], &[]),
        ]);
        let shop = Arc::from("shop");
        for (host, expected) in [
            ("api.example.com", Some("one")),
            ("API.Example.com.", Some("one")),
            ("www.example.com", Some("all")),
            ("a.b.example.com", Some("all")),
            ("a.eu.example.com", Some("deep")),
            ("eu.example.com", Some("all")),
            ("example.com", None),
            ("notexample.com", None),
            ("", None),
            (".", None),
        ] {
            assert_eq!(name(known.named(&shop, host)), expected, "{host}");
        }
        assert!(known.knows_names("shop") && !known.knows_names("other"));
    }

    #[test]
    fn what_the_mesh_knows_comes_before_what_a_namespace_knows() {
        let of_mesh = ExternalService {
            visibility: crate::model::Visibility::Mesh,
            ..external("weft-system", "mesh", &["*.example.com"], &["192.0.2.0/24"])
        };
        let known = known(&[
            of_mesh,
            external(
                "shop",
                "own",
                &["api.example.com", "own.example"],
                &["192.0.2.7", "192.0.3.7"],
            ),
        ]);
        let (shop, other) = (Arc::from("shop"), Arc::from("other"));
        assert_eq!(name(known.at(&shop, ip("192.0.2.7"))), Some("mesh"));
        assert_eq!(name(known.at(&shop, ip("192.0.3.7"))), Some("own"));
        assert_eq!(name(known.at(&other, ip("192.0.3.7"))), None);
        assert_eq!(name(known.named(&shop, "api.example.com")), Some("mesh"));
        assert_eq!(name(known.named(&shop, "own.example")), Some("own"));
        assert!(known.knows_names("other"));
    }

    #[test]
    fn what_is_given_up_is_forgotten_without_trace() {
        let service = external("shop", "one", &["a.example"], &["192.0.2.7", "192.0.2.0/24"]);
        let mut known = known(std::slice::from_ref(&service));
        let scope = service.scope().cloned();
        for network in &service.networks {
            assert!(known.own_network(scope.as_ref(), *network, None));
            assert!(!known.own_network(scope.as_ref(), *network, None));
        }
        assert!(known.own_host(scope.as_ref(), &service.hosts[0], None));
        assert!(known.remove(&service.key));
        assert!(known.is_empty() && known.scopes.is_empty() && known.networks.is_empty() && known.hosts.is_empty());
    }

    #[test]
    fn virtual_addresses_answer_names_and_real_ones_do_not() {
        let mut service = external(
            "shop",
            "one",
            &["a.example"],
            &["192.0.2.7", "192.0.3.0/24", "2001:db8::7"],
        );
        assert_eq!(service.answers().count(), 0);
        let mut known = known(std::slice::from_ref(&service));
        assert!(!known.answers_names("shop"));
        service.resolution = crate::model::Resolution::Dns;
        assert_eq!(
            service.answers().collect::<Vec<_>>(),
            [ip("192.0.2.7"), ip("2001:db8::7")]
        );
        known.put(Arc::new(service.clone()));
        known.put(Arc::new(service.clone()));
        assert!(known.answers_names("shop") && !known.answers_names("other"));
        known.remove(&service.key);
        assert!(!known.answers_names("shop"));
    }
}
