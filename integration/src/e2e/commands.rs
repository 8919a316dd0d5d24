//! Point 11: what a person types on a cluster. `weft check` proves every node's capture by a connection and says what a
//! user may not do; `weft bug-report` tells everything and no secret; `weft upgrade` removes what the chart no longer
//! holds, and nothing that we did not make.

use std::{collections::BTreeSet, io::Read, path::Path, time::Duration};

use act::process::Failure;
use flate2::read::GzDecoder;
use serde_json::Value;

use super::{
    cluster::{Cluster, text},
    manifests::{IMAGE, SHOP},
    mesh,
    stage::{MESH, Stage},
};
use crate::{check::Point, world::Finished};

/// The longest a command may take.
const COMMAND: Duration = Duration::from_secs(120);
/// What stands in an ordinary pod's environment and is nobody else's business.
const HIDDEN: &str = "hunter22-of-e2e";

/// What an earlier chart might have made, and what somebody else did beside it.
const LEFT_OVERS: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: e2e-of-an-earlier-chart
  namespace: weft-system
  labels: {app.kubernetes.io/managed-by: weft, app.kubernetes.io/part-of: weft}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: e2e-of-somebody, namespace: weft-system, labels: {app.kubernetes.io/part-of: weft}}
";

/// Asks a person's questions.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    stage.tell("weft check, with a connection from every node");
    connections(stage, point).await;
    permissions(stage, point).await;
    stage.tell("weft bug-report");
    bug_report(stage, point).await;
    stage.tell("weft upgrade removes what the chart no longer holds");
    pruning(stage, point).await;
}

/// Rows of `weft check`, as JSON, whatever it found.
pub(super) async fn rows(cluster: &Cluster, words: &[&str]) -> Result<Vec<Value>, Failure> {
    let ran = cluster.weft(&[words, &["-o", "json"]].concat(), COMMAND).await?;
    match serde_json::from_str(&ran.stdout) {
        Ok(Value::Array(rows)) => Ok(rows),
        _ => Err(Failure(format!(
            "weft {} printed no rows: {}",
            words.join(" "),
            ran.stderr
        ))),
    }
}

/// Those of one check.
pub(super) fn of<'r>(rows: &'r [Value], check: &str) -> Vec<&'r Value> {
    rows.iter().filter(|row| row["check"] == check).collect()
}

/// One phrase of them all.
pub(super) fn told(rows: &[&Value]) -> String {
    let each = rows
        .iter()
        .map(|row| format!("{}: {}", text(row, "/result"), text(row, "/what")));
    each.collect::<Vec<_>>().join("; ")
}

async fn connections(stage: &Stage, point: &mut Point) {
    let law = "every node's capture is proven by a connection, in both directions";
    let Some(rows) = point.step(law, rows(&stage.cluster, &["check"]).await) else {
        return;
    };
    let proven = of(&rows, "connections");
    let fine = proven.iter().filter(|row| row["result"] == "ok").count();
    let nodes = stage.nodes.len();
    let crossed = proven
        .iter()
        .all(|row| text(row, "/what").contains("HBONE from spiffe://"));
    let pass = fine == proven.len() && fine == nodes && crossed;
    point.assert(law, format!("{nodes} ok"), told(&proven), pass);
}

async fn permissions(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let law = "an administrator may do what an install needs, and is told so before it";
    if let Some(rows) = point.step(law, rows(cluster, &["check", "--pre"]).await) {
        let found = of(&rows, "permissions");
        let pass = found.len() == 1 && found[0]["result"] == "ok";
        point.assert(law, "ok", told(&found), pass);
    }
}

/// The files of an archive, by name.
fn unpacked(archive: &Path) -> Result<Vec<(String, String)>, Failure> {
    let wrong = |error: std::io::Error| Failure(format!("{}: {error}", archive.display()));
    let file = std::fs::File::open(archive).map_err(wrong)?;
    let mut files = Vec::new();
    for entry in tar::Archive::new(GzDecoder::new(file)).entries().map_err(wrong)? {
        let mut entry = entry.map_err(wrong)?;
        let name = entry.path().map_err(wrong)?.display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(wrong)?;
        files.push((name, String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(files)
}

async fn bug_report(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let secretive = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"Pod\",\"metadata\":{{\"name\":\"secretive\",\"namespace\":\"{SHOP}\"}},\"spec\":{{\
         \"containers\":[{{\"name\":\"c\",\"image\":\"{IMAGE}\",\"command\":[\"sleep\",\"{HIDDEN}\"],\
         \"env\":[{{\"name\":\"KEY\",\"value\":\"{HIDDEN}\"}}]}}]}}}}"
    );
    let file = std::env::temp_dir().join(format!("weft-e2e-{}.tar.gz", std::process::id()));
    let name = file.display().to_string();
    let made = async {
        cluster.apply(&secretive).await?;
        let ran = cluster.weft(&["bug-report", &name], COMMAND).await?;
        succeeded(&ran)?;
        let files = unpacked(&file)?;
        Ok((ran, files))
    };
    let made = made.await;
    let _ = std::fs::remove_file(&file);
    point.step("the pod with a secret goes", cluster.delete(&secretive).await);
    let Some((ran, files)) = point.step("weft bug-report writes an archive", made) else {
        return;
    };
    let parts: BTreeSet<_> = files
        .iter()
        .filter(|(_, content)| !content.is_empty())
        .filter_map(|(name, _)| {
            name.trim_start_matches("./")
                .split('/')
                .find(|part| ["check.txt", "versions.json", "objects", "proxies", "logs"].contains(part))
        })
        .collect();
    let law = "it holds checks, versions, objects, what proxies know, and logs";
    point.assert(law, "5 kinds", format!("{parts:?}"), parts.len() == 5);
    let missing: Vec<_> = ran.stdout.lines().filter(|line| line.starts_with("missing:")).collect();
    point.assert(
        "nothing is missing from it",
        "nothing",
        format!("{missing:?}"),
        missing.is_empty(),
    );
    let telling: Vec<_> = files
        .iter()
        .filter(|(_, content)| {
            [HIDDEN, "PRIVATE KEY-----", "eyJhbGci"]
                .iter()
                .any(|secret| content.contains(secret))
        })
        .map(|(name, _)| name)
        .collect();
    point.assert("and no secret", "no file", format!("{telling:?}"), telling.is_empty());
}

async fn pruning(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let upgraded = async {
        cluster.apply(LEFT_OVERS).await?;
        let ran = cluster.weft(&["upgrade"], Duration::from_secs(200)).await?;
        succeeded(&ran)?;
        mesh::captured(cluster, SHOP).await?;
        Ok(ran.stdout)
    };
    let Some(said) = point.step("weft upgrade", upgraded.await) else {
        return;
    };
    let there = async |name: &str| cluster.get(&["configmap", "-n", MESH, name]).await.is_ok();
    let (ours, theirs) = (there("e2e-of-an-earlier-chart").await, there("e2e-of-somebody").await);
    let seen = format!("ours there: {ours}, somebody's there: {theirs}");
    point.assert(
        "an upgrade removes what only an earlier chart held, and nothing that we did not make",
        "ours there: false, somebody's there: true",
        &seen,
        !ours && theirs,
    );
    point.holds("and names it", "removed ConfigMap", &said);
    point.step("what is left goes", cluster.delete(LEFT_OVERS).await);
}

fn succeeded(ran: &Finished) -> Result<(), Failure> {
    match ran.code {
        Some(0) => Ok(()),
        _ => Err(Failure(format!("exit {:?}: {}", ran.code, ran.stderr))),
    }
}
