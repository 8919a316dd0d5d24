//! Loads image archives into the nodes' containerd, as a registry would have served them.

use std::{fs::File, path::PathBuf, process::Stdio, thread};

use act::process::Failure;

use super::{
    enter::{Place, command},
    layout::{Layout, Node},
};

/// Loads archives into nodes, all nodes at once.
///
/// # Errors
/// Names the archive and the node, and what containerd said.
pub fn load(layout: &Layout, nodes: &[Node], archives: &[PathBuf]) -> Result<(), Failure> {
    thread::scope(|scope| {
        let all = |node: Node| archives.iter().try_for_each(|archive| load_one(layout, node, archive));
        let loads: Vec<_> = nodes.iter().map(|node| scope.spawn(move || all(*node))).collect();
        loads.into_iter().try_for_each(|load| {
            load.join()
                .unwrap_or_else(|_| Err(Failure("images could not be loaded: a thread ended".into())))
        })
    })
}

fn load_one(layout: &Layout, node: Node, archive: &PathBuf) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| {
        let (archive, node) = (archive.display(), node.name());
        Failure(format!("{archive} cannot be loaded into {node}: {error}"))
    };
    let file = File::open(archive).map_err(|error| failed(&error))?;
    let output = command(layout, Place::Node(node))?
        .args(["ctr", "--namespace=k8s.io", "images", "import", "-"])
        .stdin(Stdio::from(file))
        .output()
        .map_err(|error| failed(&error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(failed(&crate::world::first_line(&said)))
}
