//! The running world, kept as its directory says.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use act::process::Failure;
use tokio::sync::Mutex;

use super::{
    command::{Finished, finish, first_line, run},
    issuer::{Issuer, TOKEN_LIFE_SECONDS, replace},
    mesh::{self, Part},
    network::{self, NODES, Node},
    objects::{Objects, Pod},
    pods,
    processes::{Launch, Process},
    run::RunDirectory,
};

/// What a world is made from.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The directory of Kubernetes YAML. It may be edited while the world runs.
    pub config: PathBuf,
    /// Where the mesh's programs are.
    pub programs: PathBuf,
    /// Life of the leaves that the CA issues.
    pub leaf_life: Duration,
    /// The programs' log directives, if not their default.
    pub log: Option<String>,
    /// Whether the mesh's own pods are started; without them the world is a cluster without a mesh.
    pub mesh: bool,
    /// A library that stands between node-1's ztunnel and the wall clock, and the file that says by how much it is
    /// off (libfaketime).
    pub clock: Option<(PathBuf, PathBuf)>,
}

impl Settings {
    /// The mesh of the programs in `programs`, as they are by themselves, over a configuration; leaves live for an hour.
    ///
    /// # Errors
    /// When the current directory is unknown.
    pub fn of(config: PathBuf, programs: &Path) -> Result<Self, Failure> {
        let programs =
            std::path::absolute(programs).map_err(|error| Failure(format!("{}: {error}", programs.display())))?;
        Ok(Self {
            config,
            programs,
            leaf_life: Duration::from_secs(3600),
            log: None,
            mesh: true,
            clock: None,
        })
    }
}

/// Two nodes, the pods in them, and the mesh. Everything ends when it is dropped, and what is left with the
/// namespaces it lives in.
#[derive(Debug)]
pub struct World {
    pub(super) settings: Settings,
    pub(super) run: RunDirectory,
    api: Issuer,
    machines: Issuer,
    pub(super) state: Mutex<State>,
}

/// What there is at the moment.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) objects: Arc<Objects>,
    /// Pods that have their place, by `namespace/name`.
    pub(super) attached: BTreeMap<String, Attached>,
    /// Programs that were started, by name.
    pub(super) processes: BTreeMap<String, Process>,
    /// How many pods ever got a place.
    pub(super) ports: u32,
}

/// A pod that has its place.
#[derive(Debug)]
pub(super) struct Attached {
    pub(super) pod: Pod,
    pub(super) port: u32,
}

impl World {
    /// Lays nodes and link; nothing runs yet. To be called once per process, inside [`crate::isolate`].
    ///
    /// # Errors
    /// The first thing that failed.
    pub async fn lay(run: RunDirectory, settings: Settings) -> Result<Arc<Self>, Failure> {
        private_mounts(&run).await?;
        network::lay().await?;
        let world = Self {
            api: Issuer::new("https://kubernetes.default.svc.cluster.local", &run.join("api.jwks"))?,
            machines: Issuer::new("https://machines.example", &run.join("machines.jwks"))?,
            settings,
            run,
            state: Mutex::default(),
        };
        mesh::write_issuers(&world.run, &world.api, &world.machines)?;
        Ok(Arc::new(world))
    }

    /// Starts what the directory says: the CA first, then node agents and proxies, then pods. `tell` hears one
    /// line per step.
    ///
    /// # Errors
    /// The first thing that failed.
    pub async fn start(&self, tell: &(dyn Fn(&str) + Sync)) -> Result<(), Failure> {
        let objects = Objects::read(&self.settings.config)?;
        self.adopt(Arc::new(objects), tell).await
    }

    /// Where it runs.
    pub fn run_directory(&self) -> &RunDirectory {
        &self.run
    }

    /// What it was made from.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The API server's stand-in.
    pub fn api(&self) -> &Issuer {
        &self.api
    }

    /// An issuer outside the cluster, by whose tokens the subject `envoy` may hold one identity.
    pub fn machines(&self) -> &Issuer {
        &self.machines
    }

    /// What the directory said when it was last understood.
    pub async fn objects(&self) -> Arc<Objects> {
        self.state.lock().await.objects.clone()
    }

    /// Every process of the mesh, and where it tells its metrics.
    pub async fn scraped(&self) -> Vec<(String, String)> {
        let objects = self.objects().await;
        let pods = objects.pods.values();
        pods.filter_map(|pod| Some((pod.short_name(), mesh::metrics_address(pod)?)))
            .collect()
    }

    /// Where the CA is: `https://HOST:15012`.
    ///
    /// # Errors
    /// When no pod runs it.
    pub async fn authority(&self) -> Result<String, Failure> {
        mesh::authority(&*self.objects().await)
    }

    /// Watches the directory and rewrites tokens before they expire, for as long as the world lives. What cannot
    /// be understood or started is told; what ran keeps running.
    pub async fn keep(self: Arc<Self>, tell: impl Fn(&str) + Sync) {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        let mut seen = String::new();
        let mut tokens_at = tokio::time::Instant::now();
        loop {
            tick.tick().await;
            if tokens_at.elapsed() > Duration::from_secs(TOKEN_LIFE_SECONDS / 2) {
                tokens_at = tokio::time::Instant::now();
                let objects = self.objects().await;
                objects
                    .pods
                    .values()
                    .filter_map(|pod| self.write_token(pod).err())
                    .for_each(|failure| tell(&failure.0));
            }
            let now = fingerprint(&self.settings.config);
            if now == seen {
                continue;
            }
            let adopted = match Objects::read(&self.settings.config) {
                Ok(objects) => self.adopt(Arc::new(objects), &|_| {}).await,
                Err(failure) => Err(failure),
            };
            if let Err(failure) = adopted {
                tell(&failure.0);
            }
            seen = now;
        }
    }

    /// Runs a program inside a pod, or inside a node when `place` is a node's name.
    ///
    /// # Errors
    /// When there is no such place, or the program cannot be started.
    pub async fn run_in(&self, place: &str, words: &[&str], deadline: Duration) -> Result<Finished, Failure> {
        let all = self.words_in(place, words).await?;
        let all: Vec<_> = all.iter().map(String::as_str).collect();
        finish(&all, "", deadline).await
    }

    /// Starts a program inside a pod or node that runs on by itself; its output is in the log of that name.
    ///
    /// # Errors
    /// As [`World::run_in`].
    pub async fn spawn_in(&self, place: &str, name: &str, words: &[&str]) -> Result<Process, Failure> {
        let launch = Launch {
            name: name.to_owned(),
            words: self.words_in(place, words).await?,
            log: self.run.log(name),
        };
        launch.start()
    }

    /// Kills a process of the world with SIGKILL.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn kill(&self, name: &str) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        process(&mut state, name)?.kill().await;
        Ok(())
    }

    /// Starts a process again as it was.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be started.
    pub async fn restart(&self, name: &str) -> Result<(), Failure> {
        let mut state = self.state.lock().await;
        let process = process(&mut state, name)?;
        process.kill().await;
        *process = process.launch().start()?;
        Ok(())
    }

    /// Starts another process of this name beside the one that runs, and takes it for the one of that name from now on.
    /// Answers the earlier one, which runs on, and the admin socket of the new one.
    ///
    /// # Errors
    /// When there is none of that name, or it cannot be started.
    pub async fn succeed(&self, name: &str) -> Result<(Process, PathBuf), Failure> {
        let mut state = self.state.lock().await;
        let process = process(&mut state, name)?;
        let launch = process.launch().beside();
        let socket = launch.admin_socket().unwrap_or_default();
        let earlier = std::mem::replace(process, launch.start()?);
        Ok((earlier, socket))
    }

    /// Takes an earlier process for the one of this name again. Answers the one that was taken for it.
    ///
    /// # Errors
    /// When there is none of that name.
    pub async fn put_back(&self, name: &str, earlier: Process) -> Result<Process, Failure> {
        let mut state = self.state.lock().await;
        Ok(std::mem::replace(process(&mut state, name)?, earlier))
    }

    /// Process id of a process of the world.
    ///
    /// # Errors
    /// When there is none of that name, or it ended.
    pub async fn pid(&self, name: &str) -> Result<u32, Failure> {
        let mut state = self.state.lock().await;
        let process = process(&mut state, name)?;
        let ended = process.ended();
        process.pid().ok_or_else(|| process.obituary(ended.unwrap_or_default()))
    }

    /// Processes that should run and do not: one sentence each.
    pub async fn ended(&self) -> Vec<Failure> {
        let mut state = self.state.lock().await;
        let processes = state.processes.values_mut();
        processes
            .filter_map(|process| process.ended().map(|status| process.obituary(status)))
            .collect()
    }

    /// Whether something listens on a TCP port in a pod or node.
    pub async fn listens(&self, place: &str, port: u16) -> bool {
        let words = ["cat", "/proc/net/tcp", "/proc/net/tcp6"];
        let Ok(finished) = self.run_in(place, &words, Duration::from_secs(5)).await else {
            return false;
        };
        let wanted = format!(":{port:04X}");
        finished.stdout.lines().any(|line| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|local| local.ends_with(&wanted)) && fields.nth(1) == Some("0A")
        })
    }

    async fn words_in(&self, place: &str, words: &[&str]) -> Result<Vec<String>, Failure> {
        let mut all = match Node::named(place) {
            Some(node) => node.enter(),
            None => {
                let state = self.state.lock().await;
                let pod = state.attached.get(place);
                let pod = pod.ok_or_else(|| Failure(format!("there is no pod {place}")))?;
                pods::enter(&pod.pod, None, &self.run)
            }
        };
        all.extend(words.iter().map(ToString::to_string));
        Ok(all)
    }

    pub(super) fn write_token(&self, pod: &Pod) -> Result<(), Failure> {
        match Part::of(pod) {
            Some(Part::Ztunnel | Part::Waypoint) => {
                replace(&mesh::token_path(pod, &self.run), &self.api.pod_token(pod)?)
            }
            _ => Ok(()),
        }
    }

    /// Waits for a condition, at most 30 s, unless a process of the world ends first.
    ///
    /// # Errors
    /// What was waited for, or which process ended and its last words.
    pub async fn wait_for<F: Future<Output = bool>>(
        &self,
        what: &str,
        mut condition: impl FnMut() -> F,
    ) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            if condition().await {
                return Ok(());
            }
            if let Some(failure) = self.ended().await.into_iter().next() {
                return Err(failure);
            }
            if tokio::time::Instant::now() > deadline {
                let logs = self.run.join("logs");
                return Err(Failure(format!(
                    "waited 30 s in vain for {}; the logs are in {}",
                    first_line(what),
                    logs.display()
                )));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Places of our own for namespaces, seen by nobody outside this mount namespace.
async fn private_mounts(run_directory: &RunDirectory) -> Result<(), Failure> {
    if run_directory.join("").starts_with("/run") {
        return Err(Failure(
            "the run directory lies under /run, where the world keeps its own; choose another with --run".into(),
        ));
    }
    run(&["mount", "-t", "tmpfs", "tmpfs", "/run"]).await?;
    let failed = |error| Failure(format!("a directory for namespaces cannot be made: {error}"));
    fs::create_dir_all("/run/netns").map_err(failed)?;
    let ours = run_directory.join("netns");
    for node in NODES {
        fs::create_dir_all(ours.join(node.name)).map_err(failed)?;
    }
    let ours = ours.display().to_string();
    run(&["mount", "--bind", &ours, &ours]).await?;
    run(&["mount", "--make-shared", &ours]).await.map(drop)
}

/// Names, sizes and times of a directory's YAML: differs when a file was written.
fn fingerprint(directory: &Path) -> String {
    let files = super::objects::yaml_files(directory).unwrap_or_default();
    let stamp = |file: &PathBuf| {
        let found = fs::metadata(file).ok()?;
        Some(format!(
            "{} {} {:?};",
            file.display(),
            found.len(),
            found.modified().ok()
        ))
    };
    files.iter().filter_map(stamp).collect()
}

fn process<'a>(state: &'a mut State, name: &str) -> Result<&'a mut Process, Failure> {
    state
        .processes
        .get_mut(name)
        .ok_or_else(|| Failure(format!("there is no process {name}")))
}
