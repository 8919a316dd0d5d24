//! The way into a running cluster: a place's namespaces as words that lead a program there.

use std::{os::unix::process::CommandExt, process::Command};

use act::process::Failure;

use super::{
    layout::{CONTROL_PLANE, Layout, Node},
    machine::Machine,
};

/// Where a program is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the cluster's network, with this machine's files.
    ControlPlane,
    /// On a node: its network, files, processes and host name.
    Node(Node),
}

impl Place {
    /// The place of this name.
    ///
    /// # Errors
    /// When there is no such place.
    pub fn named(name: &str) -> Result<Self, Failure> {
        if name == CONTROL_PLANE {
            return Ok(Self::ControlPlane);
        }
        Node::named(name).map(Self::Node).ok_or_else(|| {
            Failure(format!(
                "there is no machine {name}; they are {CONTROL_PLANE}, node1, node2 …"
            ))
        })
    }

    /// Its machine's name.
    pub(super) fn machine(self) -> String {
        match self {
            Self::ControlPlane => CONTROL_PLANE.into(),
            Self::Node(node) => node.name(),
        }
    }
}

/// The machine of a place.
///
/// # Errors
/// When it is not up.
pub(super) fn machine(layout: &Layout, place: Place) -> Result<Machine, Failure> {
    let name = place.machine();
    Machine::find(&name, &layout.socket(&name)).ok_or_else(|| {
        let directory = layout.directory().display();
        let nodes: Vec<_> = layout.nodes().into_iter().map(Node::name).collect();
        Failure(match place {
            Place::ControlPlane => format!("no cluster runs in {directory}: start one with `weft-cluster up`"),
            Place::Node(_) if nodes.contains(&name) => {
                format!("{name} of the cluster in {directory} is not up: `weft-cluster start {name}`")
            }
            Place::Node(_) if nodes.is_empty() => {
                format!("no cluster runs in {directory}: start one with `weft-cluster up`")
            }
            Place::Node(_) => format!("the cluster in {directory} has no {name}; it has {}", nodes.join(", ")),
        })
    })
}

/// A command that runs in a place, without arguments yet. `kubectl` and its kin are on its PATH, and KUBECONFIG is the
/// administrator's.
///
/// # Errors
/// When the machine is not up.
pub(super) fn command(layout: &Layout, place: Place) -> Result<Command, Failure> {
    let pid = machine(layout, place)?.pid().as_raw_nonzero();
    let mut command = Command::new("nsenter");
    match place {
        Place::ControlPlane => {
            command.arg(format!("--net=/proc/{pid}/ns/net"));
            let path = std::env::var("PATH").unwrap_or_default();
            command.env("PATH", format!("{}:{path}", layout.programs().display()));
            command.env("KUBECONFIG", layout.kubeconfig());
        }
        Place::Node(_) => {
            command.args([
                "--target",
                &pid.to_string(),
                "--mount",
                "--net",
                "--pid",
                "--uts",
                "--wdns=/",
            ]);
            command.env(
                "PATH",
                format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", super::components::NODE_PROGRAMS),
            );
            command.env("KUBECONFIG", "/etc/kubernetes/admin.kubeconfig");
        }
    }
    command.arg("--");
    Ok(command)
}

/// Becomes a program in a place. Returns only if that fails.
///
/// # Errors
/// When the machine is not up or the program cannot be started.
pub fn enter(layout: &Layout, place: Place, words: &[String]) -> Result<(), Failure> {
    let mut command = command(layout, place)?;
    let error = command.args(words).exec();
    Err(Failure(format!("nsenter cannot be started: {error}")))
}

/// Runs a program in a place to its end and answers what it printed.
///
/// # Errors
/// One sentence with what it said.
pub(super) fn output(layout: &Layout, place: Place, words: &[&str]) -> Result<String, Failure> {
    let output = command(layout, place)?
        .args(words)
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| Failure(format!("nsenter cannot be started: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure(format!(
        "`{}` failed: {}",
        words.join(" "),
        crate::world::first_line(&said)
    )))
}
