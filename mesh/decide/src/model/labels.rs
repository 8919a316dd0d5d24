//! Labels, and annotations, of an object.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Serialize, Serializer};

/// Keys and their values, each key once, in order: a slice, since most objects have a few and a tree's node has room for
/// eleven. A clone shares it. Collected from pairs, the last one with a key counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| value)
    }

    /// Every key with its value, in order of keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// These, and this one: in place of what the key had, if it is there.
    #[must_use]
    pub fn with(&self, key: Arc<str>, value: Arc<str>) -> Self {
        self.0.iter().cloned().chain([(key, value)]).collect()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether each of these is one of `others`, too: what a selector asks of what it selects.
    pub fn is_subset_of(&self, others: &Self) -> bool {
        self.iter().all(|(key, value)| others.get(key) == Some(value))
    }
}

impl FromIterator<(Arc<str>, Arc<str>)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(pairs: I) -> Self {
        Self(BTreeMap::from_iter(pairs).into_iter().collect())
    }
}

impl Serialize for Labels {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(self.iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).into(), (*value).into()))
            .collect()
    }

    #[test]
    fn each_key_is_found_with_the_value_written_last() {
        let some = labels(&[("b", "1"), ("a", "2"), ("b", "3")]);
        assert_eq!(some.get("a").map(|it| &**it), Some("2"));
        assert_eq!(some.get("b").map(|it| &**it), Some("3"));
        assert_eq!((some.get("c"), some.iter().count()), (None, 2));
        assert_eq!(serde_json::to_string(&some).unwrap(), r#"{"a":"2","b":"3"}"#);
        assert_eq!(some.with("b".into(), "4".into()), labels(&[("a", "2"), ("b", "4")]));
        assert!(labels(&[]).is_empty());
    }

    #[test]
    fn labels_that_are_all_there_are_a_subset() {
        let some = labels(&[("a", "1"), ("b", "2")]);
        for (wanted, subset) in [
            (&[][..], true),
            (&[("a", "1")], true),
            (&[("a", "1"), ("b", "2")], true),
            (&[("a", "2")], false),
            (&[("c", "1")], false),
        ] {
            assert_eq!(labels(wanted).is_subset_of(&some), subset, "{wanted:?}");
        }
    }
}
