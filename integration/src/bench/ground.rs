//! Two nodes with every subject's pods in them, and what carries their connections, running.

use std::{collections::BTreeMap, fs, sync::Arc, time::Duration};

use act::process::Failure;

use super::{BenchOptions, Subject, certificates, envoy, haproxy, objects, usage};
use crate::{
    check::own_program,
    show::Screen,
    world::{Finished, Process, RunDirectory, Settings, World},
};

/// The pods that have a proxy of their own where each pod has: those that dial, and the one that is dialled.
const PLACES: [&str; 3] = ["client", "near", "server"];
/// Makes every route of a pod's network choose cubic for the sockets that use it, whoever opens them: the host's own
/// choice may bound even what has no proxy.
const CUBIC: &str = "ip -4 route show table all | grep -v -e ^broadcast -e congctl | \
                     while read -r route; do ip route change $route congctl cubic || exit 1; done";

/// The world of the bench.
pub(super) struct Ground {
    pub(super) world: Arc<World>,
    pub(super) options: BenchOptions,
    pub(super) screen: Screen,
    peers: BTreeMap<(Subject, &'static str), Process>,
}

impl Ground {
    /// Lays the nodes, starts every pod and every subject.
    pub(super) async fn lay(options: BenchOptions, screen: Screen) -> Result<Self, Failure> {
        let run = RunDirectory::take(&options.run)?;
        let config = run.join("config");
        fs::create_dir_all(&config).map_err(|error| Failure(format!("{}: {error}", config.display())))?;
        let world = World::lay(run, Settings::of(config, &options.bin)?).await?;
        let mut ground = Self {
            world,
            options,
            screen,
            peers: BTreeMap::new(),
        };
        ground.write("00-mesh.yaml", &objects::mesh(false))?;
        ground.write("10-subjects.yaml", &objects::subjects())?;
        ground.write("20-far.yaml", &objects::far(0))?;
        ground.world.start(&|step| screen.progress(step)).await?;
        certificates::write(&ground.world.run_directory().join("certificates"))?;
        for subject in ground.options.subjects() {
            ground.start(subject).await?;
            for pod in ["client", "noisy", "near", "server"] {
                ground.sh(&subject.pod(pod), CUBIC).await?;
            }
            ground.answers(subject).await?;
        }
        Ok(ground)
    }

    /// Starts our proxies again, with a tunnel for every connection or without.
    pub(super) async fn tunnel_per_connection(&self, each: bool) -> Result<(), Failure> {
        self.write("00-mesh.yaml", &objects::mesh(each))?;
        self.world.start(&|_| {}).await?;
        self.answers(Subject::Weft).await
    }

    /// Writes a file of the directory that the mesh reads, as a whole.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let path = self.world.settings().config.join(name);
        let new = path.with_extension("new");
        fs::write(&new, text)
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|error| Failure(format!("{} cannot be written: {error}", path.display())))
    }

    /// Runs a program in a pod; what it printed when it did well.
    pub(super) async fn run(&self, pod: &str, words: &[&str], most: Duration) -> Result<String, Failure> {
        let Finished {
            code, stdout, stderr, ..
        } = self.world.run_in(pod, words, most).await?;
        if code == Some(0) {
            return Ok(stdout);
        }
        let said = format!("{stderr}\n{stdout}");
        Err(Failure(format!(
            "`{}` in {pod}: {}",
            words.join(" "),
            crate::world::first_line(&said)
        )))
    }

    /// Runs this very program in a pod.
    pub(super) async fn own(&self, pod: &str, words: &[&str], most: Duration) -> Result<String, Failure> {
        let own = own_program()?;
        let words: Vec<_> = std::iter::once(&*own).chain(words.iter().copied()).collect();
        self.run(pod, &words, most).await
    }

    /// Process ids of the proxies between a pod and its server.
    pub(super) async fn proxies(&self, subject: Subject, from: &str) -> Result<Vec<u32>, Failure> {
        if subject == Subject::Weft {
            let mut pids = vec![self.world.pid("ztunnel-node-2").await?];
            if from != "near" {
                pids.push(self.world.pid("ztunnel-node-1").await?);
            }
            return Ok(pids);
        }
        let ends = [from, "server"].into_iter();
        let pids = ends.filter_map(|end| self.peers.get(&(subject, end))?.pid());
        Ok(pids.collect())
    }

    /// CPU seconds that those have used.
    pub(super) async fn cpu(&self, subject: Subject, from: &str) -> Result<f64, Failure> {
        let pids = self.proxies(subject, from).await?;
        pids.into_iter().map(usage::cpu).sum()
    }

    async fn start(&mut self, subject: Subject) -> Result<(), Failure> {
        if !matches!(subject, Subject::Haproxy | Subject::Envoy) {
            return Ok(());
        }
        for place in PLACES {
            let pod = subject.pod(place);
            let translation = if place == "server" { guard() } else { redirect() };
            self.sh(&pod, &translation).await?;
            let words = self.command(subject, place)?;
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            let name = format!("{}-{place}", subject.name());
            let process = self.world.spawn_in(&pod, &name, &words).await?;
            self.peers.insert((subject, place), process);
            let port = if place == "server" { 15008 } else { 15001 };
            self.world
                .wait_for(&format!("{name} listening"), || self.world.listens(&pod, port))
                .await?;
        }
        Ok(())
    }

    /// Writes what a peer of ours is told, and answers how it is started. Two threads, as everybody has.
    fn command(&self, subject: Subject, place: &str) -> Result<Vec<String>, Failure> {
        let run = self.world.run_directory();
        let (certificates, server) = (run.join("certificates"), subject.server());
        let (text, extension) = match (subject, place) {
            (Subject::Haproxy, "server") => (haproxy::server(&certificates), "cfg"),
            (Subject::Haproxy, _) => (haproxy::client(&certificates, &server), "cfg"),
            (_, "server") => (envoy::server(&certificates, &server), "json"),
            _ => (envoy::client(&certificates, &server), "json"),
        };
        let path = run.join(format!("{}-{place}.{extension}", subject.name()));
        fs::write(&path, text).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        let path = path.display().to_string();
        let envoy = std::path::absolute(&self.options.envoy).unwrap_or_default();
        let envoy = envoy.display().to_string();
        let words: Vec<&str> = match subject {
            Subject::Haproxy => vec!["haproxy", "-db", "-f", &*path],
            _ => vec![
                &*envoy,
                "-c",
                &*path,
                "--concurrency",
                "2",
                "--disable-hot-restart",
                "-l",
                "warning",
            ],
        };
        Ok(words.into_iter().map(ToOwned::to_owned).collect())
    }

    /// Waits until a subject's pods answer, on every way that is measured.
    async fn answers(&self, subject: Subject) -> Result<(), Failure> {
        let service = subject.service();
        for (place, port) in [("client", 80), ("client", 81), ("near", 80)] {
            let (pod, url) = (subject.pod(place), format!("http://{service}:{port}/"));
            let asked = || async {
                let words = ["curl", "-s", "-f", "--max-time", "3", &url];
                self.run(&pod, &words, Duration::from_secs(5)).await.is_ok()
            };
            self.world
                .wait_for(&format!("{pod} being answered by {url}"), asked)
                .await?;
        }
        Ok(())
    }

    async fn sh(&self, pod: &str, script: &str) -> Result<String, Failure> {
        self.run(pod, &["sh", "-c", script], Duration::from_secs(20)).await
    }
}

/// What keeps others than the proxy's peers from a pod, as a mesh must: what comes in goes to the proxy, whichever port it
/// asks for, but for those that HAProxy tells its three ways by. Nothing does here, and every packet of the pod is looked at
/// for it, as ours are.
fn guard() -> String {
    "nft 'table inet bench { chain in { type nat hook prerouting priority -100; iif != lo tcp dport != 15008-15010 \
     redirect to :15008; }; }'"
        .to_owned()
}

/// What sends a pod's connections to its proxy: one translation of an address, as everybody here has.
fn redirect() -> String {
    let rules: String = [(80, 15001), (5201, 15002), (81, 15003)]
        .iter()
        .map(|(from, to)| format!("ip daddr 10.78.0.0/16 tcp dport {from} redirect to :{to}; "))
        .collect();
    format!("nft 'table inet bench {{ chain out {{ type nat hook output priority -100; {rules}}}; }}'")
}
