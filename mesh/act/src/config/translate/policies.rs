//! Every AuthorizationPolicy, read, and by what it targets.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use decide::model::{Labels, Policy};

use super::{
    name::Name,
    policy::{CompiledPolicy, Scope, TargetKind, compile},
};
use crate::config::objects::Written;

/// Kubernetes kind of what this holds.
pub(super) const KIND: &str = "AuthorizationPolicy";

/// Every AuthorizationPolicy, read.
#[derive(Debug, Default)]
pub(super) struct Policies {
    all: BTreeMap<Name, Arc<CompiledPolicy>>,
    by_target: HashMap<(TargetKind, Name), BTreeSet<Name>>,
}

impl Policies {
    /// Sets or removes one; the scopes it had and has now.
    pub(super) fn set(&mut self, name: &Name, written: Option<&Written>) -> Vec<Scope> {
        let old = self.all.remove(name);
        let mut new = written.map(|written| compile(name.object(KIND), written));
        // The same Arc as long as it says the same (design 15).
        if let (Some(old), Some(new)) = (&old, &mut new)
            && old.policy == new.policy
        {
            new.policy = old.policy.clone();
        }
        let targets = |policy: &CompiledPolicy| match &policy.scope {
            Scope::Targets(targets) => targets.clone(),
            Scope::Selected(_) => Vec::new(),
        };
        for target in old.iter().flat_map(|old| targets(old)) {
            let key = (target.kind, target.name);
            if let Some(names) = self.by_target.get_mut(&key) {
                names.remove(name);
                if names.is_empty() {
                    self.by_target.remove(&key);
                }
            }
        }
        for target in new.iter().flat_map(&targets) {
            let names = self.by_target.entry((target.kind, target.name)).or_default();
            names.insert(name.clone());
        }
        let scopes = old
            .iter()
            .map(|it| it.scope.clone())
            .chain(new.iter().map(|it| it.scope.clone()));
        let scopes = scopes.collect();
        if let Some(new) = new {
            self.all.insert(name.clone(), Arc::new(new));
        }
        scopes
    }

    pub(super) fn get(&self, name: &Name) -> Option<&Arc<CompiledPolicy>> {
        self.all.get(name)
    }

    /// Names of the policies that target this.
    pub(super) fn targeting_names(&self, kind: TargetKind, target: &Name) -> impl Iterator<Item = &Name> {
        self.by_target.get(&(kind, target.clone())).into_iter().flatten()
    }

    /// The policies that target this, by name.
    pub(super) fn targeting(&self, kind: TargetKind, target: &Name) -> impl Iterator<Item = &Arc<Policy>> {
        self.targeting_names(kind, target)
            .filter_map(|name| self.all.get(name))
            .map(|compiled| &compiled.policy)
    }

    /// What judges an object of this kind that may stand behind the waypoint of a Gateway: the policies that target
    /// either, in the order of a policy set.
    pub(super) fn judging(&self, kind: TargetKind, target: &Name, gateway: Option<&Name>) -> Vec<Arc<Policy>> {
        let of_gateway = gateway
            .into_iter()
            .flat_map(|gateway| self.targeting(TargetKind::Gateway, gateway));
        let mut policies: Vec<Arc<Policy>> = self.targeting(kind, target).chain(of_gateway).cloned().collect();
        policies.sort_unstable_by(|a, b| (a.action, &a.object).cmp(&(b.action, &b.object)));
        policies.dedup_by(|a, b| a.object == b.object);
        policies
    }

    /// The policies of a namespace that select pods with these labels.
    pub(super) fn selecting<'a>(
        &'a self,
        namespace: &'a Arc<str>,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Arc<CompiledPolicy>> {
        self.all
            .range(Name::new(namespace, "")..)
            .take_while(move |(name, _)| name.namespace == *namespace)
            .map(|(_, compiled)| compiled)
            .filter(|compiled| matches!(&compiled.scope, Scope::Selected(selector) if selector.matches(labels)))
    }
}
