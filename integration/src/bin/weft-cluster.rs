//! `weft-cluster`: a real Kubernetes for tests, on this machine.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use act::process::{Failure, main as run_process};
use clap::{Args, Parser, Subcommand};
use integration::{
    cluster::{self, Layout, Order, Place, UpOptions},
    images::{self, ImagesOptions},
};

/// A real Kubernetes for tests, in namespaces of this machine: no container engine, no registry, no way out.
///
/// Each cluster lives in a directory; several run side by side. It is reached through its own network only:
/// `weft-cluster kubectl get nodes`, or any program with `weft-cluster exec -- PROGRAM`.
#[derive(Debug, Parser)]
#[command(name = "weft-cluster", version)]
struct Cli {
    /// The cluster's directory
    #[arg(
        long,
        global = true,
        env = "WEFT_CLUSTER",
        value_name = "DIR",
        default_value = "target/cluster"
    )]
    dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster and wait until its nodes are ready
    Up(UpOptions),
    /// End the cluster and remove everything it left
    Down,
    /// Show what runs, where its logs are, and each kubelet's cgroup
    Status,
    /// Check that pods run on every node, find each other by name in both families, and reach nothing outside
    Check,
    /// Print how programs reach the cluster, as shell variables
    Env,
    /// kubectl, as the cluster's administrator
    Kubectl {
        /// kubectl's own words
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Run a program in the cluster's network (with this machine's files), or on a node
    Exec {
        /// The node; default: the control plane's network, with KUBECONFIG set
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// Program and arguments
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<String>,
    },
    /// Start a component, or a node, that was stopped
    Start(Component),
    /// Stop a component, or a node, until it is started again
    Stop(Component),
    /// Stop and start a component; of a node, a reboot
    Restart(Component),
    /// Load image archives into the nodes
    LoadImages {
        /// Only this node
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
        /// Archives
        #[arg(required = true, value_name = "FILE")]
        archives: Vec<PathBuf>,
    },
    /// Build the images of the mesh and of its tests, without a registry
    Images(ImagesOptions),
    /// Build a Go program of integration/cluster unless that is done, and print where it is
    Build {
        /// The module, such as integration/cluster/helm
        module: PathBuf,
    },
    /// The first process of a machine
    #[command(hide = true)]
    Machine { spec: PathBuf, socket: PathBuf },
}

#[derive(Debug, Args)]
struct Component {
    /// etcd, kube-apiserver, kube-controller-manager, kube-scheduler, node1 …; on a node: containerd, kubelet, kube-proxy
    name: String,
    /// The node it runs on; default: the control plane
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
    /// Kill it without asking
    #[arg(long)]
    kill: bool,
}

fn main() -> ExitCode {
    run_process::<Cli>("weft-cluster", run)
}

fn run(cli: Cli) -> Result<(), Failure> {
    let layout = Layout::new(&cli.dir)?;
    match cli.verb {
        Verb::Up(options) => {
            cluster::up(&layout, &options, &|line| eprintln!("{line}"))?;
            write(&usage(&cli.dir))
        }
        Verb::Down => {
            let there = cluster::down(&layout)?;
            write(if there {
                "the cluster is gone\n"
            } else {
                "no cluster was there\n"
            })
        }
        Verb::Status => write(&cluster::status(&layout)?),
        Verb::Check => cluster::check(&layout, &|line| eprintln!("{line}")),
        Verb::Env => write(&cluster::environment(&layout)?),
        Verb::Kubectl { words } => {
            let words: Vec<_> = std::iter::once("kubectl".to_owned()).chain(words).collect();
            cluster::enter(&layout, Place::ControlPlane, &words)
        }
        Verb::Exec { node, words } => cluster::enter(&layout, place(node.as_deref())?, &words),
        Verb::Start(component) => order(&layout, &component, &[Order::Start]),
        Verb::Stop(component) => order(&layout, &component, &[stop(&component)]),
        Verb::Restart(component) => order(&layout, &component, &[stop(&component), Order::Start]),
        Verb::LoadImages { node, archives } => {
            let nodes = match place(node.as_deref())? {
                Place::Node(node) => vec![node],
                Place::ControlPlane => layout.nodes(),
            };
            cluster::load(&layout, &nodes, &archives)
        }
        Verb::Images(options) => images::build(&options, &|line| eprintln!("{line}")),
        Verb::Build { module } => {
            let program = cluster::build(&module, &|line| eprintln!("{line}"))?;
            write(&format!("{}\n", program.display()))
        }
        Verb::Machine { spec, socket } => cluster::run_machine(&spec, &socket),
    }
}

fn place(node: Option<&str>) -> Result<Place, Failure> {
    node.map_or(Ok(Place::ControlPlane), Place::named)
}

fn stop(component: &Component) -> fn(String) -> Order {
    if component.kill { Order::Kill } else { Order::Stop }
}

fn order(layout: &Layout, component: &Component, orders: &[fn(String) -> Order]) -> Result<(), Failure> {
    let orders: Vec<_> = orders.iter().map(|order| order(component.name.clone())).collect();
    cluster::order(layout, place(component.node.as_deref())?, &orders)
}

fn usage(directory: &Path) -> String {
    let dir = if directory == Path::new("target/cluster") {
        String::new()
    } else {
        format!(" --dir {}", directory.display())
    };
    format!(
        "\n  weft-cluster{dir} kubectl get nodes          the cluster's administrator\n  \
         weft-cluster{dir} exec -- weft status       any program, in the cluster's network\n  \
         weft-cluster{dir} exec --node node1 -- sh   on a node\n  \
         weft-cluster{dir} down                      ends it all\n"
    )
}

/// Writes to standard output. Whoever closed it wants no more.
fn write(text: &str) -> Result<(), Failure> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
