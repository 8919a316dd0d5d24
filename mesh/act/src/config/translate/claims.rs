//! Who owns what only one may own: an address, a UID. Whatever the order of arrival, the same one wins. And who shares what
//! many may: a label, a Service.

use std::{collections::HashMap, hash::Hash};

use crate::config::few::Few;

/// Claimants by what they claim; the least of them owns it.
#[derive(Debug)]
pub(super) struct Claims<K, C>(HashMap<K, Few<C>>);

impl<K: Hash + Eq, C: Ord> Claims<K, C> {
    pub(super) fn add(&mut self, key: K, claimant: C) {
        self.0.entry(key).or_default().insert(claimant);
    }

    pub(super) fn remove(&mut self, key: &K, claimant: &C) {
        if let Some(claimants) = self.0.get_mut(key) {
            claimants.remove(claimant);
            if claimants.is_empty() {
                self.0.remove(key);
            }
        }
    }

    pub(super) fn owner(&self, key: &K) -> Option<&C> {
        self.0.get(key)?.first()
    }

    /// How many claim it.
    pub(super) fn count(&self, key: &K) -> usize {
        self.0.get(key).map_or(0, Few::len)
    }

    /// In order.
    pub(super) fn all<'a>(&'a self, key: &K) -> impl Iterator<Item = &'a C> + use<'a, K, C> {
        self.0.get(key).into_iter().flat_map(Few::iter)
    }
}

impl<K, C> Default for Claims<K, C> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_claimant_owns_in_whatever_order_they_come_and_the_next_inherits() {
        for order in [[1, 2, 3], [3, 2, 1], [2, 3, 1]] {
            let mut claims = Claims::default();
            for claimant in order {
                claims.add("address", claimant);
            }
            assert_eq!(claims.owner(&"address"), Some(&1));
            assert_eq!(claims.count(&"address"), 3);
            assert!(claims.all(&"address").eq(&[1, 2, 3]));
            claims.remove(&"address", &1);
            assert_eq!(claims.owner(&"address"), Some(&2));
            claims.remove(&"address", &3);
            claims.remove(&"address", &2);
            assert_eq!((claims.owner(&"address"), claims.count(&"address")), (None, 0));
            assert!(claims.0.is_empty());
        }
    }
}
