//! A ztunnel's own socket among those of its node, and who was there before it.

use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, sleep};

use crate::zds::{Listener, SocketFile, bind};

/// How long another ztunnel that starts at the same moment may hold the directory.
const PATIENCE: Duration = Duration::from_secs(2);
/// Ztunnels before us that are asked; a node has one, two during an upgrade.
const MOST_ELDERS: usize = 8;

/// Where a ztunnel is asked by younger ones.
#[derive(Debug)]
pub struct Place {
    /// Higher than every one before it.
    pub number: u64,
    /// Those before it that are or were there: number and socket, the youngest first.
    pub elders: Vec<(u64, PathBuf)>,
    pub(super) listener: Listener,
    _file: SocketFile,
    _directory: Left,
}

/// The directory, which the last one to leave takes away.
#[derive(Debug)]
struct Left(PathBuf);

impl Drop for Left {
    fn drop(&mut self) {
        // Not while somebody else's socket is in it.
        let _ = fs::remove_dir(&self.0);
    }
}

/// Why a ztunnel has no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The directory cannot be used.
    #[error("{0} cannot be used: {1}; it must be writable, and its path short")]
    Directory(PathBuf, io::Error),
    /// The socket cannot be made.
    #[error("{0}")]
    Socket(#[from] crate::zds::ListenError),
}

impl Place {
    /// Takes the next place in this directory, which is made if it is not there. Those that start at the same moment
    /// do so one after the other, so that the later one sees the earlier.
    ///
    /// # Errors
    /// [`PlaceError`].
    pub async fn take(directory: &Path) -> Result<Self, PlaceError> {
        let failed = |why: io::Error| PlaceError::Directory(directory.to_owned(), why);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(failed)?;
        let handle = File::open(directory).map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        // one that hangs with the directory locked keeps nobody from starting
        while flock(&handle, FlockOperation::NonBlockingLockExclusive).is_err() && Instant::now() < until {
            sleep(Duration::from_millis(10)).await;
        }
        let mut elders = list(directory).map_err(failed)?;
        elders.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        let newest = elders.first().map_or(0, |(number, _)| *number);
        let number = since_boot().map_err(failed)?.max(newest + 1);
        let (listener, file) = bind(&directory.join(format!("{number}.sock")))?;
        elders.truncate(MOST_ELDERS);
        Ok(Self {
            number,
            elders,
            listener,
            _file: file,
            _directory: Left(directory.to_owned()),
        })
    }
}

/// The sockets in the directory.
fn list(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".sock"));
        if let Some(number) = number.and_then(|number| number.parse().ok()) {
            found.push((number, path));
        }
    }
    Ok(found)
}

/// Milliseconds since the machine started: the same clock for every ztunnel of a node, whatever the time is.
fn since_boot() -> io::Result<u64> {
    let told = fs::read_to_string("/proc/uptime")?;
    let seconds = told.split_ascii_whitespace().next().and_then(|text| text.parse().ok());
    let since = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let millis = since.and_then(|since| u64::try_from(since.as_millis()).ok());
    millis.ok_or_else(|| io::Error::other("/proc/uptime cannot be understood"))
}
