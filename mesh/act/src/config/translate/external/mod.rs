//! ExternalServices: what is claimed, whose it is, and where its connections go.
//!
//! One that cannot be read whole keeps what could be read of its hosts and addresses, and refuses what goes there:
//! nobody knows what was meant.

mod reading;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use decide::model::{AppliedPolicy, EXTERNAL_SERVICE, ExternalService, PolicySet, Visibility, WaypointFor};
use ipnet::IpNet;

use self::reading::Reading;
use super::{
    Translation,
    claims::Claims,
    links::{Links, Referrer},
    name::Name,
    policy::TargetKind,
    problem::Part,
    service::known_or_new,
    store::ServiceClaim,
    waypoint::{Binding, bind, label_problems, reference},
};
use crate::config::objects::{FieldError, Written};

/// A namespace, or (`None`) the mesh.
type Scope = Option<Arc<str>>;

/// Every ExternalService, read, and what they claim.
#[derive(Debug, Default)]
pub(super) struct Externals {
    all: HashMap<Name, Compiled>,
    claims: Claims<(Scope, Claimed), ServiceClaim>,
    /// Who claims what, in whatever scope.
    claimed: Links<Name, Claimed>,
}

/// What only one of a scope may own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Claimed {
    Network(IpNet),
    Host(Arc<str>),
}

/// One, read for itself.
#[derive(Debug, Clone)]
struct Compiled {
    service: Arc<ExternalService>,
    claim: ServiceClaim,
    /// The Gateway its label names, whether it exists or not.
    named: Option<Name>,
    found: Vec<FieldError>,
}

/// What may have changed hands.
type Touched = BTreeSet<(Scope, Claimed)>;

impl Translation {
    pub(super) fn settle_externals(&mut self) {
        let mut touched = Touched::default();
        for name in std::mem::take(&mut self.dirty.externals) {
            self.work.externals += 1;
            let written = self.store.externals.get(&name).cloned();
            let new = written.as_ref().map(|written| self.compile_external(&name, written));
            self.externals.set(&name, new.clone(), &mut touched);
            let named = new.as_ref().and_then(|new| new.named.clone());
            self.waypoints_named
                .set(&Referrer::External(name.clone()), named.into_iter().collect());
            let known = self.snapshot.external.get(&name.service_key());
            if known.map(|it| &it.waypoint) != new.as_ref().map(|new| &new.service.waypoint) {
                let targeting = self.policies.targeting_names(TargetKind::ExternalService, &name);
                self.dirty.policy_problems.extend(targeting.cloned());
            }
            match new.map(|new| new.service) {
                Some(new) if known == Some(&new) => {}
                Some(new) => {
                    self.snapshot.external.put(new);
                    self.changed = true;
                }
                None => self.changed |= self.snapshot.external.remove(&name.service_key()),
            }
            self.dirty.external_problems.insert(name);
        }
        self.settle_external_owners(touched);
        for name in std::mem::take(&mut self.dirty.external_problems) {
            self.tell_external(&name);
        }
    }

    fn settle_external_owners(&mut self, touched: Touched) {
        for at in touched {
            let owner = self.externals.claims.owner(&at).map(|claim| claim.2.service_key());
            let (scope, external) = (at.0.as_ref(), &mut self.snapshot.external);
            self.changed |= match &at.1 {
                Claimed::Network(network) => external.own_network(scope, *network, owner),
                Claimed::Host(host) => external.own_host(scope, host, owner),
            };
            let claimants = self.externals.claimed.referrers(&at.1).cloned();
            self.dirty.external_problems.extend(claimants);
        }
    }

    fn compile_external(&self, name: &Name, written: &Written) -> Compiled {
        let mut reading = Reading::default();
        let mut service = reading.service(name, written);
        service.broken = reading.found.first().map(|first| first.field.as_str().into());
        let Reading { mut found, notes } = reading;
        found.extend(notes);
        let mesh = &self.snapshot.mesh;
        if service.visibility == Visibility::Mesh && name.namespace != mesh.root_namespace {
            service.visibility = Visibility::Namespace;
            found.push(FieldError::new(
                "spec.visibility",
                format!(
                    "is Mesh outside the root namespace {}: it counts for the pods of its own namespace alone.",
                    mesh.root_namespace
                ),
                "Write it in the root namespace, or visibility Namespace.",
            ));
        }
        let ranges = || mesh.pod_ranges.iter().chain(&mesh.service_ranges);
        for network in &service.networks {
            if ranges().any(|range| range.contains(network)) {
                found.push(FieldError::new(
                    "spec.addresses",
                    format!("{network} lies in the mesh's own pod or Service ranges, where it means nothing."),
                    "Choose addresses outside these ranges.",
                ));
            }
        }
        let reference = reference(&written.metadata, &name.namespace);
        let binding = bind(&self.store, mesh, reference, &name.namespace, WaypointFor::Service);
        service.waypoint.clone_from(&binding.key);
        service.policies = self.judging_outside(name, &binding);
        let before = self.externals.all.get(name).map(|before| &before.service);
        let service = match before {
            Some(before) if **before == service => before.clone(),
            _ => Arc::new(service),
        };
        Compiled {
            service,
            claim: ServiceClaim::new(&written.metadata, name),
            named: binding.named,
            found,
        }
    }

    /// Policies that target it, or its waypoint. The same `Arc` as long as they are the same (design 15).
    fn judging_outside(&self, name: &Name, binding: &Binding) -> Arc<PolicySet> {
        let gateway = binding.gateway();
        let policies = self
            .policies
            .judging(TargetKind::ExternalService, name, gateway.as_ref());
        let applied = policies.into_iter().map(|policy| AppliedPolicy { policy, ports: None });
        let policies = PolicySet {
            policies: applied.collect(),
            ..PolicySet::default()
        };
        let before = self.externals.all.get(name).map(|before| &before.service.policies);
        known_or_new(policies, [before, Some(&self.unjudged)])
    }

    /// What was read wrong, and what belongs to another.
    fn tell_external(&mut self, name: &Name) {
        let object = name.object(EXTERNAL_SERVICE);
        let Some(compiled) = self.externals.all.get(name) else {
            self.problems.set(object.clone(), Part::Object, Vec::new());
            self.problems.set(object, Part::References, Vec::new());
            return;
        };
        let mut found = compiled.found.clone();
        let scope = compiled.service.scope().cloned();
        for claimed in claimed(&compiled.service) {
            let owner = |scope: &Scope| self.externals.claims.owner(&(scope.clone(), claimed.clone()));
            let owner = owner(&None).or_else(|| owner(&scope)).map(|claim| &claim.2);
            let other = owner.filter(|owner| *owner != name);
            found.extend(other.map(|owner| taken(name, owner, &claimed)));
        }
        let metadata = self.store.externals.get(name).map(|written| &written.metadata);
        let labels = metadata.map(|metadata| label_problems(&self.store, metadata, &name.namespace));
        self.problems.set(object.clone(), Part::Object, found);
        self.problems.set(object, Part::References, labels.unwrap_or_default());
    }
}

/// Everything an ExternalService claims.
fn claimed(service: &ExternalService) -> impl Iterator<Item = Claimed> {
    let networks = service.networks.iter().map(|network| Claimed::Network(*network));
    networks.chain(service.hosts.iter().cloned().map(Claimed::Host))
}

/// The problem of a claim that is another's.
fn taken(name: &Name, owner: &Name, claimed: &Claimed) -> FieldError {
    let why = if owner.namespace == name.namespace {
        "is older"
    } else {
        "counts for the whole mesh"
    };
    let (field, shown) = match claimed {
        Claimed::Network(network) => ("spec.addresses", network.to_string()),
        Claimed::Host(host) => ("spec.hosts", host.to_string()),
    };
    FieldError::new(
        field,
        format!("{shown} belongs to ExternalService {owner}, which {why}; this one is not reached by it."),
        "Leave it to one of the two.",
    )
}

impl Externals {
    /// Whether it is known, and no waypoint stands before it.
    pub(super) fn is_bare(&self, name: &Name) -> bool {
        let known = self.all.get(name);
        known.is_some_and(|known| known.service.waypoint.is_none())
    }

    /// Sets or removes one, and its claims.
    fn set(&mut self, name: &Name, new: Option<Compiled>, touched: &mut Touched) {
        let old = match new.clone() {
            Some(new) => self.all.insert(name.clone(), new),
            None => self.all.remove(name),
        };
        let all = new.iter().flat_map(|new| claimed(&new.service)).collect();
        self.claimed.set(name, all);
        for (compiled, is_new) in [(old, false), (new, true)] {
            let Some(Compiled { service, claim, .. }) = compiled else {
                continue;
            };
            for claimed in claimed(&service) {
                let at = (service.scope().cloned(), claimed);
                touched.insert(at.clone());
                if is_new {
                    self.claims.add(at, claim.clone());
                } else {
                    self.claims.remove(&at, &claim);
                }
            }
        }
    }
}
