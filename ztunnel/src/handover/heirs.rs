//! Which younger ztunnels there are, and what they have taken from us. Pure.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

/// Pods that one heir may take: more than a node can have.
const MOST: usize = 8192;

/// The younger ztunnels that live, by the number of their connection.
#[derive(Debug, Default)]
pub struct Heirs {
    heirs: BTreeMap<u64, Heir>,
}

#[derive(Debug, Default)]
struct Heir {
    /// Pods it accepts for.
    taken: HashSet<Arc<str>>,
    /// Whether it accepts for all that we accepted for.
    done: bool,
}

impl Heirs {
    /// One has come.
    pub fn join(&mut self, heir: u64) {
        self.heirs.insert(heir, Heir::default());
    }

    /// One is gone. Answers the pods that nobody younger accepts for any more.
    pub fn leave(&mut self, heir: u64) -> Vec<Arc<str>> {
        let Some(gone) = self.heirs.remove(&heir) else {
            return Vec::new();
        };
        gone.taken.into_iter().filter(|uid| !self.hold(uid)).collect()
    }

    /// An heir accepts for a pod now, on the sockets `theirs`. It must have all that are open here, `ours`: a queue that
    /// nobody accepts from would lose what is in it.
    ///
    /// # Errors
    /// Why it does not count: it must ask for the listeners first.
    pub fn take(&mut self, heir: u64, uid: &Arc<str>, ours: &[u64], theirs: &[u64]) -> Result<(), String> {
        let Some(heir) = self.heirs.get_mut(&heir) else {
            return Err("nobody knows you".to_owned());
        };
        if !ours.iter().all(|socket| theirs.contains(socket)) {
            return Err(format!("other listeners of {uid} are open here: ask for them"));
        }
        if heir.taken.len() >= MOST && !heir.taken.contains(uid) {
            return Err(format!("you have taken {MOST} pods already"));
        }
        heir.taken.insert(uid.clone());
        Ok(())
    }

    /// Whether somebody younger accepts for a pod.
    pub fn hold(&self, uid: &str) -> bool {
        self.heirs.values().any(|heir| heir.taken.contains(uid))
    }

    /// An heir asks whether it has everything of these, the pods we accept for.
    ///
    /// # Errors
    /// What it has not.
    pub fn finish<'a>(&mut self, heir: u64, ours: impl IntoIterator<Item = &'a Arc<str>>) -> Result<(), String> {
        let Some(heir) = self.heirs.get_mut(&heir) else {
            return Err("nobody knows you".to_owned());
        };
        match ours.into_iter().find(|uid| !heir.taken.contains(*uid)) {
            Some(uid) => Err(format!("{uid} has not been taken over")),
            None => {
                heir.done = true;
                Ok(())
            }
        }
    }

    /// Whether no younger ztunnel lives.
    pub fn are_none(&self) -> bool {
        self.heirs.is_empty()
    }

    /// Whether a younger ztunnel has taken everything over.
    pub fn have_all(&self) -> bool {
        self.heirs.values().any(|heir| heir.done)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uid(uid: &str) -> Arc<str> {
        uid.into()
    }

    #[test]
    fn a_pod_comes_back_when_the_last_heir_that_took_it_is_gone() {
        let mut heirs = Heirs::default();
        let pod = uid("a");
        heirs.join(1);
        heirs.join(2);
        heirs.take(1, &pod, &[], &[]).unwrap();
        heirs.take(2, &pod, &[], &[5]).unwrap();
        assert!(heirs.hold("a"));
        assert!(heirs.leave(1).is_empty());
        assert!(heirs.hold("a"));
        assert_eq!(heirs.leave(2), [pod]);
        assert!(!heirs.hold("a"));
        assert!(heirs.leave(2).is_empty());
    }

    #[test]
    fn no_queue_is_left_behind_that_the_heir_does_not_have() {
        let mut heirs = Heirs::default();
        let pod = uid("a");
        heirs.join(1);
        for theirs in [&[][..], &[9], &[5], &[6, 9]] {
            let refused = heirs.take(1, &pod, &[5, 6], theirs).unwrap_err();
            assert!(refused.contains("ask for them"), "{theirs:?}");
            assert!(!heirs.hold("a"));
        }
        heirs.take(1, &pod, &[5, 6], &[6, 9, 5]).unwrap();
        assert!(heirs.hold("a"));
        assert!(heirs.take(7, &pod, &[], &[]).is_err(), "a stranger takes nothing");
    }

    #[test]
    fn an_heir_is_done_when_it_has_everything() {
        let mut heirs = Heirs::default();
        let (a, b) = (uid("a"), uid("b"));
        heirs.join(1);
        heirs.take(1, &a, &[], &[]).unwrap();
        assert!(heirs.finish(1, [&a, &b]).unwrap_err().contains("b has not"));
        assert!(!heirs.have_all());
        heirs.finish(1, [&a]).unwrap();
        assert!(heirs.have_all());
        heirs.leave(1);
        assert!(!heirs.have_all());
    }

    proptest! {
        /// Whatever comes in whatever order: a pod is held exactly while an heir that took it lives, and is given
        /// back exactly when the last such heir goes.
        #[test]
        fn a_pod_is_accepted_for_by_us_or_by_a_living_heir(steps in prop::collection::vec((0_u8..3, 0_u64..3, 0_u8..3), 0..60)) {
            let mut heirs = Heirs::default();
            let mut model: BTreeMap<u64, HashSet<u8>> = BTreeMap::new();
            for (what, heir, pod) in steps {
                let name = uid(&pod.to_string());
                match what {
                    0 => {
                        model.entry(heir).or_insert_with(|| {
                            heirs.join(heir);
                            HashSet::new()
                        });
                    }
                    1 => {
                        if heirs.take(heir, &name, &[], &[]).is_ok() {
                            model.get_mut(&heir).unwrap().insert(pod);
                        }
                    }
                    _ => {
                        let gone = model.remove(&heir).unwrap_or_default();
                        let mut back: Vec<String> = heirs.leave(heir).iter().map(ToString::to_string).collect();
                        back.sort();
                        let mut wanted: Vec<String> = gone
                            .into_iter()
                            .filter(|pod| !model.values().any(|taken| taken.contains(pod)))
                            .map(|pod| pod.to_string())
                            .collect();
                        wanted.sort();
                        prop_assert_eq!(back, wanted);
                    }
                }
                for pod in 0..3_u8 {
                    let held = model.values().any(|taken| taken.contains(&pod));
                    prop_assert_eq!(heirs.hold(&pod.to_string()), held);
                }
            }
        }
    }
}
