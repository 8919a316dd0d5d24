//! What every check works with: the world, the directory it may edit, and programs in pods.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use act::process::Failure;

use crate::{
    observe::AccessLog,
    show::Screen,
    world::{Finished, World},
};

/// A running world and the copy of its directory.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The world.
    pub world: Arc<World>,
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// Where progress is told.
    pub screen: Screen,
}

impl Bench {
    /// Tells what is being done.
    pub fn tell(&self, what: &str) {
        self.screen.progress(what);
    }

    /// Runs curl in a pod, with 10 s of patience: exit code, status, answer.
    ///
    /// # Errors
    /// When it cannot be run.
    pub async fn curl(&self, pod: &str, words: &[&str]) -> Result<Answer, Failure> {
        let words = [
            &["curl", "-s", "-S", "--max-time", "10", "-w", "\n%{http_code}"],
            words,
        ]
        .concat();
        let finished = self.world.run_in(pod, &words, Duration::from_secs(30)).await?;
        Ok(Answer::from(finished))
    }

    /// Runs a program in a pod.
    ///
    /// # Errors
    /// As [`World::run_in`].
    pub async fn run(&self, pod: &str, words: &[&str]) -> Result<Finished, Failure> {
        self.world.run_in(pod, words, Duration::from_secs(60)).await
    }

    /// A file of the directory that the mesh reads.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.settings().config.join(name)
    }

    /// Replaces a text in a file of the directory, as an editor that saves.
    ///
    /// # Errors
    /// When the file cannot be read or written, or the text is not in it.
    pub fn edit(&self, name: &str, from: &str, to: &str) -> Result<(), Failure> {
        let path = self.file(name);
        let text = read(&path)?;
        if !text.contains(from) {
            return Err(Failure(format!("{} does not hold {from:?}", path.display())));
        }
        write(&path, &text.replace(from, to))
    }

    /// Writes a file of the directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        write(&self.file(name), text)
    }

    /// Removes a file of the directory.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let path = self.file(name);
        fs::remove_file(&path).map_err(|error| Failure(format!("{} cannot be removed: {error}", path.display())))
    }

    /// The log of a process, from now on.
    pub fn log(&self, process: &str) -> AccessLog {
        AccessLog::from_end(self.world.run_directory().log(process))
    }

    /// Waits for a condition at most this long; answers whether it came true.
    pub async fn until<F: Future<Output = bool>>(&self, most: Duration, mut condition: impl FnMut() -> F) -> bool {
        let end = tokio::time::Instant::now() + most;
        loop {
            if condition().await {
                return true;
            }
            if tokio::time::Instant::now() > end {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// What curl got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// curl's exit code: 0 when there was an answer, 7 not connected, 52 and 56 cut off, 28 too late.
    pub code: i32,
    /// HTTP status; 0 without an answer.
    pub status: u16,
    /// The answer, or what curl said.
    pub text: String,
}

impl Answer {
    /// One phrase.
    pub fn phrase(&self) -> String {
        let text = self.text.trim().replace('\n', " ");
        let text: String = text.chars().take(160).collect();
        if self.status == 0 {
            text
        } else {
            format!("{} {text}", self.status)
        }
    }

    /// Whether there was no answer at all.
    pub fn refused(&self) -> bool {
        self.status == 0 && self.code != 0
    }
}

impl From<Finished> for Answer {
    fn from(finished: Finished) -> Self {
        let (text, status) = finished.stdout.rsplit_once('\n').unwrap_or(("", &finished.stdout));
        Self {
            code: finished.code.unwrap_or(-1),
            status: status.trim().parse().unwrap_or(0),
            text: if text.is_empty() { finished.stderr } else { text.to_owned() },
        }
    }
}

/// Writes a file as editors do that do not keep half-written ones: another file, renamed.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| Failure(format!("{} cannot be written: {error}", path.display())))
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| Failure(format!("{} cannot be read: {error}", path.display())))
}
