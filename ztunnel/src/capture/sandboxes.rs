//! The pod sandboxes of a node: which network namespace belongs to which pod UID. Comes in: `/proc` of the host,
//! and what the CNI plugin hands over when a sandbox is made. Goes out: open namespaces.
//!
//! A pod's namespace is the one its oldest process lives in: the sandbox is older than every container, and what
//! a container does to its own processes' namespaces comes later.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{
    fs::stat,
    process::{Pid, PidfdFlags, pidfd_open},
};
use tokio::{sync::watch, time::Instant};

use super::{NamespaceError, PodNamespace, cgroup, changes::Changes, namespace::Place};

/// How long one look at every process serves.
const FRESH: Duration = Duration::from_millis(200);
/// How long after it was handed over a namespace may have no process of its pod in it yet.
const GRACE: Duration = Duration::from_secs(60);
/// Namespaces handed over that no process has been seen in.
const MOST_HANDED: usize = 1024;

/// The pod sandboxes of this node.
#[derive(Debug)]
pub struct Sandboxes {
    proc: PathBuf,
    state: Mutex<State>,
    handed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct State {
    handed: HashMap<Arc<str>, Handed>,
    /// A process that was seen in a pod's namespace.
    seen: HashMap<Arc<str>, (u32, u64)>,
    looked: Option<(Instant, Processes)>,
}

/// The processes of each pod, by UID.
type Processes = HashMap<Arc<str>, Vec<Process>>;

/// A namespace from the CNI plugin. Its first process comes after the plugin.
#[derive(Debug)]
struct Handed {
    namespace: PodNamespace,
    container: Box<str>,
    at: Instant,
}

/// A process of a pod; the time since boot at which it began tells it from a later one with the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Process {
    started: u64,
    pid: u32,
}

impl Sandboxes {
    /// Looks for processes in this `/proc`, which must be the host's.
    pub fn new(proc: &Path) -> Arc<Self> {
        Arc::new(Self {
            proc: proc.to_owned(),
            state: Mutex::default(),
            handed: watch::Sender::new(0),
        })
    }

    /// Tells when a pod's namespace may be another, or gone, from now on.
    pub(super) fn changes(self: &Arc<Self>, uid: &Arc<str>) -> Changes {
        Changes::of_sandbox(self.clone(), uid.clone(), self.handed.subscribe())
    }

    /// The end of the process that a pod's namespace is known by. `None` where processes are not those of our own
    /// `/proc`, and while the namespace is known from the plugin's call alone.
    pub(super) fn end(&self, uid: &str) -> Option<OwnedFd> {
        let (pid, inode) = self.lock().seen.get(uid).copied()?;
        if self.proc != Path::new("/proc") {
            return None;
        }
        let process = Pid::from_raw(i32::try_from(pid).ok()?)?;
        let end = pidfd_open(process, PidfdFlags::NONBLOCK).ok()?;
        // the number may be another process' by now
        (self.inode_of(pid) == Some(inode)).then_some(end)
    }

    /// Takes the namespace of a sandbox that is being made. It replaces whatever the pod had.
    ///
    /// # Errors
    /// [`NamespaceError`], also when the descriptor is no network namespace, or the host's.
    pub fn hand(
        self: &Arc<Self>,
        uid: &Arc<str>,
        container: &str,
        file: OwnedFd,
    ) -> Result<PodNamespace, NamespaceError> {
        let place = Place::Sandbox(self.clone(), uid.clone());
        let namespace = PodNamespace::of(file, place)?;
        self.not_the_hosts(&namespace)?;
        let mut state = self.lock();
        state.handed.retain(|_, handed| handed.at.elapsed() < GRACE);
        if state.handed.len() >= MOST_HANDED {
            return Err(NamespaceError::TooMany(MOST_HANDED));
        }
        let known = state.handed.get(uid).map(|handed| &handed.namespace);
        let known = known.filter(|known| known.inode() == namespace.inode()).cloned();
        let namespace = known.unwrap_or(namespace);
        let handed = Handed {
            namespace: namespace.clone(),
            container: container.into(),
            at: Instant::now(),
        };
        state.handed.insert(uid.clone(), handed);
        drop(state);
        self.handed.send_modify(|count| *count += 1);
        Ok(namespace)
    }

    /// The sandbox of this container is being removed.
    pub fn removed(&self, uid: &str, container: &str) {
        let mut state = self.lock();
        if state
            .handed
            .get(uid)
            .is_some_and(|handed| *handed.container == *container)
        {
            state.handed.remove(uid);
            drop(state);
            self.handed.send_modify(|count| *count += 1);
        }
    }

    /// The namespace of a sandbox that is being removed.
    ///
    /// # Errors
    /// [`NamespaceError`], also when the descriptor is no network namespace, or the host's.
    pub fn leaving(self: &Arc<Self>, uid: &Arc<str>, file: OwnedFd) -> Result<PodNamespace, NamespaceError> {
        let namespace = PodNamespace::of(file, Place::Sandbox(self.clone(), uid.clone()))?;
        self.not_the_hosts(&namespace)?;
        Ok(namespace)
    }

    /// Opens the namespace of a pod: of its sandbox that was handed over last, else of its oldest process.
    pub(super) fn open(self: &Arc<Self>, uid: &Arc<str>) -> Result<PodNamespace, NamespaceError> {
        let mut state = self.lock();
        if let Some(handed) = state.handed.get(uid).filter(|handed| handed.at.elapsed() < GRACE) {
            return Ok(handed.namespace.clone());
        }
        let process = self
            .oldest(&mut state, uid)?
            .ok_or_else(|| NamespaceError::NoProcess(uid.clone()))?;
        let path = self.proc.join(process.pid.to_string()).join("ns/net");
        let file = File::open(&path).map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => NamespaceError::NoProcess(uid.clone()),
            _ => NamespaceError::System(path.clone(), why),
        })?;
        // the number may be another process' by now: what was opened counts only if it was this one's then
        if self.process_of(process.pid).as_ref() != Some(&(uid.clone(), process)) {
            state.looked = None;
            return Err(NamespaceError::NoProcess(uid.clone()));
        }
        let namespace = PodNamespace::of(file.into(), Place::Sandbox(self.clone(), uid.clone()))?;
        self.not_the_hosts(&namespace)?;
        state.seen.insert(uid.clone(), (process.pid, namespace.inode()));
        Ok(namespace)
    }

    /// Every pod that has a process here, or a sandbox in the making.
    pub(super) fn uids(&self) -> io::Result<Vec<Arc<str>>> {
        let mut state = self.lock();
        let mut uids: Vec<Arc<str>> = self.look(&mut state)?.keys().cloned().collect();
        uids.extend(state.handed.keys().cloned());
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// Resolves when another namespace is handed over, or one's sandbox is removed.
    pub(super) async fn handed(&self) {
        let mut handed = self.handed.subscribe();
        handed.mark_unchanged();
        // the sender lives as long as we do
        let _ = handed.changed().await;
    }

    /// Whether this still is the pod's namespace.
    pub(super) fn is_current(&self, uid: &Arc<str>, inode: u64) -> bool {
        let mut state = self.lock();
        if let Some(handed) = state.handed.get(uid) {
            if handed.at.elapsed() < GRACE {
                return handed.namespace.inode() == inode;
            }
            state.handed.remove(uid);
        }
        let seen = state.seen.get(uid).copied();
        if seen.is_some_and(|(pid, known)| known == inode && self.inode_of(pid) == Some(inode)) {
            return true;
        }
        let oldest = self.oldest(&mut state, uid).ok().flatten();
        match oldest.filter(|process| self.inode_of(process.pid) == Some(inode)) {
            Some(process) => {
                state.seen.insert(uid.clone(), (process.pid, inode));
                true
            }
            None => {
                state.seen.remove(uid);
                false
            }
        }
    }

    /// Whether a pod's namespace is known from its plugin call alone, so that the API server cannot have told its
    /// addresses yet.
    pub(super) fn is_new(&self, uid: &str) -> bool {
        let state = self.lock();
        state.handed.get(uid).is_some_and(|handed| handed.at.elapsed() < GRACE)
    }

    fn oldest(&self, state: &mut State, uid: &Arc<str>) -> Result<Option<Process>, NamespaceError> {
        let processes = self
            .look(state)
            .map_err(|why| NamespaceError::System(self.proc.clone(), why))?;
        Ok(processes.get(uid).and_then(|of_pod| of_pod.iter().min().copied()))
    }

    /// Every process of every pod.
    fn look<'a>(&self, state: &'a mut State) -> io::Result<&'a Processes> {
        let fresh = state.looked.as_ref().is_some_and(|(at, _)| at.elapsed() < FRESH);
        if !fresh {
            let mut found = Processes::new();
            for entry in fs::read_dir(&self.proc)? {
                let name = entry?.file_name();
                let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
                    continue;
                };
                if let Some((uid, process)) = self.process_of(pid) {
                    found.entry(uid).or_default().push(process);
                }
            }
            state.seen.retain(|uid, _| found.contains_key(uid));
            state.looked = Some((Instant::now(), found));
        }
        Ok(&state.looked.get_or_insert_with(|| (Instant::now(), HashMap::new())).1)
    }

    /// The pod of a process, if it is one's. Processes that end meanwhile are nobody's.
    fn process_of(&self, pid: u32) -> Option<(Arc<str>, Process)> {
        let directory = self.proc.join(pid.to_string());
        let uid = cgroup::pod_uid(&fs::read_to_string(directory.join("cgroup")).ok()?)?;
        let started = start_time(&fs::read_to_string(directory.join("stat")).ok()?)?;
        Some((uid.into(), Process { started, pid }))
    }

    fn inode_of(&self, pid: u32) -> Option<u64> {
        Some(stat(self.proc.join(pid.to_string()).join("ns/net")).ok()?.st_ino)
    }

    /// The agent may run in a network namespace other than the host's; the first process never does.
    fn not_the_hosts(&self, namespace: &PodNamespace) -> Result<(), NamespaceError> {
        if self.inode_of(1) == Some(namespace.inode()) {
            return Err(NamespaceError::OurOwn(namespace.label()));
        }
        Ok(())
    }

    /// As if a pod's namespace had been opened by this process.
    #[cfg(test)]
    pub(super) fn see(&self, uid: &Arc<str>, pid: u32) {
        let inode = self.inode_of(pid).unwrap_or_default();
        self.lock().seen.insert(uid.clone(), (pid, inode));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Field 22 of `/proc/<pid>/stat`. The second, a name of the process' own choice, is in parentheses.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "0a1b2c3d-1111-2222-3333-444455556666";

    fn process(proc: &Path, pid: u32, started: u64, cgroup: &str) {
        let directory = proc.join(pid.to_string());
        fs::create_dir_all(directory.join("ns")).unwrap();
        fs::write(directory.join("cgroup"), format!("0::{cgroup}\n")).unwrap();
        let zeros = "0 ".repeat(18);
        fs::write(directory.join("stat"), format!("{pid} (a ) b) S {zeros}{started} 0 0")).unwrap();
        let net = directory.join("ns/net");
        let _ = fs::remove_file(&net);
        std::os::unix::fs::symlink("/proc/self/ns/net", net).unwrap();
    }

    #[test]
    fn the_oldest_process_of_a_pod_is_found_and_the_hosts_namespace_refused() {
        let proc = tempfile::tempdir().unwrap();
        let pod = format!("/kubepods/pod{UID}/abc");
        process(proc.path(), 1, 1, "/");
        process(proc.path(), 7, 900, &pod);
        process(proc.path(), 8, 300, &pod);
        process(proc.path(), 9, 100, "/system.slice/sshd.service");
        fs::create_dir(proc.path().join("self")).unwrap();
        let sandboxes = Sandboxes::new(proc.path());
        let uids: Vec<Arc<str>> = vec![UID.into()];
        assert_eq!(sandboxes.uids().unwrap(), uids);
        let oldest = sandboxes.oldest(&mut sandboxes.lock(), &UID.into()).unwrap();
        assert_eq!(oldest, Some(Process { started: 300, pid: 8 }));
        assert!(matches!(sandboxes.open(&UID.into()), Err(NamespaceError::OurOwn(_))));
        assert!(matches!(
            sandboxes.open(&"other".into()),
            Err(NamespaceError::NoProcess(_))
        ));
    }

    #[test]
    fn a_process_number_that_went_to_another_pod_opens_nothing() {
        let proc = tempfile::tempdir().unwrap();
        process(proc.path(), 8, 300, &format!("/kubepods/pod{UID}/abc"));
        let sandboxes = Sandboxes::new(proc.path());
        sandboxes.uids().unwrap();
        let other = "ffffffff-1111-2222-3333-444455556666";
        process(proc.path(), 8, 400, &format!("/kubepods/pod{other}/abc"));
        assert!(matches!(sandboxes.open(&UID.into()), Err(NamespaceError::NoProcess(_))));
        // and the same pod's later process is another process
        process(proc.path(), 8, 300, &format!("/kubepods/pod{UID}/abc"));
        sandboxes.uids().unwrap();
        process(proc.path(), 8, 500, &format!("/kubepods/pod{UID}/abc"));
        assert!(matches!(sandboxes.open(&UID.into()), Err(NamespaceError::NoProcess(_))));
    }

    #[test]
    fn start_times_are_read_and_nonsense_is_not() {
        let zeros = "0 ".repeat(18);
        assert_eq!(start_time(&format!("1 (x) S {zeros}42 0")), Some(42));
        for nonsense in ["", "1 (x", "1 (x) S 0", "1 (x) S x"] {
            assert_eq!(start_time(nonsense), None, "{nonsense}");
        }
    }
}
