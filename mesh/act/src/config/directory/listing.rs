//! Which files a directory holds, and reading one of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{DirectoryError, MAX_FILES, MAX_TOTAL_BYTES};
use crate::config::document;

/// Deepest folder below the directory.
const MAX_DEPTH: usize = 16;
/// Most entries of one folder, of whatever kind.
const MAX_ENTRIES: usize = 100_000;
/// Two writes within this time may leave the same times on a file.
const CLOCK_STEP: Duration = Duration::from_millis(100);

/// What a directory holds.
#[derive(Debug, Default)]
pub(super) struct Listing {
    /// Files by path, with what tells one version from another.
    pub(super) files: BTreeMap<PathBuf, Stamp>,
    /// Files and folders that cannot be read, and why.
    pub(super) unreadable: BTreeMap<PathBuf, String>,
    bytes: u64,
    folders: BTreeSet<(u64, u64)>,
}

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// One version of a file.
#[derive(Debug)]
pub(super) enum Version {
    /// All of it. Without a stamp when a later version could not be told from it by its stamp.
    Whole(Vec<u8>, Option<Stamp>),
    /// It changed while it was read.
    Torn,
    /// Why it cannot be read.
    Unreadable(String),
}

impl Listing {
    /// Lists a directory.
    ///
    /// # Errors
    /// When it cannot be listed, or holds too much.
    pub(super) fn of(root: &Path) -> Result<Self, DirectoryError> {
        let name = || root.display().to_string();
        let metadata = fs::metadata(root).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DirectoryError::Missing(name()),
            _ => DirectoryError::Unreadable(name(), error),
        })?;
        if !metadata.is_dir() {
            return Err(DirectoryError::NotADirectory(name()));
        }
        let mut listing = Self::default();
        listing.folders.insert((metadata.dev(), metadata.ino()));
        let mut folders = vec![(root.to_owned(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            match entries(&folder) {
                Ok(entries) if entries.len() <= MAX_ENTRIES => {
                    for (_, path) in entries {
                        listing.add(path, depth, &mut folders);
                    }
                }
                Ok(_) => return Err(DirectoryError::TooManyFiles(name())),
                Err(error) if depth == 0 => return Err(DirectoryError::Unreadable(name(), error)),
                Err(error) => drop(listing.unreadable.insert(folder, error.to_string())),
            }
            if listing.files.len() + listing.unreadable.len() > MAX_FILES || listing.folders.len() > MAX_FILES {
                return Err(DirectoryError::TooManyFiles(name()));
            }
            if listing.bytes > MAX_TOTAL_BYTES {
                return Err(DirectoryError::TooLarge(name()));
            }
        }
        Ok(listing)
    }

    fn add(&mut self, path: PathBuf, depth: usize, folders: &mut Vec<(PathBuf, usize)>) {
        let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        if name.starts_with('.') {
            return;
        }
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // It went between listing and asking; a link that points nowhere is still there.
            Err(_) if fs::symlink_metadata(&path).is_err() => return,
            Err(error) if is_configuration(&path) => {
                self.unreadable.insert(path, error.to_string());
                return;
            }
            Err(_) => return,
        };
        if metadata.is_dir() {
            if depth >= MAX_DEPTH {
                self.unreadable
                    .insert(path, format!("it lies deeper than {MAX_DEPTH} folders"));
            } else if self.folders.insert((metadata.dev(), metadata.ino())) {
                folders.push((path, depth + 1));
            }
        } else if is_configuration(&path) && metadata.is_file() {
            let stamp = Stamp::of(&metadata);
            self.bytes = self.bytes.saturating_add(stamp.length);
            self.files.insert(path, stamp);
        }
    }
}

/// What a folder holds, links last, by name: where a folder is reached in two ways, always in the same.
fn entries(folder: &Path) -> io::Result<BTreeSet<(bool, PathBuf)>> {
    let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|it| it.is_symlink());
    let with_kind = |entry: io::Result<fs::DirEntry>| entry.map(|it| (is_link(&it.path()), it.path()));
    fs::read_dir(folder)?.take(MAX_ENTRIES + 1).map(with_kind).collect()
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a write now could leave the same stamp.
    fn is_fresh(&self) -> bool {
        let (seconds, nanoseconds) = self.changed.max(self.modified);
        let since = Duration::new(
            u64::try_from(seconds).unwrap_or_default(),
            u32::try_from(nanoseconds).unwrap_or_default(),
        );
        let age = SystemTime::now().duration_since(UNIX_EPOCH + since);
        age.is_ok_and(|age| age < CLOCK_STEP)
    }
}

/// Reads a file as it is now.
pub(super) fn read(path: &Path) -> Version {
    let tried = open(path).and_then(|file| {
        let before = file.metadata()?;
        if !before.is_file() {
            return Err(io::Error::other("it is not a file"));
        }
        let mut bytes = Vec::new();
        // One more than is allowed, so that too much is seen to be too much.
        (&file).take(document::MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok((bytes, Stamp::of(&before), Stamp::of(&file.metadata()?)))
    });
    match tried {
        Ok((bytes, before, after)) if before == after => Version::Whole(bytes, Some(after).filter(|it| !it.is_fresh())),
        Ok(_) => Version::Torn,
        Err(error) => Version::Unreadable(error.to_string()),
    }
}

/// Opening must not wait, as it would for a pipe put in a file's place.
fn open(path: &Path) -> io::Result<File> {
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

fn is_configuration(path: &Path) -> bool {
    let known = |extension: &str| matches!(extension, "yaml" | "yml" | "json");
    path.extension().and_then(|it| it.to_str()).is_some_and(known)
}
