//! Rings when something happens in a directory, and knows which files are being written.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind},
};
use tokio::time::Instant;

/// After which a file nobody writes to any more counts as closed: the kernel's word may have been lost.
const ABANDONED: Duration = Duration::from_secs(30);
/// Most files being written that are remembered.
const MAX_WRITING: usize = 10_000;

/// Rings when something happens in a directory.
#[derive(Debug)]
pub(super) struct Bell {
    root: PathBuf,
    shared: Arc<Shared>,
    /// The watch, and the device and inode it is on.
    hung: Option<(RecommendedWatcher, (u64, u64))>,
    complained: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    rung: Condvar,
}

#[derive(Debug, Default)]
struct State {
    rung: bool,
    /// Files written to and not closed, by path, and when they were last written to.
    writing: BTreeMap<PathBuf, Instant>,
}

impl Bell {
    /// A bell for this directory, hung up if that is possible now.
    pub(super) fn new(root: &Path) -> Self {
        let mut bell = Self {
            root: std::path::absolute(root).unwrap_or_else(|_| root.to_owned()),
            shared: Arc::default(),
            hung: None,
            complained: false,
        };
        bell.hang();
        bell
    }

    /// Whether it would ring.
    pub(super) fn is_hung(&self) -> bool {
        self.hung.is_some()
    }

    /// Hangs it up where the directory is now, if it is not there already.
    pub(super) fn hang(&mut self) {
        let place = std::fs::metadata(&self.root).ok().map(|it| (it.dev(), it.ino()));
        if self.hung.as_ref().map(|(_, place)| *place) == place {
            return;
        }
        self.hung = None;
        self.shared.lock().writing.clear();
        let Some(place) = place else { return };
        let shared = self.shared.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| shared.hear(event));
        let watching = watcher.and_then(|mut watcher| {
            watcher.watch(&self.root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watching {
            Ok(watcher) => self.hung = Some((watcher, place)),
            Err(error) if !self.complained => {
                self.complained = true;
                tracing::warn!(
                    directory = %self.root.display(), %error,
                    "the kernel does not tell changes of the configuration, so it is read again and again; \
                     raise fs.inotify.max_user_watches and max_user_instances"
                );
            }
            Err(_) => {}
        }
    }

    /// Waits until it rings, at most so long.
    pub(super) fn wait(&self, longest: Duration) -> bool {
        let state = self.shared.lock();
        let waited = self.shared.rung.wait_timeout_while(state, longest, |state| !state.rung);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.rung)
    }

    /// Waits until it has not rung for so long, altogether at most so long: the files being written then.
    pub(super) fn quiet(&self, quiet: Duration, longest: Duration) -> BTreeSet<PathBuf> {
        let start = Instant::now();
        while start.elapsed() < longest && self.wait(quiet) {}
        self.writing()
    }

    /// Files written to and not closed, by their path below the directory.
    pub(super) fn writing(&self) -> BTreeSet<PathBuf> {
        let mut state = self.shared.lock();
        state.writing.retain(|_, last| last.elapsed() < ABANDONED);
        let below = |path: &PathBuf| path.strip_prefix(&self.root).ok().map(Path::to_owned);
        state.writing.keys().filter_map(below).collect()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, event: notify::Result<Event>) {
        let mut state = self.lock();
        match event {
            Ok(event) => {
                if !state.hear(event) {
                    return;
                }
            }
            // Something was lost: look at everything.
            Err(_) => state.writing.clear(),
        }
        state.rung = true;
        self.rung.notify_all();
    }
}

impl State {
    /// Whether an event is worth a look. Reading files, as we do, is not.
    fn hear(&mut self, event: Event) -> bool {
        if event.need_rescan() {
            self.writing.clear();
            return true;
        }
        match event.kind {
            EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Remove(_) => self.closed(event.paths),
            EventKind::Access(_) => return false,
            EventKind::Modify(ModifyKind::Data(_)) => {
                if self.writing.len() >= MAX_WRITING {
                    self.writing.clear();
                }
                let now = Instant::now();
                self.writing.extend(event.paths.into_iter().map(|path| (path, now)));
            }
            EventKind::Modify(ModifyKind::Name(_)) => self.closed(event.paths),
            _ => {}
        }
        true
    }

    /// What stands under this path is not what was being written.
    fn closed(&mut self, paths: Vec<PathBuf>) {
        for path in paths {
            self.writing.remove(&path);
        }
    }
}
