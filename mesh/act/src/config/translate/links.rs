//! What referred to what when it was last translated, read backwards: who must be translated again.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
    sync::Arc,
};

use super::name::Name;
use crate::config::few::Few;

/// Something that names a waypoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Referrer {
    Namespace(Arc<str>),
    Account(Name),
    Service(Name),
    External(Name),
    Pod(Name),
}

/// Edges between translated things, each kept from both ends.
#[derive(Debug)]
pub(super) struct Links<A, B> {
    forward: HashMap<A, Few<B>>,
    backward: HashMap<B, Few<A>>,
}

impl<A: Hash + Eq + Ord + Clone, B: Hash + Eq + Ord + Clone> Links<A, B> {
    /// `from` refers to exactly these now.
    pub(super) fn set(&mut self, from: &A, to: BTreeSet<B>) {
        let old = self.forward.remove(from).unwrap_or_default();
        for gone in old.iter().filter(|it| !to.contains(it)) {
            if let Some(referrers) = self.backward.get_mut(gone) {
                referrers.remove(from);
                if referrers.is_empty() {
                    self.backward.remove(gone);
                }
            }
        }
        for new in to.iter().filter(|it| !old.contains(it)) {
            self.backward.entry(new.clone()).or_default().insert(from.clone());
        }
        if !to.is_empty() {
            self.forward.insert(from.clone(), to.into());
        }
    }

    /// Who refers to `to`.
    pub(super) fn referrers(&self, to: &B) -> impl Iterator<Item = &A> {
        self.backward.get(to).into_iter().flat_map(Few::iter)
    }

    /// Everything anybody refers to.
    pub(super) fn referents(&self) -> impl Iterator<Item = &B> {
        self.backward.keys()
    }
}

impl<A, B> Default for Links<A, B> {
    fn default() -> Self {
        Self {
            forward: HashMap::new(),
            backward: HashMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_replaces_what_was_and_leaves_nothing_behind() {
        let mut links = Links::default();
        links.set(&1, BTreeSet::from(["a", "b"]));
        links.set(&2, BTreeSet::from(["b"]));
        assert_eq!(links.referrers(&"b").collect::<Vec<_>>(), [&1, &2]);
        links.set(&1, BTreeSet::from(["c"]));
        assert_eq!(links.referrers(&"a").count(), 0);
        assert_eq!(links.referrers(&"b").collect::<Vec<_>>(), [&2]);
        links.set(&1, BTreeSet::new());
        links.set(&2, BTreeSet::new());
        assert!(links.forward.is_empty() && links.backward.is_empty());
    }
}
