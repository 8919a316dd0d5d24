//! The embedded default source: a directory of Kubernetes YAML, watched.
//!
//! In: files (`*.yaml`, `*.yml`, `*.json`, at any depth, hidden ones ignored). Out: batches of [`Change`]s to the
//! [`Feed`]. Biases, where a file cannot be read with certainty:
//!
//! - *Nothing by halves.* A file that cannot be read keeps its last good objects and is one Problem. A file
//!   somebody has open for writing, and wrote to within half a minute, is left alone until it is closed.
//! - *What takes away is looked at twice.* A file that is gone or empty counts only if it still is a moment later:
//!   editors and copies make files vanish while they replace them. A directory that is gone changes nothing.
//! - *Unread is not absent.* As long as a file has never been readable, the first list is not complete, and
//!   without a complete list no proxy decides anything: the file could hold the policy that refuses.
//!
//! Everything that changes within a moment is one batch, so a change of several files takes effect as a whole.

mod bell;
mod book;
mod claims;
mod listing;
mod shelf;

use std::{io, path::Path, sync::Arc, thread, time::Duration};

use decide::model::{MeshSettings, ObjectRef, Problem};

use self::{
    bell::Bell,
    claims::Claims,
    shelf::{Look, Shelf},
};
use super::{Change, Feed, Reader, background};

/// Most files of a directory.
pub const MAX_FILES: usize = 10_000;
/// Most objects of a directory.
pub const MAX_OBJECTS: usize = 200_000;
/// Most bytes of all files of a directory.
pub const MAX_TOTAL_BYTES: u64 = 256 << 20;

/// Quiet that ends a batch.
const QUIET: Duration = Duration::from_millis(75);
/// Longest wait for quiet.
const LONGEST_BATCH: Duration = Duration::from_millis(400);
/// After which what takes away is looked at again.
const SECOND_LOOK: Duration = Duration::from_millis(200);
/// How late the kernel's word of a write may come after the write is seen.
const LATE: Duration = Duration::from_millis(10);
/// Most looks for one batch.
const MOST_TRIES: u32 = 3;
/// Between looks nobody asked for: for what the kernel does not tell.
const RESCAN: Duration = Duration::from_secs(5);
/// Between looks where the kernel tells nothing.
const POLL: Duration = Duration::from_millis(500);

/// Why a directory cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is not there.
    #[error("the configuration directory {0} is not there: make it, or name another")]
    Missing(String),
    /// It is something else.
    #[error("{0} is not a directory: name the directory that holds the configuration")]
    NotADirectory(String),
    /// It cannot be listed.
    #[error("the configuration directory {0} cannot be listed ({1}): give this process the right to read it")]
    Unreadable(String, io::Error),
    /// It holds more files than [`MAX_FILES`].
    #[error("the configuration directory {0} holds more than {MAX_FILES} files: remove some, or name another")]
    TooManyFiles(String),
    /// It holds more than [`MAX_TOTAL_BYTES`].
    #[error("the configuration directory {0} holds more than {MAX_TOTAL_BYTES} bytes: remove some files")]
    TooLarge(String),
    /// It holds more objects than [`MAX_OBJECTS`].
    #[error("the configuration directory {0} holds more than {MAX_OBJECTS} objects: remove some")]
    TooManyObjects(String),
    /// The thread that watches cannot be started.
    #[error("no thread can be started to watch {0} ({1}): raise the limit of processes")]
    NoThread(String, io::Error),
}

/// A directory that has been read, and the feed it writes to.
#[derive(Debug)]
pub struct Directory {
    source: Source,
    feed: Feed,
}

/// What has been read, and what has been told of it.
#[derive(Debug)]
struct Source {
    shelf: Shelf,
    claims: Claims,
    complete: bool,
}

/// Reads a directory once: everything in it and everything wrong with it, in the order of the objects. Ends with
/// [`Change::Complete`], unless a file could not be read.
///
/// # Errors
/// When the directory cannot be read at all.
pub fn read(path: &Path) -> Result<Vec<Change>, DirectoryError> {
    Source::new(path).take(true)
}

/// Reads a directory once into a feed.
///
/// # Errors
/// When the directory cannot be read at all.
pub fn load(path: &Path, defaults: MeshSettings) -> Result<(Directory, Reader), DirectoryError> {
    let (mut feed, reader) = Feed::new(defaults);
    let mut source = Source::new(path);
    feed.apply(source.take(true)?);
    Ok((Directory { source, feed }, reader))
}

/// Reads a directory, and from then on watches it, in a thread of its own, as long as there is a reader.
///
/// # Errors
/// When the directory cannot be read at all. Later troubles are Problems of the snapshots.
pub fn watch(path: &Path, defaults: MeshSettings) -> Result<Reader, DirectoryError> {
    let (directory, reader) = load(path, defaults)?;
    background::start(move || directory.watch())
        .map_err(|error| DirectoryError::NoThread(path.display().to_string(), error))?;
    Ok(reader)
}

impl Directory {
    /// Follows the directory as long as there is a reader. Blocks: give it a thread.
    pub fn watch(self) {
        let mut feed = self.feed;
        self.source.follow(|changes| {
            if !changes.is_empty() {
                feed.apply(changes);
            }
            feed.has_readers()
        });
    }
}

impl Source {
    fn new(path: &Path) -> Self {
        Self {
            shelf: Shelf::new(path),
            claims: Claims::default(),
            complete: false,
        }
    }

    /// Tells every look's changes, often none, until it is told that nobody listens.
    fn follow(mut self, mut tell: impl FnMut(Vec<Change>) -> bool) {
        let mut bell = Bell::new(self.shelf.root());
        // What happened between the first read and the bell is found now.
        let mut soon = true;
        loop {
            if !soon {
                bell.wait(if bell.is_hung() { RESCAN } else { POLL });
            }
            bell.hang();
            let mut look = self.observe(&bell);
            if look.as_ref().is_ok_and(Look::takes_away) {
                thread::sleep(SECOND_LOOK);
                look = self.observe(&bell);
            }
            soon = look.as_ref().is_ok_and(Look::takes_away);
            if !tell(self.tell(look)) {
                return;
            }
        }
    }

    /// Looks when it is quiet, and again if it was not quiet meanwhile.
    fn observe(&mut self, bell: &Bell) -> Result<Look, DirectoryError> {
        let mut tries = 0;
        loop {
            self.shelf.leave_alone(bell.quiet(QUIET, LONGEST_BATCH));
            let look = self.shelf.look(false);
            tries += 1;
            if tries == MOST_TRIES || !bell.wait(LATE) {
                return look;
            }
        }
    }

    /// Looks once and tells everything found. `trusting`: also what takes away.
    fn take(&mut self, trusting: bool) -> Result<Vec<Change>, DirectoryError> {
        let look = self.shelf.look(trusting)?;
        Ok(self.tell(Ok(look)))
    }

    /// What a look changes, as one batch.
    fn tell(&mut self, look: Result<Look, DirectoryError>) -> Vec<Change> {
        let root = ObjectRef {
            kind: "Directory".into(),
            namespace: "".into(),
            name: self.shelf.root().display().to_string().into(),
        };
        let look = match look {
            Ok(look) => look,
            Err(error) => {
                let trouble = Problem {
                    object: root.clone(),
                    field: "".into(),
                    what: format!("{error}.").into(),
                    remedy: "Until then everything stays as it was.".into(),
                    place: None,
                };
                return self.claims.trouble(root, Some(trouble));
            }
        };
        let mut changes = self.claims.trouble(root, None);
        let touched = self.claims.claim(self.shelf.put(look));
        for (file, trouble) in self.shelf.take_troubles() {
            changes.extend(self.claims.trouble(file, trouble));
        }
        changes.extend(self.claims.settle(touched));
        if !self.complete && self.shelf.is_complete() {
            self.complete = true;
            changes.extend([Change::Fences(true), Change::Complete]);
        }
        changes
    }
}

/// A file as problems name it.
fn file_object(file: &Arc<str>) -> ObjectRef {
    ObjectRef {
        kind: "File".into(),
        namespace: "".into(),
        name: file.clone(),
    }
}

#[cfg(test)]
mod tests;
