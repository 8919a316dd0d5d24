//! Words that many objects have in common (namespaces, keys of labels, names of nodes and ports) are in memory once.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use decide::model::Labels;
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use super::read::or_default;

/// What is longer nobody has in common, in bytes: as long as a value of a label may be, and then some.
const LONGEST: usize = 128;
/// So many words at least are looked through for those that nobody uses any more.
const FEWEST: usize = 1024;

thread_local! {
    static KNOWN: RefCell<Words> = RefCell::default();
}

/// The words that a thread has read. At most as many again as are used are kept that nobody uses any more.
#[derive(Debug, Default)]
struct Words {
    known: HashSet<Arc<str>>,
    /// From how many on it is looked through.
    most: usize,
}

/// The word as it is known already, or as it is from now on.
pub(in crate::config) fn word(text: &str) -> Arc<str> {
    match text.len() {
        0 => Arc::default(),
        1..=LONGEST => KNOWN.with_borrow_mut(|words| words.get(text)),
        _ => text.into(),
    }
}

/// A field that holds a word; an explicit `null` reads as if it were not there.
pub(super) fn read_word<'de, D: Deserializer<'de>>(input: D) -> Result<Arc<str>, D::Error> {
    or_default(input).map(|Word(word)| word)
}

/// A field that may hold a word.
pub(super) fn read_word_if_any<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Arc<str>>, D::Error> {
    Ok(Option::deserialize(input)?.map(|Word(word)| word))
}

/// A field that holds labels; an explicit `null` reads as if it were not there.
pub(super) fn read_labels<'de, D: Deserializer<'de>>(input: D) -> Result<Labels, D::Error> {
    let pairs: Option<BTreeMap<Word, Word>> = Option::deserialize(input)?;
    let pairs = pairs.into_iter().flatten();
    Ok(pairs.map(|(Word(key), Word(value))| (key, value)).collect())
}

#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Word(Arc<str>);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Word;

            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("a string")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(word(text)))
            }
        }
        input.deserialize_str(Text)
    }
}

impl Words {
    fn get(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        if self.known.len() >= self.most {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.most = FEWEST.max(self.known.len() * 2);
        }
        let new: Arc<str> = text.into();
        self.known.insert(new.clone());
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::objects::Metadata;

    #[test]
    fn a_word_is_there_once_and_one_too_long_to_be_shared_is_not_kept() {
        assert!(Arc::ptr_eq(&word("shop"), &word("shop")));
        let long = "a".repeat(LONGEST + 1);
        assert!(!Arc::ptr_eq(&word(&long), &word(&long)));
    }

    #[test]
    fn objects_that_are_read_share_their_words() {
        let read = |name: &str| {
            let metadata = serde_json::json!({"name": name, "namespace": "shop", "labels": {"app": "web"}});
            let object = serde_json::json!({"kind": "Namespace", "metadata": metadata});
            Metadata::read(&object, false).unwrap()
        };
        let (one, other) = (read("a"), read("b"));
        assert!(Arc::ptr_eq(&one.namespace, &other.namespace));
        for ((key, value), (other_key, other_value)) in one.labels.iter().zip(other.labels.iter()) {
            assert!(Arc::ptr_eq(key, other_key) && Arc::ptr_eq(value, other_value));
        }
        assert_eq!(one.labels.iter().count(), 1);
    }

    #[test]
    fn words_that_nobody_uses_any_more_are_forgotten() {
        let mut words = Words::default();
        let used: Vec<Arc<str>> = (0..FEWEST).map(|at| words.get(&format!("used-{at}"))).collect();
        for at in 0..20 * FEWEST {
            words.get(&format!("unused-{at}"));
            assert!(words.known.len() <= 2 * used.len() + 1, "{}", words.known.len());
        }
        for (at, word) in used.iter().enumerate() {
            assert!(Arc::ptr_eq(word, &words.get(&format!("used-{at}"))));
        }
    }
}
