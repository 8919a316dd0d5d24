//! Brings a cluster up, step by step, and says how long each step took.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use act::process::Failure;
use clap::Args;
use tokio::time::Instant;

use super::{
    dns,
    down::down,
    enter::{Place, machine, output},
    files::{self, Settings},
    go, images,
    layout::{CONTROL_PLANE, Layout, MOST_NODES, Node},
    machine::{Machine, Order, State},
    programs, ready,
};

/// Where `make images` puts images.
const IMAGES: &str = "target/images";
/// The longest any step may take.
const PATIENCE: Duration = Duration::from_secs(90);
/// How often a step is looked at.
const STEP: Duration = Duration::from_millis(100);

/// How a cluster is to be.
#[derive(Debug, Clone, Args)]
pub struct UpOptions {
    /// How many nodes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=i64::from(MOST_NODES)))]
    pub nodes: u8,
    /// How kube-proxy makes Services work
    #[arg(long, default_value = "nftables", value_parser = ["nftables", "iptables"])]
    pub proxy_mode: String,
    /// Image archives to load into every node, each *.tar of a directory; default: target/images where there is one
    #[arg(long, value_name = "PATH")]
    pub images: Vec<PathBuf>,
    /// The test cluster's sources, from which Kubernetes is built once
    #[arg(long, value_name = "DIR", default_value = "integration/cluster")]
    pub sources: PathBuf,
    /// A ready-made binary of integration/cluster/kubernetes, instead of building it
    #[arg(long, env = "WEFT_CLUSTER_KUBERNETES", value_name = "FILE")]
    pub kubernetes: Option<PathBuf>,
}

/// Brings a cluster up in a directory. What an earlier one left there is removed. `say` gets a line for each step.
///
/// # Errors
/// One sentence: what is missing, or which component does not come up and its last words. What did start is ended; its
/// directory, with the logs, stays.
pub fn up(layout: &Layout, options: &UpOptions, say: &dyn Fn(&str)) -> Result<(), Failure> {
    programs::are_there()?;
    if Machine::find(CONTROL_PLANE, &layout.socket(CONTROL_PLANE)).is_some() {
        return Err(Failure(format!(
            "a cluster runs in {} already; end it with `weft-cluster down`",
            layout.directory().display()
        )));
    }
    let made = PathBuf::from(IMAGES);
    let mut archives = match options.images.is_empty() && made.is_dir() {
        true => archives(&[made])?,
        false => archives(&options.images)?,
    };
    let kubernetes = match &options.kubernetes {
        Some(file) => file.clone(),
        None => go::build(&options.sources.join("kubernetes"), say)?,
    };
    let kubernetes = fs::canonicalize(&kubernetes)
        .map_err(|error| Failure(format!("{} cannot be found: {error}", kubernetes.display())))?;
    let coredns = go::build(&options.sources.join("coredns"), say)?;
    down(layout)?;
    let clock = Clock {
        start: Instant::now(),
        say,
    };
    let nodes: Vec<_> = Node::first(options.nodes).collect();
    files::write(
        layout,
        &Settings {
            nodes: &nodes,
            kubernetes: &kubernetes,
            proxy_mode: &options.proxy_mode,
        },
    )?;
    archives.extend(own_images(layout, &options.sources, &coredns)?);
    clock.say("certificates, configurations and the cluster's own images are written");
    let up = power_on(layout).and_then(|()| steps(layout, &nodes, &archives, &clock));
    if up.is_err() {
        super::down::kill(layout)?;
    }
    up
}

struct Clock<'a> {
    start: Instant,
    say: &'a dyn Fn(&str),
}

impl Clock<'_> {
    fn say(&self, what: &str) {
        (self.say)(&format!("{:5.1} s  {what}", self.start.elapsed().as_secs_f64()));
    }
}

fn steps(layout: &Layout, nodes: &[Node], archives: &[PathBuf], clock: &Clock<'_>) -> Result<(), Failure> {
    start(layout, &["etcd", "kube-apiserver"])?;
    let names: Vec<_> = nodes.iter().map(|node| node.name()).collect();
    wait(layout, "kube-apiserver", || {
        kubectl(layout, &["get", "--raw=/readyz"]).is_ok()
    })?;
    clock.say("the API server serves");
    start(layout, &["kube-controller-manager", "kube-scheduler"])?;
    let file = layout.join("nodes.json");
    write(&file, &node_objects(nodes))?;
    kubectl(layout, &["create", "-f", &file.display().to_string()])?;
    start(layout, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    for node in nodes {
        let name = node.name();
        let place = Place::Node(*node);
        wait(layout, &name, || output(layout, place, &["ctr", "version"]).is_ok())?;
    }
    clock.say("containerd runs on every node");
    images::load(layout, nodes, archives)?;
    clock.say(&format!("{} images are loaded into every node", archives.len()));
    wait(layout, "kubelet", || {
        let list = kubectl(layout, &["get", "nodes", "-o", "json"]).unwrap_or_default();
        let ready = ready::names(&list);
        names.iter().all(|name| ready.contains(name))
    })?;
    clock.say("every node is ready");
    wait(layout, "kube-controller-manager", || {
        kubectl(layout, &["get", "serviceaccount", "default"]).is_ok()
    })?;
    let file = layout.join("dns.yaml");
    write(&file, &dns::objects()?)?;
    kubectl(layout, &["create", "-f", &file.display().to_string()])?;
    wait(layout, "kubelet", || {
        let list = ["get", "pods", "-n=kube-system", "-l=k8s-app=kube-dns", "-o=json"];
        !ready::names(&kubectl(layout, &list).unwrap_or_default()).is_empty()
    })?;
    clock.say("a pod runs: the cluster's DNS");
    Ok(())
}

/// The images that the cluster itself needs.
fn own_images(layout: &Layout, sources: &Path, coredns: &Path) -> Result<[PathBuf; 2], Failure> {
    let archives = ["pause", "coredns"].map(|name| layout.join(format!("{name}.tar")));
    let [pause, dns] = &archives;
    crate::images::pause(&sources.join("pause.c"), pause)?;
    crate::images::coredns(coredns, dns)?;
    Ok(archives)
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure(format!("{} cannot be written: {error}", path.display())))
}

/// Starts the cluster's first process, in namespaces of its own, and leaves it behind.
fn power_on(layout: &Layout) -> Result<(), Failure> {
    let log = layout.log(CONTROL_PLANE, CONTROL_PLANE);
    let failed = |error: &dyn std::fmt::Display| Failure(format!("the cluster cannot start: {error}"));
    let output = fs::File::create(&log).map_err(|error| failed(&error))?;
    let errors = output.try_clone().map_err(|error| failed(&error))?;
    let status = Command::new("setsid")
        .args([
            "--fork",
            "unshare",
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ])
        .args(["sh", "-eu"])
        .arg(layout.join(format!("{CONTROL_PLANE}.sh")))
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .current_dir("/")
        .status()
        .map_err(|error| failed(&error))?;
    if !status.success() {
        return Err(failed(&"setsid failed"));
    }
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if Machine::find(CONTROL_PLANE, &layout.socket(CONTROL_PLANE)).is_some() {
            return Ok(());
        }
        let said = fs::read_to_string(&log).unwrap_or_default();
        if !said.trim().is_empty() {
            return Err(failed(&crate::world::first_line(&said)));
        }
        thread::sleep(STEP);
    }
    Err(failed(&"its first process does not listen"))
}

fn start(layout: &Layout, components: &[&str]) -> Result<(), Failure> {
    let mut machine = machine(layout, Place::ControlPlane)?;
    for component in components {
        machine.order(&Order::Start((*component).to_owned()))?;
    }
    Ok(())
}

/// Waits until something is so. A component that dies meanwhile is started again by its machine; when patience ends,
/// the last words of what died are told.
fn wait(layout: &Layout, component: &str, mut done: impl FnMut() -> bool) -> Result<(), Failure> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if done() {
            return Ok(());
        }
        thread::sleep(STEP);
    }
    let dead = obituaries(layout);
    let seconds = PATIENCE.as_secs();
    Err(Failure(if dead.is_empty() {
        format!(
            "{component} is not ready after {seconds} s; its log is below {}",
            layout.directory().display()
        )
    } else {
        format!("{component} is not ready after {seconds} s. {}", dead.join(" "))
    }))
}

/// The last words of every component that died.
fn obituaries(layout: &Layout) -> Vec<String> {
    let places = std::iter::once(Place::ControlPlane).chain(Node::first(MOST_NODES).map(Place::Node));
    let mut found = Vec::new();
    for place in places {
        let statuses = machine(layout, place).and_then(|mut machine| machine.order(&Order::Status));
        for status in statuses.unwrap_or_default() {
            if status.deaths == 0 && status.state != State::Dead {
                continue;
            }
            let log = layout.log(&place.machine(), &status.name);
            let said = fs::read_to_string(&log).unwrap_or_default();
            let last = said
                .lines()
                .rev()
                .find(|line| !line.trim().is_empty())
                .unwrap_or("nothing");
            let times = status.deaths;
            found.push(format!(
                "{} died {times} times; its last words: {last} (all in {}).",
                status.name,
                log.display()
            ));
        }
    }
    found
}

pub(super) fn kubectl(layout: &Layout, words: &[&str]) -> Result<String, Failure> {
    let kubeconfig = format!("--kubeconfig={}", layout.kubeconfig().display());
    let program = layout.programs().join("kubectl").display().to_string();
    let words: Vec<_> = [program.as_str(), &kubeconfig, "--request-timeout=5s"]
        .into_iter()
        .chain(words.iter().copied())
        .collect();
    output(layout, Place::ControlPlane, &words)
}

/// The nodes as objects, made before their kubelets come so that each has the pods' range its CNI configuration names.
fn node_objects(nodes: &[Node]) -> String {
    let items: Vec<_> = nodes
        .iter()
        .map(|node| {
            let ranges = node.pods();
            serde_json::json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": node.name() },
                "spec": { "podCIDR": ranges[0], "podCIDRs": ranges },
            })
        })
        .collect();
    serde_json::json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string()
}

/// The image archives of files and directories, sorted.
fn archives(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_file() {
            found.push(path.clone());
            continue;
        }
        let is_archive = |path: &PathBuf| path.extension().is_some_and(|it| it == "tar");
        match fs::read_dir(path) {
            Ok(entries) => found.extend(entries.flatten().map(|entry| entry.path()).filter(is_archive)),
            Err(error) => {
                return Err(Failure(format!(
                    "the images {} cannot be read: {error}; build them with `make images`",
                    path.display()
                )));
            }
        }
    }
    found.sort();
    Ok(found)
}
