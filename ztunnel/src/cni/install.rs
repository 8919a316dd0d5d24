//! The plugin's place on a node: its program, its entry in the CNI configuration, and what it needs without the
//! agent. Comes in: the directories of the node. Goes out: atomic changes of them, repeated whenever somebody
//! else changes them. Nothing of it goes away when the agent ends: pods in the mesh wait for it then.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::process::{Failure, Gate};
use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};

use super::{
    conflist::TYPE,
    directory::{self, Edit, Found, Plan},
    files,
    options::CniOptions,
};

/// How often the directory is looked at though nothing was heard of it.
const LOOK: Duration = Duration::from_secs(5);
/// How long to wait for another writer to finish before looking.
const SETTLE: Duration = Duration::from_millis(10);
/// How often a directory that changes while it is read is read again.
const READS: usize = 5;
/// Largest file that is read, in bytes.
const MOST: u64 = 1 << 20;

/// The plugin's place on a node. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Installer {
    conf_dir: PathBuf,
    bin_dir: PathBuf,
    own: bool,
    entry: Arc<Value>,
    status: Arc<Mutex<Status>>,
}

/// How it stands, for `/config_dump`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The file that runtimes use, if our entry is in it.
    used: Option<String>,
    /// Whether our own configuration stands before the primary's.
    own_config: bool,
    /// What a person should know.
    problems: Vec<String>,
}

impl Installer {
    /// Changes nothing yet.
    pub fn new(options: &CniOptions, excluded: &[&str]) -> Self {
        metrics::describe_counter!(
            "weft_cni_sandboxes_refused_total",
            "New pods that were not let start before they were captured"
        );
        metrics::describe_counter!(
            "weft_cni_config_repairs_total",
            "Changes of the node's CNI configuration, to put our entry there or back"
        );
        metrics::describe_gauge!(
            "weft_cni_config_stands",
            "1 while our entry is in the CNI configuration that runtimes use"
        );
        let entry = json!({
            "type": TYPE,
            "socket": options.cni_socket,
            "kubeconfig": options.kubeconfig(),
            "state": options.state(),
            "excludeNamespaces": excluded,
        });
        Self {
            conf_dir: options.cni_conf_dir.clone(),
            bin_dir: options.cni_bin_dir.clone(),
            own: options.own_cni_config,
            entry: Arc::new(entry),
            status: Arc::default(),
        }
    }

    /// Copies this program to where runtimes look for plugins.
    ///
    /// # Errors
    /// One plain sentence.
    pub fn put_program(&self) -> Result<(), Failure> {
        let path = self.bin_dir.join(TYPE);
        let put = || files::write(&path, &fs::read("/proc/self/exe")?, 0o755);
        put().map_err(|why| {
            Failure(format!(
                "the CNI plugin cannot be copied to {}: {why}; mount the node's directory of CNI plugins there, or give another --cni-bin-dir",
                path.display()
            ))
        })
    }

    /// Keeps our entry in the configuration for ever. `stands` is open while it is there.
    pub async fn keep(self, stands: Gate) {
        let (ring, mut rung) = mpsc::channel(1);
        let mut watching = None;
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            watching = watching.or_else(|| watch(&self.conf_dir, &ring));
            self.settle(&stands);
            tokio::select! {
                _ = ticks.tick() => {}
                _ = rung.recv() => sleep(SETTLE).await,
            }
        }
    }

    /// How it stands.
    pub fn dump(&self) -> Value {
        let status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        serde_json::to_value(status).unwrap_or_default()
    }

    /// Made of a directory that nobody changed while it was read.
    fn plan(&self) -> io::Result<Plan> {
        let mut found = read(&self.conf_dir)?;
        for _ in 0..READS {
            let again = read(&self.conf_dir)?;
            if again == found {
                break;
            }
            found = again;
        }
        Ok(directory::install(&found, &self.entry, self.own))
    }

    fn settle(&self, stands: &Gate) {
        let plan = self.plan().unwrap_or_else(|why| Plan {
            problems: vec![format!("{} cannot be read: {why}", self.conf_dir.display())],
            ..Plan::default()
        });
        let mut status = Status {
            own_config: plan.used.as_deref() == Some(directory::OWN),
            used: plan.used,
            problems: plan.problems,
        };
        for edit in &plan.edits {
            if let Err(why) = apply(&self.conf_dir, edit) {
                status.used = None;
                status
                    .problems
                    .push(format!("the CNI configuration cannot be changed ({edit}): {why}"));
                break;
            }
            metrics::counter!("weft_cni_config_repairs_total").increment(1);
            tracing::info!(directory = %self.conf_dir.display(), "{edit}");
        }
        stands.set(status.used.is_some());
        metrics::gauge!("weft_cni_config_stands").set(if status.used.is_some() { 1.0 } else { 0.0 });
        let mut now = self.status.lock().unwrap_or_else(PoisonError::into_inner);
        if now.problems != status.problems {
            for problem in &status.problems {
                tracing::warn!(directory = %self.conf_dir.display(), problem, "CNI configuration");
            }
        }
        *now = status;
    }
}

/// Takes everything of ours out of the CNI configuration; answers what was done.
///
/// # Errors
/// When a file cannot be read or changed; what was done before it is done.
pub fn take_out(conf_dir: &Path) -> io::Result<Vec<String>> {
    let plan = directory::remove(&read(conf_dir)?);
    let mut done = Vec::new();
    for edit in &plan.edits {
        apply(conf_dir, edit)?;
        done.push(edit.to_string());
    }
    Ok(done)
}

/// Whether something may be otherwise. Our own reading is heard as well: to look because of that would never end.
fn is_change(event: &notify::Event) -> bool {
    let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
    event.need_rescan() || event.kind == written || !matches!(event.kind, EventKind::Access(_))
}

fn watch(directory: &Path, ring: &mpsc::Sender<()>) -> Option<notify::RecommendedWatcher> {
    let ring = ring.clone();
    let heard = move |event: notify::Result<notify::Event>| {
        if event.as_ref().map_or(true, is_change) {
            // one ring is as good as many
            let _ = ring.try_send(());
        }
    };
    let mut watcher = notify::recommended_watcher(heard).ok()?;
    watcher.watch(directory, RecursiveMode::NonRecursive).ok()?;
    Some(watcher)
}

fn read(directory: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // a link is followed
        let is_small_file = fs::metadata(entry.path()).is_ok_and(|it| it.is_file() && it.len() <= MOST);
        if !directory::is_ours_to_read(&name) || !is_small_file {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(entry.path())?).into_owned();
        found.push(Found { name, text });
    }
    Ok(found)
}

fn apply(directory: &Path, edit: &Edit) -> io::Result<()> {
    match edit {
        Edit::Write(name, text) => {
            let path = directory.join(name);
            let (path, mode) = match fs::canonicalize(&path) {
                Ok(path) => (path.clone(), fs::metadata(&path)?.permissions().mode() & 0o777),
                Err(_) => (path, 0o600),
            };
            files::write(&path, text.as_bytes(), mode)
        }
        Edit::Rename(from, to) => fs::rename(directory.join(from), directory.join(to)),
        Edit::Remove(name) => files::remove(&directory.join(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_reading_is_no_change_and_every_other_hand_is() {
        let change = |kind| is_change(&notify::Event::new(kind));
        assert!(!change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        for kind in [
            EventKind::Create(notify::event::CreateKind::File),
            EventKind::Modify(notify::event::ModifyKind::Any),
            EventKind::Remove(notify::event::RemoveKind::File),
            EventKind::Any,
        ] {
            assert!(change(kind), "{kind:?}");
        }
    }
}
