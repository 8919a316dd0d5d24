//! What every check works with: the world, the directory it may edit, and programs in pods.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use act::process::Failure;

use crate::{
    observe::{Capture, Log},
    show::Screen,
    third::tunnel::Tunnelled,
    world::{Finished, World},
};

/// An identity that no pod of the demo has, for clients of ours.
pub(super) const OUTSIDER: &str = "spiffe://cluster.local/ns/shop/sa/envoy";

/// A running world and the copy of its directory.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The world.
    pub world: Arc<World>,
    /// Envoy's binary.
    pub envoy: PathBuf,
    /// Prometheus' `promtool`.
    pub promtool: PathBuf,
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
        let words = [&["curl", "-s", "-S", "--max-time", "10", "-w", "\n%{http_code}"], words].concat();
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

    /// Runs the `weft` command line, offline on the directory.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn weft(&self, words: &[&str]) -> Result<Finished, Failure> {
        let settings = self.world.settings();
        let (program, config) = (settings.programs.join("weft"), settings.config.display().to_string());
        let program = program.display().to_string();
        let words = [&[&*program, "--config", &config], words].concat();
        self.world.run_in("node-1", &words, Duration::from_secs(20)).await
    }

    /// Has the CA sign an identity by a token, asked from a node; `name` is the directory the files are put in.
    ///
    /// # Errors
    /// When it cannot be asked. A refusal is none: the exit code tells.
    pub async fn sign(&self, node: &str, token: &str, identity: &str, name: &str) -> Result<Finished, Failure> {
        let run = self.world.run_directory();
        let home = run.join(name);
        fs::create_dir_all(&home).map_err(|error| Failure(format!("{} cannot be made: {error}", home.display())))?;
        let token_file = home.join("token");
        write(&token_file, token)?;
        let own = own_program()?;
        let authority = self.world.authority().await?;
        let flags = [
            format!("--ca={authority}"),
            format!("--ca-root={}", run.join("ca/root.pem").display()),
            format!("--ca-name={}", crate::world::CA_NAME),
            format!("--token={}", token_file.display()),
            format!(
                "--leaf-life={}",
                humantime::format_duration(self.world.settings().leaf_life)
            ),
            format!("--identity={identity}"),
            format!("--out={}", home.display()),
        ];
        let words: Vec<_> = [&*own, "sign"]
            .into_iter()
            .chain(flags.iter().map(String::as_str))
            .collect();
        self.run(node, &words).await
    }

    /// A certificate for `OUTSIDER`, fresh, in the directory that is answered.
    ///
    /// # Errors
    /// When the CA refuses it.
    pub async fn outsider(&self) -> Result<PathBuf, Failure> {
        let token = self.world.machines().token(&serde_json::json!({ "sub": "envoy" }))?;
        let finished = self.sign("node-2", &token, OUTSIDER, "outsider").await?;
        if finished.success() {
            Ok(self.world.run_directory().join("outsider"))
        } else {
            Err(Failure(finished.stderr))
        }
    }

    /// Asks a server of HBONE for an authority, from a pod, with `OUTSIDER`'s certificate.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub async fn tunnel(&self, pod: &str, to: &str, authority: &str) -> Result<Tunnelled, Failure> {
        let identity = self.outsider().await?.display().to_string();
        let own = own_program()?;
        let words = ["tunnel", "--to", to, "--authority", authority, "--identity", &identity];
        let words: Vec<_> = std::iter::once(&*own).chain(words).collect();
        let finished = self.run(pod, &words).await?;
        serde_json::from_str(&finished.stdout).map_err(|error| {
            Failure(format!(
                "the HBONE client did not tell how it went ({error}): {}",
                finished.stderr
            ))
        })
    }

    /// Whether what a pod sends to `catalog` crosses the link in the clear.
    ///
    /// # Errors
    /// When nothing is answered.
    pub async fn crosses_in_clear(&self, capture: &Capture, pod: &str) -> Result<bool, Failure> {
        let marker = format!("probe-{}", fastrand::u64(..));
        capture.look_for(&marker);
        let answer = self.curl(pod, &[&format!("http://catalog/?say={marker}")]).await?;
        if answer.status != 200 {
            return Err(Failure(format!("catalog does not answer: {}", answer.phrase())));
        }
        Ok(capture.saw(&marker).await)
    }

    /// Takes the namespace `shop` out of the mesh or into it, and waits until it is.
    ///
    /// # Errors
    /// When the file cannot be written, or it takes longer than 10 s.
    pub async fn enrol(&self, capture: &Capture, enrolled: bool) -> Result<(), Failure> {
        const IN: &str = "  labels:\n    weft.dev/dataplane-mode: ambient\n";
        const OUT: &str = "  labels: {}\n";
        let change = if enrolled { (OUT, IN) } else { (IN, OUT) };
        self.edit("10-shop.yaml", &[change])?;
        let there = || async {
            let clear = self.crosses_in_clear(capture, "shop/client-b").await;
            clear.is_ok_and(|clear| clear != enrolled)
        };
        if self.until(Duration::from_secs(10), there).await {
            Ok(())
        } else {
            let word = if enrolled { "in" } else { "out of" };
            Err(Failure(format!("the namespace is not {word} the mesh within 10 s")))
        }
    }

    /// What a process answers on its admin socket, as JSON.
    ///
    /// # Errors
    /// When it does not.
    pub async fn admin(&self, process: &str, path: &str) -> Result<serde_json::Value, Failure> {
        let text = crate::observe::admin(&self.world.run_directory().socket(process), path).await?;
        serde_json::from_str(&text).map_err(|error| Failure(format!("{path} of {process} is no JSON: {error}")))
    }

    /// A file of the directory that the mesh reads.
    pub fn file(&self, name: &str) -> PathBuf {
        self.world.settings().config.join(name)
    }

    /// Replaces texts in a file of the directory, as an editor that saves once.
    ///
    /// # Errors
    /// When the file cannot be read or written, or a text is not in it.
    pub fn edit(&self, name: &str, changes: &[(&str, &str)]) -> Result<(), Failure> {
        let path = self.file(name);
        let mut text = read(&path)?;
        for (from, to) in changes {
            if !text.contains(from) {
                return Err(Failure(format!("{} does not hold {from:?}", path.display())));
            }
            text = text.replace(from, to);
        }
        write(&path, &text)
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
    pub fn log(&self, process: &str) -> Log {
        Log::from_end(self.world.run_directory().log(process))
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
            text: if text.is_empty() {
                finished.stderr
            } else {
                text.to_owned()
            },
        }
    }
}

/// Where this very program is.
pub(crate) fn own_program() -> Result<String, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure(format!("this program cannot be found: {error}")))?;
    Ok(own.display().to_string())
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
