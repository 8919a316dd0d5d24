//! Which files define which object, and what the feed has been told of it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, btree_map::Entry},
    path::Path,
    sync::Arc,
};

use decide::model::{ObjectRef, Place, Problem};

use super::shelf::Turn;
use crate::config::{
    Change,
    admission::{Admission, Ruling},
    background::give_way,
    few::Few,
    objects::{Object, Origin},
};

/// Which files define which object, and what the feed has been told of it.
#[derive(Debug, Default)]
pub(super) struct Claims {
    files: HashMap<Arc<Path>, Arc<[Arc<Admission>]>>,
    objects: BTreeMap<ObjectRef, Claimed>,
}

/// One object.
#[derive(Debug, Default)]
struct Claimed {
    /// What defines it: files in order and the index in each.
    by: Few<(Arc<Path>, usize)>,
    told: Told,
}

/// What the feed has been told of one object.
#[derive(Debug, Clone, PartialEq, Default)]
struct Told {
    held: Option<Held>,
    rejected: Box<[Problem]>,
}

#[derive(Debug, Clone, PartialEq)]
struct Held {
    object: Object,
    origin: Arc<Origin>,
    /// Not what somebody wrote: what holds while that is refused.
    stand_in: bool,
}

impl Claims {
    /// Takes in what files hold now: the objects this touches.
    pub(super) fn claim(&mut self, turns: Vec<Turn>) -> BTreeSet<ObjectRef> {
        let mut touched = BTreeSet::new();
        for Turn { file, before, now } in turns {
            let file: Arc<Path> = file.into();
            let kept = |index| {
                let pair = before.get(index).zip(now.get(index));
                pair.is_some_and(|(before, now)| Arc::ptr_eq(before, now))
            };
            for (index, admission) in before.iter().enumerate().filter(|(index, _)| !kept(*index)) {
                if let Some(claimed) = self.objects.get_mut(&admission.object) {
                    claimed.by.remove(&(file.clone(), index));
                }
                touched.insert(admission.object.clone());
            }
            for (index, admission) in now.iter().enumerate().filter(|(index, _)| !kept(*index)) {
                let claimed = self.objects.entry(admission.object.clone()).or_default();
                claimed.by.insert((file.clone(), index));
                touched.insert(admission.object.clone());
            }
            if now.is_empty() {
                self.files.remove(&file);
            } else {
                self.files.insert(file, now);
            }
        }
        touched
    }

    /// What is to be told of these objects.
    pub(super) fn settle(&mut self, touched: BTreeSet<ObjectRef>) -> Vec<Change> {
        let mut changes = Vec::new();
        for object in touched {
            give_way();
            let claimed = self.objects.get(&object);
            let now = claimed.map(|claimed| self.judge(&object, claimed)).unwrap_or_default();
            self.tell(object, now, &mut changes);
        }
        changes
    }

    /// What is to be told of something that is no object: a file, the directory. The log tells it, too: who reads it wonders
    /// why the process is not ready.
    pub(super) fn trouble(&mut self, object: ObjectRef, trouble: Option<Problem>) -> Vec<Change> {
        let before = self.objects.get(&object).and_then(|known| known.told.rejected.first());
        match (before, &trouble) {
            (before, Some(trouble)) if before != Some(trouble) => tracing::warn!("{trouble}"),
            (Some(_), None) => tracing::info!("{object} can be read"),
            _ => {}
        }
        let mut changes = Vec::new();
        let now = Told {
            held: None,
            rejected: trouble.into_iter().collect(),
        };
        self.tell(object, now, &mut changes);
        changes
    }

    /// Tells what holds of an object now; one that nobody defines and nothing was told of is forgotten.
    fn tell(&mut self, object: ObjectRef, now: Told, changes: &mut Vec<Change>) {
        let claimed = self.objects.entry(object);
        match claimed {
            Entry::Vacant(_) if now == Told::default() => {}
            Entry::Vacant(unknown) => {
                tell(unknown.key(), &Told::default(), &now, changes);
                unknown.insert(Claimed {
                    by: Few::default(),
                    told: now,
                });
            }
            Entry::Occupied(mut known) => {
                tell(known.key(), &known.get().told, &now, changes);
                if known.get().by.is_empty() && now == Told::default() {
                    known.remove();
                } else {
                    known.get_mut().told = now;
                }
            }
        }
    }

    /// What holds of an object: its first definition by file and line.
    fn judge(&self, object: &ObjectRef, claimed: &Claimed) -> Told {
        let Claimed { by, told: before } = claimed;
        let mut admissions = by
            .iter()
            .filter_map(|(file, index)| self.files.get(file)?.get(*index).map(|it| &**it));
        let Some(first) = admissions.next() else {
            return Told::default();
        };
        let repeated: Vec<Problem> = admissions.map(|other| repeated(object, first, &other.place)).collect();
        match &first.ruling {
            Ruling::Admitted(admitted, origin) => Told {
                held: Some(Held {
                    object: admitted.clone(),
                    origin: match &*repeated {
                        [] => origin.clone(),
                        _ => with(origin, &[], repeated).into(),
                    },
                    stand_in: false,
                }),
                rejected: Box::default(),
            },
            Ruling::Refused { problems, stand_in } => {
                let good = before.held.as_ref().filter(|held| !held.stand_in);
                match (good, stand_in) {
                    (Some(good), _) => Told {
                        held: Some(good.clone()),
                        rejected: so(problems, "The last good version stays.", repeated).into(),
                    },
                    (None, Some((stand_in, origin))) => {
                        let told = so(
                            problems,
                            "Until it is corrected it restricts as far as it could have.",
                            repeated,
                        );
                        Told {
                            held: Some(Held {
                                object: stand_in.clone(),
                                origin: with(origin, &told, Vec::new()).into(),
                                stand_in: true,
                            }),
                            rejected: Box::default(),
                        }
                    }
                    (None, None) => Told {
                        held: None,
                        rejected: so(problems, "It is left out.", repeated).into(),
                    },
                }
            }
        }
    }
}

/// The changes from what was told to what is to be told.
fn tell(object: &ObjectRef, before: &Told, now: &Told, changes: &mut Vec<Change>) {
    let mut rejected = &*before.rejected;
    match (&before.held, &now.held) {
        (Some(_), None) => {
            changes.push(Change::Delete(object.clone()));
            rejected = &[];
        }
        (before, Some(held)) if before.as_ref() != Some(held) => {
            if !rejected.is_empty() {
                changes.push(Change::Accept(object.clone()));
                rejected = &[];
            }
            changes.push(Change::Put(Box::new(held.object.clone()), held.origin.clone()));
        }
        _ => {}
    }
    if *rejected == *now.rejected {
        return;
    }
    if !rejected.is_empty() {
        changes.push(Change::Accept(object.clone()));
    }
    changes.extend(now.rejected.iter().cloned().map(Change::Reject));
}

/// An origin with problems in place of its own, if there are any, and with more.
fn with(origin: &Origin, instead: &[Problem], more: Vec<Problem>) -> Origin {
    let mut origin = origin.clone();
    if !instead.is_empty() {
        origin.problems = instead.to_vec();
    }
    origin.problems.extend(more);
    origin
}

/// Problems with what they lead to.
fn so(problems: &[Problem], consequence: &str, more: Vec<Problem>) -> Vec<Problem> {
    let mut all: Vec<Problem> = problems.to_vec();
    for problem in &mut all {
        problem.what = format!("{} {consequence}", problem.what).into();
    }
    all.extend(more);
    all
}

fn repeated(object: &ObjectRef, first: &Admission, place: &Place) -> Problem {
    let Place { file, line } = &first.place;
    Problem {
        object: object.clone(),
        field: "".into(),
        what: format!("is defined twice; this one is ignored, the one at {file}:{line} counts.").into(),
        remedy: "Keep one of them.".into(),
        place: Some(place.clone()),
    }
}
