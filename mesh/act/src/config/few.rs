//! A set that mostly holds one thing: such a one has no node of its own, of which there would be as many as objects.

use std::collections::BTreeSet;

/// An ordered set. Empty by default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Few<T> {
    One(T),
    /// None, or at least two.
    Other(BTreeSet<T>),
}

impl<T: Ord> Few<T> {
    pub(super) fn insert(&mut self, value: T) {
        match std::mem::take(self) {
            Self::Other(all) if all.is_empty() => *self = Self::One(value),
            Self::Other(mut all) => {
                all.insert(value);
                *self = Self::Other(all);
            }
            Self::One(one) => *self = BTreeSet::from([one, value]).into(),
        }
    }

    pub(super) fn remove(&mut self, value: &T) {
        match std::mem::take(self) {
            Self::One(one) if one == *value => {}
            Self::One(other) => *self = Self::One(other),
            Self::Other(mut all) => {
                all.remove(value);
                *self = all.into();
            }
        }
    }

    pub(super) fn contains(&self, value: &T) -> bool {
        match self {
            Self::One(one) => one == value,
            Self::Other(all) => all.contains(value),
        }
    }
}

impl<T> Few<T> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Other(all) if all.is_empty())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Other(all) => all.len(),
        }
    }

    /// The least.
    pub(super) fn first(&self) -> Option<&T> {
        self.iter().next()
    }

    /// In order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (one, other) = match self {
            Self::One(one) => (Some(one), None),
            Self::Other(all) => (None, Some(all)),
        };
        one.into_iter().chain(other.into_iter().flatten())
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self::Other(BTreeSet::new())
    }
}

impl<T: Ord> From<BTreeSet<T>> for Few<T> {
    fn from(mut all: BTreeSet<T>) -> Self {
        match all.len() {
            1 => all.pop_first().map_or_else(Self::default, Self::One),
            _ => Self::Other(all),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_an_ordered_set_would(steps in proptest::collection::vec((any::<bool>(), 0..6_u8), 0..40)) {
            let (mut few, mut all) = (Few::default(), BTreeSet::new());
            for (put, value) in steps {
                if put {
                    few.insert(value);
                    all.insert(value);
                } else {
                    few.remove(&value);
                    all.remove(&value);
                }
                prop_assert!(few.iter().eq(all.iter()));
                prop_assert_eq!((few.len(), few.is_empty(), few.first()), (all.len(), all.is_empty(), all.first()));
                prop_assert!((0..6).all(|value| few.contains(&value) == all.contains(&value)));
                prop_assert_eq!(&few, &Few::from(all.clone()), "one form for one set");
            }
        }
    }
}
