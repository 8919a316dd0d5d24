//! Loads image archives into the nodes' containerd, as a registry would have served them.

use std::{fs::File, path::PathBuf, process::Stdio};

use act::process::Failure;

use super::{
    enter::{Place, command},
    layout::{Layout, Node},
};

/// Loads archives into nodes.
///
/// # Errors
/// Names the archive and the node, and what containerd said.
pub fn load(layout: &Layout, nodes: &[Node], archives: &[PathBuf]) -> Result<(), Failure> {
    for node in nodes {
        for archive in archives {
            load_one(layout, *node, archive)?;
        }
    }
    Ok(())
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
