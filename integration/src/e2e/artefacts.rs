//! What is kept when a promise was not: logs of every pod of the mesh, events, objects.

use std::{fs, path::Path};

use super::{
    cluster::{Cluster, text},
    stage::MESH,
};

/// Most of one log that is kept.
const MOST: usize = 32 * 1024 * 1024;

/// Writes all of it into a directory. What cannot be had is said in its place.
pub(super) async fn save(cluster: &Cluster, directory: &Path) {
    let _ = fs::create_dir_all(directory);
    let keep = |name: String, found: Result<String, act::process::Failure>| {
        let text = found.unwrap_or_else(|failure| failure.0);
        // A full disk must not hide the rows that failed.
        let _ = fs::write(directory.join(name), text.get(..MOST.min(text.len())).unwrap_or(&text));
    };
    for (name, words) in [
        ("pods.txt", &["get", "pods", "-A", "-o", "wide"] as &[&str]),
        ("pods.yaml", &["get", "pods", "-A", "-o", "yaml"]),
        ("events.txt", &["get", "events", "-A", "--sort-by=.lastTimestamp"]),
        ("mesh.txt", &["describe", "all", "-n", MESH]),
    ] {
        keep(name.to_owned(), cluster.kubectl(words).await);
    }
    let pods = cluster.list(&["pods", "-n", MESH]).await.unwrap_or_default();
    for pod in pods.iter().map(|pod| text(pod, "/metadata/name")) {
        keep(format!("{pod}.log"), cluster.logs(MESH, &pod).await);
        let words = ["logs", "-n", MESH, &*pod, "--previous", "--tail=-1"];
        if let Ok(log) = cluster.kubectl(&words).await {
            keep(format!("{pod}.previous.log"), Ok(log));
        }
    }
}
