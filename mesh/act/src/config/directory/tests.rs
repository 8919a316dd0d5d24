use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    os::unix::fs::symlink,
    path::PathBuf,
    sync::{Condvar, Mutex},
};

use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::config::{Object, Origin};

/// Bound of every wait; passing takes a fraction of it.
const LONG: Duration = Duration::from_secs(20);

/// What a listener has been told.
#[derive(Debug, Default)]
struct Heard {
    objects: BTreeMap<ObjectRef, (Object, Arc<Origin>)>,
    rejected: BTreeMap<ObjectRef, Vec<Problem>>,
    complete: bool,
    deleted: Vec<String>,
    /// Names of the objects put by each batch that was not empty.
    batches: Vec<Vec<String>>,
}

impl Heard {
    fn take(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut put = Vec::new();
        for change in changes {
            match change {
                Change::Put(object, origin) => {
                    put.push(object.key().name.to_string());
                    self.objects.insert(object.key(), (*object, origin));
                }
                Change::Delete(object) => {
                    assert!(self.objects.remove(&object).is_some(), "{object} was there");
                    self.rejected.remove(&object);
                    self.deleted.push(object.name.to_string());
                }
                Change::Reject(problem) => self.rejected.entry(problem.object.clone()).or_default().push(problem),
                Change::Accept(object) => assert!(self.rejected.remove(&object).is_some(), "{object} was rejected"),
                Change::Fences(read) => assert!(read, "a directory holds every NetworkPolicy there is"),
                Change::Complete => {
                    assert!(!self.complete, "complete once");
                    self.complete = true;
                }
            }
        }
        self.batches.push(put);
    }

    fn label(&self, name: &str) -> Option<String> {
        let (object, _) = self.objects.iter().find(|(key, _)| &*key.name == name)?.1;
        object.metadata().label("v").map(|value| value.to_string())
    }

    fn has(&self, name: &str, label: &str) -> bool {
        self.label(name).as_deref() == Some(label)
    }

    fn problems(&self) -> Vec<String> {
        let told = self.objects.values().flat_map(|(_, origin)| &origin.problems);
        told.chain(self.rejected.values().flatten())
            .map(ToString::to_string)
            .collect()
    }

    fn says(&self, part: &str) -> bool {
        self.problems().iter().any(|problem| problem.contains(part))
    }
}

/// A directory looked at when the test says so.
struct Desk {
    folder: TempDir,
    source: Source,
    heard: Heard,
}

impl Desk {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let desk = Self {
            source: Source::new(folder.path()),
            folder,
            heard: Heard::default(),
        };
        for (name, text) in files {
            desk.write(name, text);
        }
        desk
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    /// A look that believes everything.
    fn look(&mut self) -> &Heard {
        let look = self.source.shelf.look(true);
        self.tell(look)
    }

    /// A look that believes only what it has seen for a while.
    fn glance(&mut self) -> bool {
        let look = self.source.shelf.look(false);
        let takes_away = look.as_ref().expect("listed").takes_away();
        self.tell(look);
        takes_away
    }

    fn tell(&mut self, look: Result<Look, DirectoryError>) -> &Heard {
        let changes = self.source.tell(look);
        self.heard.take(changes);
        &self.heard
    }
}

/// A directory being watched.
struct Watched {
    folder: TempDir,
    shared: Arc<(Mutex<(Heard, bool)>, Condvar)>,
}

impl Watched {
    fn new(files: &[(&str, &str)]) -> Self {
        Self::over(Desk::new(files).folder)
    }

    fn over(folder: TempDir) -> Self {
        let source = Source::new(folder.path());
        let shared = Arc::new((Mutex::new((Heard::default(), true)), Condvar::new()));
        let told = shared.clone();
        thread::spawn(move || {
            source.follow(|changes| {
                let mut state = told.0.lock().expect("not poisoned");
                state.0.take(changes);
                told.1.notify_all();
                state.1
            });
        });
        let watched = Self { folder, shared };
        watched.until("complete", |heard| heard.complete);
        watched
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("written");
    }

    /// Waits until this holds, and returns how long that took.
    fn until(&self, what: &str, holds: impl Fn(&Heard) -> bool) -> Duration {
        let start = Instant::now();
        let state = self.shared.0.lock().expect("not poisoned");
        let waited = self
            .shared
            .1
            .wait_timeout_while(state, LONG, |(heard, _)| !holds(heard));
        let (state, timeout) = waited.expect("not poisoned");
        assert!(!timeout.timed_out(), "{what}: {:#?}", state.0);
        start.elapsed()
    }

    fn now<T>(&self, ask: impl Fn(&Heard) -> T) -> T {
        ask(&self.shared.0.lock().expect("not poisoned").0)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Ok(mut state) = self.shared.0.lock() {
            state.1 = false;
        }
    }
}

/// A Namespace with a label to tell versions by.
fn namespace(name: &str, version: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{v: '{version}'}}\n")
}

fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, labels: {{v: '1'}}}}\nspec: {spec}\n"
    )
}

#[test]
fn every_configuration_file_is_read_and_no_other() {
    let mut desk = Desk::new(&[
        ("a.yaml", &namespace("a", "1")),
        ("deep/er/b.yml", &namespace("b", "1")),
        (
            "c.json",
            "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"c\"}}",
        ),
        (".hidden.yaml", &namespace("x", "1")),
        (".git/d.yaml", &namespace("x", "1")),
        ("e.yaml~", &namespace("x", "1")),
        ("e.yaml.tmp", &namespace("x", "1")),
        ("notes.txt", "none of your business"),
        ("empty.yaml", ""),
    ]);
    let heard = desk.look();
    let names: Vec<_> = heard.objects.keys().map(|key| key.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    assert!(heard.complete && heard.problems().is_empty());
    let place = heard
        .objects
        .values()
        .next()
        .and_then(|(_, origin)| origin.place.clone())
        .expect("a place");
    assert!(place.file.ends_with("/a.yaml") && place.line == 2, "{place:?}");
    assert_eq!(desk.look().batches.len(), 1, "nothing new is nothing told");
    let once = read(desk.folder.path()).expect("readable");
    assert!(
        matches!(once.last(), Some(Change::Complete)) && once.len() == 5,
        "{once:?}"
    );
}

#[test]
fn a_directory_that_is_none_is_one_plain_sentence() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("file"), "").expect("written");
    for (name, sentence) in [("none", "is not there"), ("file", "is not a directory")] {
        let error = read(&folder.path().join(name)).expect_err("refused").to_string();
        assert!(error.contains(sentence) && error.contains(name), "{error}");
    }
}

#[test]
fn the_list_is_not_complete_while_a_file_has_never_been_readable() {
    let mut desk = Desk::new(&[
        ("a.yaml", &namespace("a", "1")),
        ("b.yaml", "kind: Namespace\nmetadata: [\n"),
    ]);
    let heard = desk.look();
    assert!(!heard.complete && heard.has("a", "1"));
    let problems = heard.problems();
    assert!(
        problems[0].contains("b.yaml:3: File") && problems[0].contains("refuse everything"),
        "{problems:?}"
    );
    desk.write("b.yaml", &namespace("b", "1"));
    let heard = desk.look();
    assert!(
        heard.complete && heard.has("b", "1") && heard.problems().is_empty(),
        "{heard:?}"
    );
}

#[test]
fn a_file_that_cannot_be_read_keeps_what_it_held() {
    let two = namespace("a", "1") + &namespace("b", "1");
    let mut desk = Desk::new(&[("f.yaml", &two)]);
    desk.look();
    for broken in ["kind: [", "a: 1\na: 2\n", "\u{0}", "just words"] {
        desk.write("f.yaml", &format!("{}---\n{broken}", namespace("a", "2")));
        let heard = desk.look();
        assert!(
            heard.has("a", "1") && heard.has("b", "1") && heard.deleted.is_empty(),
            "{broken:?}"
        );
        assert!(
            heard.says("f.yaml:") && heard.says("What it held before stays."),
            "{:?}",
            heard.problems()
        );
        assert_eq!(heard.problems().len(), 1);
    }
    desk.write("f.yaml", &namespace("a", "3"));
    let heard = desk.look();
    assert!(
        heard.has("a", "3") && heard.deleted == ["b"] && heard.problems().is_empty(),
        "{heard:?}"
    );
}

#[test]
fn a_change_of_several_files_is_one_batch() {
    let mut desk = Desk::new(&[("a.yaml", &namespace("a", "1")), ("b.yaml", &namespace("b", "1"))]);
    desk.look();
    desk.write("a.yaml", &namespace("a", "2"));
    desk.write("b.yaml", &namespace("b", "2"));
    assert_eq!(desk.look().batches, [["a", "b"], ["a", "b"]]);
}

#[test]
fn what_takes_away_is_believed_only_when_seen_for_a_while() {
    let mut desk = Desk::new(&[("a.yaml", &namespace("a", "1")), ("b.yaml", &namespace("b", "1"))]);
    desk.look();
    desk.source.shelf.patience = LONG;
    desk.remove("a.yaml");
    desk.write("b.yaml", "# nothing yet\n");
    assert!(desk.glance(), "both are doubtful");
    assert!(desk.heard.deleted.is_empty());
    desk.write("a.yaml", &namespace("a", "2"));
    assert!(desk.glance(), "one still is");
    assert!(desk.heard.has("a", "2") && desk.heard.deleted.is_empty());
    desk.source.shelf.patience = Duration::ZERO;
    assert!(!desk.glance());
    assert_eq!(desk.heard.deleted, ["b"]);
}

#[test]
fn an_object_that_moves_to_another_file_is_never_gone() {
    let mut desk = Desk::new(&[
        ("a.yaml", &(namespace("a", "1") + &namespace("mover", "1"))),
        ("b.yaml", &namespace("b", "1")),
        ("c.yaml", &namespace("c", "1")),
    ]);
    desk.look();
    desk.write("a.yaml", &namespace("a", "1"));
    desk.write("b.yaml", &(namespace("b", "1") + &namespace("mover", "2")));
    fs::rename(desk.path("c.yaml"), desk.path("d.yaml")).expect("renamed");
    let heard = desk.look();
    assert!(
        heard.has("mover", "2") && heard.has("c", "1") && heard.deleted.is_empty(),
        "{heard:?}"
    );
}

#[test]
fn of_an_object_defined_twice_the_first_file_counts_and_both_are_named() {
    let mut desk = Desk::new(&[
        ("a.yaml", &namespace("a", "1")),
        ("b.yaml", &(namespace("a", "2") + &namespace("a", "3"))),
    ]);
    let heard = desk.look();
    assert!(heard.has("a", "1"));
    let problems = heard.problems();
    assert_eq!(problems.len(), 2, "{problems:?}");
    for (problem, line) in problems.iter().zip([2, 8]) {
        let named = problem.contains(&format!("b.yaml:{line}: Namespace a")) && problem.contains("a.yaml:2 counts");
        assert!(named, "{problem}");
    }
    desk.remove("a.yaml");
    let heard = desk.look();
    assert!(heard.has("a", "2") && heard.deleted.is_empty());
    assert_eq!(heard.problems().len(), 1);
    desk.write("b.yaml", &namespace("a", "4"));
    assert!(desk.look().problems().is_empty());
}

#[test]
fn of_an_object_that_is_refused_the_last_good_version_stays() {
    let good = policy("p", "{action: DENY, rules: [{}]}");
    let bad = policy("p", "{action: DNY, rules: [{}]}");
    let mut desk = Desk::new(&[("p.yaml", &good)]);
    desk.look();
    desk.write("p.yaml", &(namespace("n", "1") + &bad));
    let heard = desk.look();
    assert!(heard.has("p", "1") && heard.has("n", "1"), "the rest of the file holds");
    assert!(
        heard.says("spec.action") && heard.says("The last good version stays."),
        "{:?}",
        heard.problems()
    );
    desk.write("p.yaml", &good);
    assert!(desk.look().problems().is_empty());
    desk.write("p.yaml", &bad);
    desk.look();
    desk.remove("p.yaml");
    let heard = desk.look();
    assert!(
        heard.deleted.contains(&"p".to_owned()) && heard.problems().is_empty(),
        "{heard:?}"
    );
}

#[test]
fn a_policy_refused_from_the_start_holds_as_a_stand_in_until_corrected() {
    let mut desk = Desk::new(&[("p.yaml", &policy("p", "7"))]);
    let heard = desk.look();
    let Some((Object::AuthorizationPolicy(policy_now), _)) = heard.objects.values().next() else {
        panic!("{heard:?}")
    };
    assert_eq!(policy_now.spec["action"], "DENY");
    assert!(
        heard.complete && heard.says("Until it is corrected"),
        "{:?}",
        heard.problems()
    );
    desk.write("p.yaml", &policy("p", "{action: ALOW}"));
    let heard = desk.look();
    let Some((Object::AuthorizationPolicy(policy_now), _)) = heard.objects.values().next() else {
        panic!("{heard:?}")
    };
    assert_eq!(policy_now.spec["action"], "ALOW", "the newest is what restricts");
    desk.write("p.yaml", &policy("p", "{}"));
    assert!(desk.look().problems().is_empty());
    desk.write("p.yaml", &policy("p", "{action: ALOW}"));
    assert!(desk.look().says("The last good version stays."));
}

#[test]
fn a_directory_that_goes_changes_nothing_but_is_told() {
    let mut desk = Desk::new(&[("a.yaml", &namespace("a", "1"))]);
    desk.look();
    fs::remove_dir_all(desk.folder.path()).expect("removed");
    let heard = desk.look();
    assert!(
        heard.has("a", "1") && heard.deleted.is_empty() && heard.says("is not there"),
        "{heard:?}"
    );
    assert_eq!(desk.look().batches.len(), 2, "it is told once");
    desk.write("a.yaml", &namespace("a", "2"));
    let heard = desk.look();
    assert!(heard.has("a", "2") && heard.problems().is_empty());
}

#[test]
fn hostile_files_are_told_and_stop_nobody() {
    let mut desk = Desk::new(&[
        ("good.yaml", &namespace("good", "1")),
        ("sub/x.yaml", &namespace("sub", "1")),
    ]);
    symlink(desk.path("sub"), desk.path("sub/loop")).expect("linked");
    symlink(desk.folder.path(), desk.path("sub/root")).expect("linked");
    symlink(desk.path("nowhere"), desk.path("dangling.yaml")).expect("linked");
    fs::create_dir(desk.path("folder.yaml")).expect("made");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        desk.path("pipe.yaml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RWXU,
        0,
    )
    .expect("a pipe");
    let deep: String = (0..20).map(|_| "d/").collect();
    desk.write(&format!("{deep}x.yaml"), &namespace("deep", "1"));
    fs::write(desk.path("latin.yaml"), b"a: \xe9").expect("written");
    let heard = desk.look();
    assert!(heard.has("good", "1") && heard.has("sub", "1") && !heard.has("deep", "1"));
    for part in ["dangling.yaml", "deeper than 16 folders", "latin.yaml", "not UTF-8"] {
        assert!(heard.says(part), "{part}: {:?}", heard.problems());
    }
    assert_eq!(heard.problems().len(), 3, "{:?}", heard.problems());
}

#[test]
fn more_files_than_are_allowed_change_nothing() {
    let mut desk = Desk::new(&[("a.yaml", &namespace("a", "1"))]);
    desk.look();
    for index in 0..=MAX_FILES {
        fs::write(desk.path(&format!("f{index}.yaml")), "").expect("written");
    }
    let heard = desk.look();
    assert!(
        heard.has("a", "1") && heard.says("more than 10000 files"),
        "{:?}",
        heard.problems()
    );
    assert!(read(desk.folder.path()).is_err());
}

#[test]
fn an_edit_takes_effect_within_a_second() {
    let watched = Watched::new(&[("a.yaml", &namespace("a", "0"))]);
    let mut fastest = LONG;
    for version in 1..5 {
        watched.write("a.yaml", &namespace("a", &version.to_string()));
        fastest = fastest.min(watched.until("edit", |heard| heard.has("a", &version.to_string())));
    }
    assert!(fastest < Duration::from_secs(1), "{fastest:?}");
    fs::remove_file(watched.path("a.yaml")).expect("removed");
    let gone = watched.until("removal", |heard| heard.deleted == ["a"]);
    println!("edit {fastest:?}, removal {gone:?}");
}

#[test]
fn files_replaced_by_rename_and_new_folders_are_seen() {
    let watched = Watched::new(&[("a.yaml", &namespace("a", "0"))]);
    for version in 1..4 {
        watched.write(".a.yaml.swp", &namespace("a", &version.to_string()));
        fs::rename(watched.path(".a.yaml.swp"), watched.path("a.yaml")).expect("renamed");
        watched.until("rename", |heard| heard.has("a", &version.to_string()));
    }
    fs::rename(watched.path("a.yaml"), watched.path("a.yaml~")).expect("renamed");
    watched.write("a.yaml", &namespace("a", "4"));
    watched.until("backup and rewrite", |heard| heard.has("a", "4"));
    fs::create_dir(watched.path("new")).expect("made");
    watched.write("new/b.yaml", &namespace("b", "1"));
    watched.until("a new folder", |heard| heard.has("b", "1"));
    watched.write("new/b.yaml", &namespace("b", "2"));
    watched.until("a file of a new folder", |heard| heard.has("b", "2"));
}

#[test]
fn a_config_map_swapped_by_its_link_is_one_batch() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().to_owned();
    let version = |name: &str, version: &str| {
        fs::create_dir(root.join(name)).expect("made");
        for object in ["a", "b"] {
            let path = root.join(name).join(format!("{object}.yaml"));
            fs::write(path, namespace(object, version)).expect("written");
        }
    };
    version("..1", "1");
    symlink("..1", root.join("..data")).expect("linked");
    for object in ["a", "b"] {
        let name = format!("{object}.yaml");
        symlink(format!("..data/{name}"), root.join(name)).expect("linked");
    }
    let watched = Watched::over(folder);
    watched.until("first", |heard| heard.has("a", "1") && heard.has("b", "1"));
    version("..2", "2");
    symlink("..2", root.join("..data_tmp")).expect("linked");
    fs::rename(root.join("..data_tmp"), root.join("..data")).expect("renamed");
    fs::remove_dir_all(root.join("..1")).expect("removed");
    watched.until("second", |heard| heard.has("a", "2") && heard.has("b", "2"));
    assert_eq!(watched.now(|heard| heard.batches.clone()), [["a", "b"], ["a", "b"]]);
    assert!(watched.now(|heard| heard.deleted.is_empty()));
}

#[test]
fn a_file_being_written_is_not_taken_by_halves() {
    let watched = Watched::new(&[("a.yaml", &namespace("a", "0")), ("b.yaml", &namespace("b", "0"))]);
    let mut file = fs::File::create(watched.path("a.yaml")).expect("opened");
    file.write_all(namespace("a", "1").as_bytes()).expect("written");
    file.flush().expect("flushed");
    for version in 1..4 {
        watched.write("b.yaml", &namespace("b", &version.to_string()));
        watched.until("the other file", |heard| heard.has("b", &version.to_string()));
        assert!(watched.now(|heard| heard.has("a", "0")), "half a file was taken");
    }
    watched.until("the trouble", |heard| heard.says("is being written"));
    file.write_all(namespace("c", "1").as_bytes()).expect("written");
    drop(file);
    watched.until("the whole file", |heard| heard.has("a", "1") && heard.has("c", "1"));
    let batches = watched.now(|heard| heard.batches.clone());
    assert!(batches.contains(&vec!["a".to_owned(), "c".to_owned()]), "{batches:?}");
    watched.until("no trouble", |heard| heard.problems().is_empty());
}

#[test]
fn a_directory_that_comes_back_is_watched_again() {
    let watched = Watched::new(&[("a.yaml", &namespace("a", "0"))]);
    fs::remove_dir_all(watched.folder.path()).expect("removed");
    watched.until("told", |heard| heard.says("is not there"));
    assert!(watched.now(|heard| heard.has("a", "0") && heard.deleted.is_empty()));
    fs::create_dir(watched.folder.path()).expect("made");
    watched.write("a.yaml", &namespace("a", "1"));
    watched.until("back", |heard| heard.has("a", "1") && heard.problems().is_empty());
    watched.write("a.yaml", &namespace("a", "2"));
    watched.until("watched", |heard| heard.has("a", "2"));
}

/// A captured pod of the namespace `shop`.
const POD: &str = "---
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weft.dev/dataplane-mode: ambient}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {nodeName: node-1, serviceAccountName: web}
status: {podIP: 10.0.0.1}
";

#[test]
fn what_a_person_misspells_is_told_with_file_and_line_and_still_binds() {
    let bad = "
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: cidr, namespace: shop}
spec:
  rules:
  - from:
    - source:
        ipBlocks:
        - 10.0.0.0/8
        - 10.0.0.0/99
---
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: form, namespace: shop}
spec:
  rules:
  - form:
    - source: {namespaces: [a]}
---
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: action, namespace: shop}
spec:
  action: ALOW
";
    let desk = Desk::new(&[("a.yaml", POD), ("b.yaml", bad)]);
    let (_, reader) = load(desk.folder.path(), MeshSettings::default()).expect("readable");
    let snapshot = reader.load();
    assert!(snapshot.complete);
    for (name, field, line) in [
        ("cidr", "spec.rules[0].from[0].source.ipBlocks[1]", 11),
        ("form", "spec.rules[0].form", 18),
        ("action", "spec.action", 25),
    ] {
        let (_, problems) = snapshot
            .problems
            .iter()
            .find(|(object, _)| &*object.name == name)
            .expect("told");
        let place = problems[0].place.clone().expect("placed");
        assert_eq!((&*problems[0].field, place.line), (field, line), "{problems:?}");
        assert!(place.file.ends_with("b.yaml"));
    }
    let pod = snapshot.workloads.get("shop.web").expect("the pod");
    let mut binding: Vec<_> = pod
        .policies
        .policies
        .iter()
        .map(|it| it.policy.object.name.to_string())
        .collect();
    binding.sort_unstable();
    assert_eq!(binding, ["action", "cidr", "form"]);
}

#[test]
fn a_watched_directory_reaches_its_readers() {
    let desk = Desk::new(&[("a.yaml", POD)]);
    let mut reader = watch(desk.folder.path(), MeshSettings::default()).expect("readable");
    assert_eq!(reader.load().workloads.len(), 1);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        desk.write("b.yaml", "kind: [");
        let told = async {
            loop {
                let snapshot = reader.changed().await;
                if snapshot.problems.len() == 1 {
                    return snapshot;
                }
            }
        };
        let told = tokio::time::timeout(LONG, told).await.expect("told in time");
        assert_eq!((told.workloads.len(), told.complete), (1, true));
    });
}

#[test]
fn nobody_is_watched_for() {
    let desk = Desk::new(&[("a.yaml", POD)]);
    let (directory, reader) = load(desk.folder.path(), MeshSettings::default()).expect("readable");
    let thread = thread::spawn(move || directory.watch());
    drop(reader);
    desk.write("a.yaml", "");
    let start = Instant::now();
    while !thread.is_finished() {
        assert!(start.elapsed() < LONG, "it watches on");
        thread::yield_now();
    }
}

/// What a test does to one of three files.
#[derive(Debug, Clone)]
enum Act {
    Write(usize, String),
    Remove(usize),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let object = ("[abc]", "[12]").prop_map(|(name, version)| namespace(&name, &version));
    let content = prop_oneof![
        6 => proptest::collection::vec(object, 0..4).prop_map(|objects| objects.concat()),
        1 => Just("kind: [".to_owned()),
        1 => Just(policy("p", "{}")),
        1 => Just(policy("p", "{action: ALOW}")),
        1 => Just(namespace("B", "1")),
    ];
    let act = prop_oneof![
        4 => (0..3_usize, content).prop_map(|(file, text)| Act::Write(file, text)),
        1 => (0..3_usize).prop_map(Act::Remove),
    ];
    proptest::collection::vec(act, 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// However it came to be, what has been told is what a fresh read tells once everything is good.
    #[test]
    fn the_way_does_not_matter(way in acts(), end in proptest::collection::vec(("[abc]", "[12]"), 0..4)) {
        let mut desk = Desk::new(&[]);
        desk.look();
        for act in way {
            match act {
                Act::Write(file, text) => desk.write(&format!("{file}.yaml"), &text),
                Act::Remove(file) => drop(fs::remove_file(desk.path(&format!("{file}.yaml")))),
            }
            desk.look();
        }
        for (file, (name, version)) in end.iter().enumerate() {
            desk.write(&format!("{file}.yaml"), &namespace(name, version));
        }
        for file in end.len()..3 {
            drop(fs::remove_file(desk.path(&format!("{file}.yaml"))));
        }
        desk.look();
        let mut fresh = Heard::default();
        fresh.take(read(desk.folder.path()).expect("readable"));
        prop_assert_eq!(&desk.heard.objects, &fresh.objects);
        prop_assert_eq!(&desk.heard.rejected, &fresh.rejected);
        prop_assert!(desk.heard.complete);
    }
}

/// What is logged by this thread meanwhile.
fn logged(work: impl FnOnce()) -> Vec<String> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = lines.clone();
    let log = tracing_subscriber::fmt()
        .with_ansi(false)
        .without_time()
        .with_writer(move || Lines(writer.clone()));
    tracing::subscriber::with_default(log.finish(), work);
    let written = lines.lock().expect("whole").clone();
    let text = String::from_utf8(written).expect("text");
    text.lines().map(str::to_owned).collect()
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_file_that_cannot_be_read_is_in_the_log_once_and_so_is_its_end() {
    let mut desk = Desk::new(&[("a.yaml", "kind: ["), ("b.yaml", "kind: Namespace")]);
    let lines = logged(|| {
        desk.look();
        desk.look();
        desk.write("b.yaml", "# nothing");
        desk.look();
        desk.write("a.yaml", "# nothing");
        desk.look();
        desk.look();
    });
    let [broken, mended] = lines.as_slice() else {
        panic!("{lines:?}")
    };
    assert!(broken.contains("WARN") && broken.contains("a.yaml:2"), "{broken}");
    assert!(broken.contains("proxies that start refuse everything"), "{broken}");
    assert!(
        mended.contains("INFO") && mended.contains("a.yaml can be read"),
        "{mended}"
    );
}
