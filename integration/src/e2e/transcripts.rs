//! Point 1, last part: what commands print on a cluster, word for word, but for what no two clusters share: names that
//! Kubernetes makes, addresses, times, serials, numbers. Compared with `integration/e2e/transcripts/`; what differs is
//! put beside the artefacts, to be looked at and, where it is right, copied there.

use std::{fs, path::Path, sync::LazyLock, time::Duration};

use act::process::Failure;
use regex::Regex;
use serde::Deserialize;

use super::{manifests::SHOP, mesh, smoke::DENY, stage::Stage};
use crate::check::Point;

/// The longest a command may take.
const COMMAND: Duration = Duration::from_secs(120);

/// What is compared of what a command prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Every line, in its order, with its numbers.
    Told,
    /// Lines after the heading in the order of the alphabet, those that are alike once: rows of pods and nodes.
    Rows,
    /// Of YAML, which objects it holds.
    Objects,
}

use Form::{Objects, Rows, Told};

/// A command, its words, and what it must print. `CLIENT` and `FILE` stand for the pod and the file meant.
type Command = (&'static str, &'static [&'static str], Form, &'static str);

macro_rules! transcript {
    ($name:literal) => {
        include_str!(concat!("../../e2e/transcripts/", $name, ".txt"))
    };
}

const COMMANDS: [Command; 12] = [
    ("status", &["status"], Rows, transcript!("status")),
    ("certs", &["certs"], Rows, transcript!("certs")),
    ("workloads", &["workloads", "-n", SHOP], Rows, transcript!("workloads")),
    ("services", &["services", "-n", SHOP], Rows, transcript!("services")),
    ("check", &["check"], Rows, transcript!("check")),
    ("check-pre", &["check", "--pre"], Rows, transcript!("check-pre")),
    ("namespaces", &["namespace", "list"], Rows, transcript!("namespaces")),
    ("disable", &["namespace", "disable", SHOP], Rows, transcript!("disable")),
    ("enable", &["namespace", "enable", SHOP], Rows, transcript!("enable")),
    ("why", &["why", "CLIENT", "far.e2e-shop:80"], Told, transcript!("why")),
    ("install", &["install", "--dry-run"], Objects, transcript!("install")),
    ("bug-report", &["bug-report", "FILE"], Rows, transcript!("bug-report")),
];
/// With a policy that refuses the shop's clients.
const DENIED: [Command; 2] = [
    ("policies", &["policies", "-n", SHOP], Rows, transcript!("policies")),
    (
        "why-denied",
        &["why", "CLIENT", "far.e2e-shop:80"],
        Told,
        transcript!("why-denied"),
    ),
];

/// What differs from cluster to cluster, and what stands for it; applied in this order.
static VOLATILE: LazyLock<Vec<(Regex, &'static str)>> = LazyLock::new(|| {
    let patterns = [
        // Names of pods: the hash of a ReplicaSet, and five letters of which none is a vowel.
        (r"-[0-9a-f]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "-HASH"),
        (r"\b(ztunnel|weft-cni)-[bcdfghjklmnpqrstvwxz2456789]{5}\b", "$1-HASH"),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "MOMENT"),
        (r"\b\d{1,3}(\.\d{1,3}){3}\b", "ADDRESS"),
        (r"\b[0-9a-f]{1,4}:[0-9a-f:]*:[0-9a-f]{1,4}\b", "ADDRESS"),
        (r"\b[0-9a-f]{16,}\b", "SERIAL"),
        (r"\b(v?\d+\.\d+)(\.\d+)?[-+.\w]*", "VERSION"),
        (r"\b\d+(ms|s|m|h|d)\b( \d+(ms|s|m|h|d)\b)*", "TIME"),
        (r"\b\d+ (ms|s)\b", "TIME"),
        (r" {2,}", "  "),
    ];
    let compiled = patterns
        .into_iter()
        .filter_map(|(pattern, stands)| Some((Regex::new(pattern).ok()?, stands)));
    compiled.collect()
});
/// Numbers, which rows hold of what goes on.
static NUMBER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"(^|[ (/])\d+\b").ok());

/// Compares each command's words; what differs is written into `artefacts`.
pub(super) async fn check(stage: &Stage, point: &mut Point, artefacts: &Path) {
    if !stage.ours_or_not_shown(1, "commands print, word for word, what they did") {
        return;
    }
    stage.tell("what commands print");
    for command in COMMANDS {
        compare(stage, point, command, artefacts).await;
    }
    let laid = stage.cluster.apply(DENY).await;
    if point.step("a DENY policy is applied", laid).is_some() {
        for command in DENIED {
            compare(stage, point, command, artefacts).await;
        }
        point.step("the policy is removed", stage.cluster.delete(DENY).await);
    }
    let back = mesh::captured(&stage.cluster, SHOP).await;
    point.step("every pod of the shop is captured", back);
}

async fn compare(stage: &Stage, point: &mut Point, command: Command, artefacts: &Path) {
    let (name, _, _, expected) = command;
    let law = format!("transcript {name}: the same words");
    let Some(found) = point.step(&law, printed(stage, command).await) else {
        return;
    };
    if found != expected {
        let place = artefacts.join("transcripts");
        let kept = fs::create_dir_all(&place).and_then(|()| fs::write(place.join(format!("{name}.txt")), &found));
        let kept = kept.map_err(|error| Failure(format!("{}: {error}", place.display())));
        point.step("what it printed is kept", kept);
    }
    point.assert(&law, "the same", difference(&found, expected), found == expected);
}

/// What a command prints, without what differs from cluster to cluster.
async fn printed(stage: &Stage, (_, words, form, _): Command) -> Result<String, Failure> {
    let client = stage.cluster.pod(SHOP, "client").await?;
    let client = format!("{SHOP}/{}", client.name);
    let file = std::env::temp_dir().join(format!("weft-e2e-words-{}.tar.gz", std::process::id()));
    let path = file.display().to_string();
    let words: Vec<&str> = words
        .iter()
        .map(|word| match *word {
            "CLIENT" => &client,
            "FILE" => &path,
            word => word,
        })
        .collect();
    let ran = stage.cluster.weft(&words, COMMAND).await;
    let _ = fs::remove_file(&file);
    let ran = ran?;
    let text = match form {
        Objects => objects(&ran.stdout)? + &ran.stderr,
        Rows | Told => steady(&(ran.stdout + &ran.stderr).replace(&path, "FILE"), form),
    };
    let end = ran.code.map_or_else(|| "none".to_owned(), |code| code.to_string());
    Ok(format!("{text}exit {end}\n"))
}

/// The first line that differs.
fn difference(found: &str, expected: &str) -> String {
    let mut lines = found.lines().zip(expected.lines());
    match (found == expected, lines.find(|(found, expected)| found != expected)) {
        (true, _) => "the same".to_owned(),
        (false, Some((found, expected))) => format!("{found:?}, not {expected:?}"),
        (false, None) => "more or fewer lines".to_owned(),
    }
}

/// One line for each object of YAML.
fn objects(yaml: &str) -> Result<String, Failure> {
    let mut lines = String::new();
    for document in serde_yaml::Deserializer::from_str(yaml) {
        let object = serde_json::Value::deserialize(document)
            .map_err(|error| Failure(format!("what was printed is no YAML: {error}")))?;
        let part = |pointer: &str| {
            object
                .pointer(pointer)
                .and_then(serde_json::Value::as_str)
                .unwrap_or("-")
        };
        let (kind, namespace) = (part("/kind"), part("/metadata/namespace"));
        lines += &format!("{kind}  {namespace}  {}\n", part("/metadata/name"));
    }
    Ok(lines)
}

/// A text without what differs from cluster to cluster.
fn steady(text: &str, form: Form) -> String {
    let mut lines: Vec<String> = text.lines().map(|line| general(line, form)).collect();
    if form == Rows {
        // The heading stays first.
        if let Some((_, rest)) = lines.split_first_mut() {
            rest.sort();
        }
        lines.dedup();
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn general(line: &str, form: Form) -> String {
    let mut line = VOLATILE.iter().fold(line.to_owned(), |line, (pattern, stands)| {
        pattern.replace_all(&line, *stands).into_owned()
    });
    if let Some(number) = NUMBER.as_ref().filter(|_| form == Rows) {
        line = number.replace_all(&line, "${1}N").into_owned();
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_cluster_to_cluster_is_taken_out_and_nothing_else() {
        let text = "PROXY          NODE   AGE\n\
                    ztunnel-x7k2p  node2  1m 3s\n\
                    ca-6d5f8c9b7-lq2wz  node1  14s\n\
                    ztunnel-abcde  fd00::a:7  10.1.2.3:15008 serial 0f1e2d3c4b5a69788796a5b4 in 12 ms, 14 captured\n";
        assert_eq!(
            steady(text, Rows),
            "PROXY  NODE  AGE\nca-HASH  node1  TIME\nztunnel-HASH  node2  TIME\n\
             ztunnel-abcde  ADDRESS  ADDRESS:15008 serial SERIAL in TIME, N captured\n"
        );
        assert_eq!(
            steady("port 15008 of 2\na  until 2026-01-01T00:00:00Z\n", Told),
            "port 15008 of 2\na  until MOMENT\n"
        );
        assert_eq!(
            steady("NAME\nb  2/2  v1.4.0\na  1/1\na  0/1\n", Rows),
            "NAME\na  N/N\nb  N/N  VERSION\n"
        );
    }

    #[test]
    fn of_yaml_each_object_is_a_line() {
        let yaml = "kind: Namespace\nmetadata: {name: a}\n---\nkind: Pod\nmetadata: {name: b, namespace: a}\n";
        assert_eq!(objects(yaml).unwrap(), "Namespace  -  a\nPod  a  b\n");
    }
}
