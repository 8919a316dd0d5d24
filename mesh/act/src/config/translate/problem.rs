//! What users wrote that cannot be honoured, gathered by object from every part of the translation.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use decide::{
    model::{ObjectRef, Problem},
    snapshot::Shards,
};

use crate::config::objects::{FieldError, Origin};

/// Most problems told of one object.
const MOST: usize = 64;

/// Which part of the translation found something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// The object read for itself.
    Object,
    /// What it refers to.
    References,
    /// What it reaches.
    Reach,
}

/// Everything found, by object and part.
#[derive(Debug, Default)]
pub(super) struct Problems {
    /// Where each came from, as far as there is something to tell.
    origins: BTreeMap<ObjectRef, Arc<Origin>>,
    found: HashMap<ObjectRef, BTreeMap<Part, Vec<FieldError>>>,
    rejected: HashMap<ObjectRef, Vec<Problem>>,
    rejected_in_this_batch: BTreeSet<ObjectRef>,
    touched: BTreeSet<ObjectRef>,
}

impl Problems {
    /// The object came from there.
    pub(super) fn origin(&mut self, object: ObjectRef, origin: Arc<Origin>) {
        self.touched.insert(object.clone());
        if *origin == Origin::default() {
            self.origins.remove(&object);
        } else {
            self.origins.insert(object, origin);
        }
    }

    /// The object is gone, and with it everything said about it.
    pub(super) fn forget(&mut self, object: &ObjectRef) {
        self.origins.remove(object);
        self.found.remove(object);
        self.rejected.remove(object);
        self.touched.insert(object.clone());
    }

    /// What a part found, in place of what it had found before.
    pub(super) fn set(&mut self, object: ObjectRef, part: Part, found: Vec<FieldError>) {
        let before = self.found.get(&object).and_then(|parts| parts.get(&part));
        if before.map_or(&[][..], Vec::as_slice) == found.as_slice() {
            return;
        }
        let parts = self.found.entry(object.clone()).or_default();
        if found.is_empty() {
            parts.remove(&part);
        } else {
            parts.insert(part, found);
        }
        if parts.is_empty() {
            self.found.remove(&object);
        }
        self.touched.insert(object);
    }

    /// The source stands on an object that cannot be taken: replaces what earlier batches said of it.
    pub(super) fn reject(&mut self, problem: Problem) {
        let object = problem.object.clone();
        let of_object = self.rejected.entry(object.clone()).or_default();
        if self.rejected_in_this_batch.insert(object.clone()) {
            of_object.clear();
        }
        of_object.push(problem);
        self.touched.insert(object);
    }

    /// The rejections of an object are over.
    pub(super) fn accept(&mut self, object: &ObjectRef) {
        if self.rejected.remove(object).is_some() {
            self.touched.insert(object.clone());
        }
    }

    /// Writes what changed; whether anything did.
    pub(super) fn settle(&mut self, into: &mut Shards<ObjectRef, Arc<[Problem]>>) -> bool {
        self.rejected_in_this_batch.clear();
        let mut changed = false;
        for object in std::mem::take(&mut self.touched) {
            let now = self.of(&object);
            let before = into.get(&object).map_or(&[][..], |problems| problems);
            if before == now.as_slice() {
                continue;
            }
            changed = true;
            if now.is_empty() {
                into.remove(&object);
            } else {
                into.insert(object, now.into());
            }
        }
        changed
    }

    /// While the source rejects what it stands on, the fields of the last good object stand nowhere any more.
    fn of(&self, object: &ObjectRef) -> Vec<Problem> {
        let mut all = match self.rejected.get(object) {
            Some(rejected) => rejected.clone(),
            None => self.found_and_admitted(object),
        };
        all.sort_unstable();
        all.dedup();
        let more = all.len().saturating_sub(MOST);
        if more > 0 {
            all.truncate(MOST);
            all.push(Problem {
                object: object.clone(),
                field: "".into(),
                what: format!("has {more} more problems.").into(),
                remedy: "Solve those told first.".into(),
                place: self.origins.get(object).and_then(|origin| origin.place.clone()),
            });
        }
        all
    }

    fn found_and_admitted(&self, object: &ObjectRef) -> Vec<Problem> {
        let origin = self.origins.get(object);
        let found = self.found.get(object).into_iter().flat_map(BTreeMap::values).flatten();
        let mut all: Vec<Problem> = found
            .map(|error| Problem {
                object: object.clone(),
                field: error.field.as_str().into(),
                what: error.what.as_str().into(),
                remedy: error.remedy.as_str().into(),
                place: origin.and_then(|origin| origin.place_of(&error.field)),
            })
            .collect();
        // The translation knows what a field it cannot read amounts to; admission only that it is unknown.
        let told: BTreeSet<Arc<str>> = all.iter().map(|problem| problem.field.clone()).collect();
        let admitted = origin.into_iter().flat_map(|origin| &origin.problems);
        all.extend(admitted.filter(|problem| !told.contains(&problem.field)).cloned());
        all
    }
}

#[cfg(test)]
mod tests {
    use decide::model::Place;

    use super::*;

    fn object() -> ObjectRef {
        ObjectRef {
            kind: "Service".into(),
            namespace: "shop".into(),
            name: "web".into(),
        }
    }

    fn problem(field: &str, what: &str) -> Problem {
        Problem {
            object: object(),
            field: field.into(),
            what: what.into(),
            remedy: "Mend it.".into(),
            place: None,
        }
    }

    fn told(problems: &mut Problems, shards: &mut Shards<ObjectRef, Arc<[Problem]>>) -> Vec<String> {
        problems.settle(shards);
        let all = shards.get(&object()).map_or(&[][..], |it| it);
        all.iter().map(|it| it.what.to_string()).collect()
    }

    #[test]
    fn rejections_stand_alone_until_accepted_and_a_later_batch_replaces_them() {
        let (mut problems, mut shards) = (Problems::default(), Shards::new());
        problems.set(object(), Part::Object, vec![FieldError::new("spec", "found", "")]);
        assert_eq!(told(&mut problems, &mut shards), ["found"]);
        problems.reject(problem("spec.a", "first"));
        problems.reject(problem("spec.b", "second"));
        assert_eq!(told(&mut problems, &mut shards), ["first", "second"]);
        problems.reject(problem("spec.c", "third"));
        assert_eq!(told(&mut problems, &mut shards), ["third"]);
        problems.accept(&object());
        assert_eq!(told(&mut problems, &mut shards), ["found"]);
        problems.forget(&object());
        assert!(told(&mut problems, &mut shards).is_empty());
        assert!(shards.is_empty());
    }

    #[test]
    fn what_admission_said_of_the_same_field_is_not_said_twice() {
        let (mut problems, mut shards) = (Problems::default(), Shards::new());
        let origin = Origin {
            place: Some(Place {
                file: "shop.yaml".into(),
                line: 1,
            }),
            lines: [("spec.form".to_owned(), 8)].into_iter().collect(),
            problems: vec![problem("spec.form", "unknown"), problem("spec.x", "other")],
        };
        problems.origin(object(), Arc::new(origin));
        problems.set(
            object(),
            Part::Object,
            vec![FieldError::new("spec.form", "refuses all", "")],
        );
        assert_eq!(told(&mut problems, &mut shards), ["refuses all", "other"]);
        let all = shards.get(&object()).expect("problems");
        assert_eq!(all[0].place.as_ref().map(|place| place.line), Some(8));
    }

    #[test]
    fn a_flood_of_problems_is_cut_and_says_so() {
        let (mut problems, mut shards) = (Problems::default(), Shards::new());
        let flood = (0..1000)
            .map(|it| FieldError::new(format!("spec.f{it:04}"), "bad", ""))
            .collect();
        problems.set(object(), Part::Object, flood);
        problems.settle(&mut shards);
        let all = shards.get(&object()).expect("problems");
        assert_eq!(all.len(), MOST + 1);
        assert_eq!(&*all[MOST].what, "has 936 more problems.");
    }
}
