//! The files of a directory as last read: what a look at them changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use decide::model::{ObjectRef, Place, Problem};
use tokio::time::Instant;

use super::{
    DirectoryError, MAX_OBJECTS, SECOND_LOOK,
    book::{Book, Text},
    file_object,
    listing::{self, Listing, Stamp, Version},
};
use crate::config::{admission::Admission, document::Unreadable};

/// The files of a directory as last read.
#[derive(Debug)]
pub(super) struct Shelf {
    root: PathBuf,
    files: BTreeMap<PathBuf, Book>,
    /// What seemed to be taken away at the last look, and since when.
    doubtful: BTreeMap<PathBuf, Instant>,
    /// Files somebody has open for writing.
    writing: BTreeSet<PathBuf>,
    troubles: Vec<(ObjectRef, Option<Problem>)>,
    /// How long something must seem to be taken away to be believed.
    pub(super) patience: Duration,
}

/// What a look found; nothing of it holds until it is put on the shelf.
#[derive(Debug, Default)]
pub(super) struct Look {
    found: BTreeMap<PathBuf, Found>,
    doubtful: BTreeMap<PathBuf, Instant>,
}

#[derive(Debug)]
enum Found {
    /// It is not there any more.
    Gone,
    /// A new version.
    Version(Option<Stamp>, Text),
    /// The objects of before stay, and why. With the stamp of the version at fault.
    Trouble(Option<Stamp>, Problem),
}

/// What one file held before and holds now.
#[derive(Debug)]
pub(super) struct Turn {
    /// The file.
    pub(super) file: PathBuf,
    /// What it held.
    pub(super) before: Arc<[Arc<Admission>]>,
    /// What it holds.
    pub(super) now: Arc<[Arc<Admission>]>,
}

impl Look {
    /// Whether something seems to be taken away that was there at the look before.
    pub(super) fn takes_away(&self) -> bool {
        !self.doubtful.is_empty()
    }
}

impl Shelf {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            files: BTreeMap::new(),
            doubtful: BTreeMap::new(),
            writing: BTreeSet::new(),
            troubles: Vec::new(),
            patience: SECOND_LOOK,
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Files somebody has open for writing, by their path below the root.
    pub(super) fn leave_alone(&mut self, writing: BTreeSet<PathBuf>) {
        self.writing = writing.into_iter().map(|path| self.root.join(path)).collect();
    }

    /// Whether every file has been readable once.
    pub(super) fn is_complete(&self) -> bool {
        self.files.values().all(|book| book.was_readable)
    }

    /// Looks what changed. `trusting`: what takes away is believed at once.
    ///
    /// # Errors
    /// When the directory cannot be listed, or holds too much.
    pub(super) fn look(&mut self, trusting: bool) -> Result<Look, DirectoryError> {
        let listing = Listing::of(&self.root)?;
        let mut look = Look::default();
        for (path, stamp) in &listing.files {
            if let Some(found) = self.look_at(path, *stamp) {
                look.found.insert(path.clone(), found);
            }
        }
        for (path, reason) in &listing.unreadable {
            let trouble = self.problem(
                path,
                1,
                format!("cannot be read: {reason}."),
                "Make it readable, or remove it.",
            );
            look.found.insert(path.clone(), Found::Trouble(None, trouble));
        }
        let unreadable = |path: &Path| listing.unreadable.contains_key(path);
        for path in self.files.keys() {
            if !listing.files.contains_key(path) && !path.ancestors().any(unreadable) {
                look.found.insert(path.clone(), Found::Gone);
            }
        }
        self.doubt(&mut look, trusting);
        self.count(&look)?;
        self.doubtful.clone_from(&look.doubtful);
        Ok(look)
    }

    /// Puts what a look found on the shelf: what each file turns from and to.
    pub(super) fn put(&mut self, look: Look) -> Vec<Turn> {
        let mut turns = Vec::new();
        for (file, found) in look.found {
            let mut book = self.files.remove(&file).unwrap_or_default();
            let (before, gone) = (book.text.objects.clone(), matches!(found, Found::Gone));
            let trouble = book.turn(found);
            if book.trouble != trouble {
                book.trouble.clone_from(&trouble);
                self.troubles.push((file_object(&name(&file)), trouble));
            }
            let now = book.text.objects.clone();
            if !gone {
                self.files.insert(file.clone(), book);
            }
            if !same(&before, &now) {
                turns.push(Turn { file, before, now });
            }
        }
        turns
    }

    /// Troubles with files that came or went since this was last asked.
    pub(super) fn take_troubles(&mut self) -> Vec<(ObjectRef, Option<Problem>)> {
        std::mem::take(&mut self.troubles)
    }

    fn look_at(&self, path: &Path, stamp: Stamp) -> Option<Found> {
        let book = self.files.get(path);
        if book.is_some_and(|book| book.stamp == Some(stamp)) {
            return None;
        }
        if self.writing.contains(path) {
            let (what, remedy) = ("is being written.", "Close it: until then what it held before stays.");
            return Some(Found::Trouble(None, self.problem(path, 1, what, remedy)));
        }
        match listing::read(path) {
            Version::Torn => {
                let (what, remedy) = ("changed while it was read.", "Replace files as a whole.");
                Some(Found::Trouble(None, self.problem(path, 1, what, remedy)))
            }
            Version::Unreadable(reason) => {
                let what = format!("cannot be read: {reason}.");
                Some(Found::Trouble(
                    None,
                    self.problem(path, 1, what, "Make it readable, or remove it."),
                ))
            }
            Version::Whole(bytes, stamp) => Some(match self.read(path, &bytes) {
                Ok(text) => Found::Version(stamp, text),
                Err(error) => Found::Trouble(stamp, self.problem(path, error.line, error.what, &error.remedy)),
            }),
        }
    }

    fn read(&self, path: &Path, bytes: &[u8]) -> Result<Text, Unreadable> {
        let nothing = Text::default();
        let before = self.files.get(path).map_or(&nothing, |book| &book.text);
        before.turn(bytes, &name(path))
    }

    /// Takes out of a look what seems to take away and has not for long.
    fn doubt(&self, look: &mut Look, trusting: bool) {
        for (path, found) in &look.found {
            let empty = match found {
                Found::Gone => true,
                Found::Version(_, text) => text.objects.is_empty(),
                Found::Trouble(..) => false,
            };
            let held_something = self.files.get(path).is_some_and(|book| !book.text.objects.is_empty());
            let since = self.doubtful.get(path).copied().unwrap_or_else(Instant::now);
            if empty && held_something && !trusting && since.elapsed() < self.patience {
                look.doubtful.insert(path.clone(), since);
            }
        }
        look.found.retain(|path, _| !look.doubtful.contains_key(path));
    }

    fn count(&self, look: &Look) -> Result<(), DirectoryError> {
        let kept = self.files.iter().filter(|(path, _)| {
            let found = look.found.get(*path);
            !matches!(found, Some(Found::Gone | Found::Version(..)))
        });
        let new = look.found.values().map(|found| match found {
            Found::Version(_, text) => text.objects.len(),
            Found::Gone | Found::Trouble(..) => 0,
        });
        let count = kept.map(|(_, book)| book.text.objects.len()).chain(new).sum::<usize>();
        if count > MAX_OBJECTS {
            return Err(DirectoryError::TooManyObjects(self.root.display().to_string()));
        }
        Ok(())
    }

    /// A file that cannot be taken, and what that means.
    fn problem(&self, path: &Path, line: u32, what: impl Into<String>, remedy: &str) -> Problem {
        let was_readable = self.files.get(path).is_some_and(|book| book.was_readable);
        let so = if was_readable {
            "What it held before stays."
        } else {
            "It could hold a policy, so until it can be read proxies that start refuse everything."
        };
        let file = name(path);
        Problem {
            object: file_object(&file),
            field: "".into(),
            what: format!("{} {so}", what.into()).into(),
            remedy: remedy.into(),
            place: Some(Place { file, line }),
        }
    }
}

impl Book {
    /// Turns to what was found; the trouble there is with it.
    fn turn(&mut self, found: Found) -> Option<Problem> {
        match found {
            Found::Gone => {
                self.text = Text::default();
                None
            }
            Found::Version(stamp, text) => {
                *self = Self {
                    stamp,
                    text,
                    was_readable: true,
                    trouble: self.trouble.take(),
                };
                None
            }
            Found::Trouble(stamp, problem) => {
                self.stamp = stamp;
                Some(problem)
            }
        }
    }
}

/// Whether two versions hold the same; what was not read again is.
fn same(before: &[Arc<Admission>], now: &[Arc<Admission>]) -> bool {
    let mut pairs = before.iter().zip(now);
    before.len() == now.len() && pairs.all(|(before, now)| Arc::ptr_eq(before, now) || before == now)
}

fn name(path: &Path) -> Arc<str> {
    path.display().to_string().into()
}
