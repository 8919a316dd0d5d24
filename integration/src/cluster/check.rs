//! Whether a cluster does what a cluster does: a pod on each node, found by name, reached in both families from every
//! node, and no way out. It makes a namespace of its own and removes it.

use std::{collections::BTreeSet, fs, thread, time::Duration};

use act::process::Failure;
use tokio::time::Instant;

use super::{
    enter::{Place, output},
    layout::{Layout, Node},
    machine::unified,
    template::fill,
    up::kubectl,
};

/// The namespace of the check.
const NAMESPACE: &str = "weft-cluster-check";
/// How often a thing is tried that takes a moment to be so, 100 ms apart.
const TRIES: u32 = 300;
/// An address outside, of the range for documentation.
const OUTSIDE: &str = "http://192.0.2.1/";

/// Checks a running cluster, a line for each thing that holds.
///
/// # Errors
/// One sentence with the first thing that does not hold.
pub fn check(layout: &Layout, say: &dyn Fn(&str)) -> Result<(), Failure> {
    let checked = run(layout, say);
    let removed = remove(layout);
    checked.and(removed)
}

fn remove(layout: &Layout) -> Result<(), Failure> {
    let delete = ["delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=false"];
    kubectl(layout, &delete).map(drop)
}

fn run(layout: &Layout, say: &dyn Fn(&str)) -> Result<(), Failure> {
    let nodes = layout.nodes();
    let names: BTreeSet<_> = nodes.iter().map(|node| node.name()).collect();
    image_is_there(layout, &nodes)?;
    remove(layout)?;
    eventually("an earlier check's namespace is gone", || {
        same(
            &kubectl(layout, &["get", "namespace", NAMESPACE, "--ignore-not-found"])?,
            "",
        )
    })?;
    let start = Instant::now();
    let tell = |what: &str| say(&format!("{:5.1} s  {what}", start.elapsed().as_secs_f64()));
    let file = layout.join("check.yaml");
    let objects = fill(
        include_str!("../../cluster/check.yaml"),
        &[("VERSION", env!("CARGO_PKG_VERSION"))],
    )?;
    fs::write(&file, objects).map_err(|error| Failure(format!("{} cannot be written: {error}", file.display())))?;
    kubectl(layout, &["apply", "-f", &file.display().to_string()])?;
    eventually("a pod of each node is ready", || {
        let format = "-o=jsonpath={.items[*].status.numberReady}";
        let ready = kubectl(layout, &["get", "daemonset", "-n", NAMESPACE, format])?;
        same(&ready, &names.len().to_string())
    })?;
    tell("a pod of each node is ready");
    for family in ["-4", "-6"] {
        for node in &nodes {
            let mut seen = BTreeSet::new();
            eventually(
                &format!("{} reaches every node's pod by name (curl {family})", node.name()),
                || {
                    let url = format!("http://web.{NAMESPACE}/");
                    seen.insert(
                        in_pod(layout, *node, &["curl", "-sS", "--max-time", "2", family, &url])?
                            .trim()
                            .to_owned(),
                    );
                    same(&format!("{seen:?}"), &format!("{names:?}"))
                },
            )?;
        }
        tell(&format!(
            "every node's pod reaches every other by the Service's name (curl {family})"
        ));
    }
    for node in &nodes {
        if in_pod(layout, *node, &["nslookup", "example.com"]).is_ok() {
            return Err(Failure(format!("a name outside is known to pods of {}", node.name())));
        }
        if in_pod(layout, *node, &["curl", "-sS", "--max-time", "5", OUTSIDE]).is_ok() {
            return Err(Failure(format!("pods of {} reach {OUTSIDE}", node.name())));
        }
    }
    tell("nothing outside is known or reached");
    for node in &nodes {
        kubelet_is_alone(layout, *node)?;
    }
    tell("each kubelet has a cgroup to itself");
    Ok(())
}

/// Where there is version 2 of cgroups, a kubelet is told from a pod by it.
fn kubelet_is_alone(layout: &Layout, node: Node) -> Result<(), Failure> {
    let Some(cgroup) = unified(&format!("{}/kubelet", layout.cgroup(node))) else {
        return Ok(());
    };
    let script = format!(
        "for pid in $(cat {}/cgroup.procs); do cat /proc/$pid/comm; done",
        cgroup.display()
    );
    let processes = output(layout, Place::Node(node), &["sh", "-c", &script])?;
    let processes: BTreeSet<_> = processes.lines().collect();
    same(&format!("{processes:?}"), "{\"kubelet\"}")
        .map_err(|failure| Failure(format!("the cgroup of {}'s kubelet: {failure}", node.name())))
}

fn image_is_there(layout: &Layout, nodes: &[Node]) -> Result<(), Failure> {
    let image = format!("localhost/weft/test:{}", env!("CARGO_PKG_VERSION"));
    for node in nodes {
        let filter = format!("name=={image}");
        let listed = output(
            layout,
            Place::Node(*node),
            &["ctr", "--namespace=k8s.io", "images", "list", "-q", &filter],
        )?;
        if listed.trim().is_empty() {
            return Err(Failure(format!(
                "{} has no image {image}: `make images`, then `weft-cluster load-images target/images/test.tar`",
                node.name()
            )));
        }
    }
    Ok(())
}

/// Runs a program in the check's pod of a node.
fn in_pod(layout: &Layout, node: Node, words: &[&str]) -> Result<String, Failure> {
    let field = format!("--field-selector=spec.nodeName={}", node.name());
    let pod = kubectl(layout, &["get", "pods", "-n", NAMESPACE, &field, "-o=name"])?;
    let mut all = vec!["exec", "-n", NAMESPACE, pod.trim(), "--"];
    all.extend(words);
    kubectl(layout, &all)
}

fn same(found: &str, wanted: &str) -> Result<(), Failure> {
    if found == wanted {
        return Ok(());
    }
    Err(Failure(format!("found {found:?}, wanted {wanted:?}")))
}

/// Tries until it holds; the last failure is told.
fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), Failure>) -> Result<(), Failure> {
    let mut last = None;
    for _ in 0..TRIES {
        match holds() {
            Ok(()) => return Ok(()),
            Err(failure) => last = Some(failure),
        }
        thread::sleep(Duration::from_millis(100));
    }
    let why = last.map_or_else(String::new, |failure| failure.0);
    Err(Failure(format!("it does not hold that {what}: {why}")))
}
