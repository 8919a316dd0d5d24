//! `weft check`: what stands in the mesh's way. Comes in: a directory of YAML, or a cluster, before or after the mesh
//! is installed. Goes out: a row for each check, with the remedy.

mod cni;
mod connections;
mod directory;
mod facts;
mod mesh;
mod network_policy;
mod platform;

use std::{collections::BTreeSet, future::Future, path::PathBuf, process::ExitCode};

use k8s_openapi::api::{core::v1::Pod, networking::v1::NetworkPolicy};
use kube::Client;
use serde_json::{Value, json};

use self::{
    cni::Plugins,
    facts::{Facts, Learnt},
    network_policy::Meshed,
};
use crate::{
    finding::{self, Finding, Severity},
    install,
    output::{self, Answer, Format},
    proxies::Said,
    source::Source,
};

/// Exit code when problems were found.
const PROBLEMS: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  weft check DIR            every problem in a directory of YAML: file, line and what to do
  weft check --pre          may the mesh be installed in this cluster?
  weft check                is the installed mesh well, on every node and for every pod? Each node's capture is
                            proven by a connection of our own, which no application hears of

Exit codes: 0 nothing fails, 2 something does, 1 the check itself cannot be made.";

/// What is checked.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Check this directory of YAML instead of a cluster
    directory: Option<PathBuf>,
    /// Only what matters before the mesh is installed
    #[arg(long, conflicts_with = "directory")]
    pre: bool,
}

/// Checks what was named, else what answers are to come from.
///
/// # Errors
/// When it cannot be read or asked.
pub(crate) async fn run(
    arguments: &Arguments,
    source: impl Future<Output = Result<Source, String>>,
    format: Format,
) -> Answer {
    if let Some(directory) = &arguments.directory {
        return directory::run(directory, format);
    }
    match source.await? {
        Source::Directory(directory) => directory::run(&directory, format),
        Source::Cluster(client) => cluster(&client, arguments.pre, format).await,
        Source::Proxies(_) => Err(
            "proxies of this machine are not checked: name a directory (weft check DIR) or a \
                                   cluster (--kubeconfig FILE)"
                .into(),
        ),
    }
}

async fn cluster(client: &Client, pre: bool, format: Format) -> Answer {
    let findings = findings(client, pre).await?;
    let fails = findings.iter().filter(|it| it.result == Severity::Fail).count();
    if format == Format::Table {
        output::table(&finding::table(&findings), "nothing was checked")?;
        let warns = findings.iter().filter(|it| it.result == Severity::Warn).count();
        let checks = findings.len();
        output::text(&format!("\n{checks} checks, {warns} warnings, {fails} failures\n"))?;
    } else {
        output::value(&json!(findings), format)?;
    }
    Ok(if fails == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(PROBLEMS)
    })
}

/// Everything that was checked, in order.
///
/// # Errors
/// When the API server cannot be asked.
pub(crate) async fn findings(client: &Client, pre: bool) -> Result<Vec<Finding>, String> {
    let facts = Facts::learn(client).await?;
    let mut findings = platform(&facts);
    if pre || !facts.is_installed() {
        findings.extend(told(&facts.parts, "mesh", |parts| match parts.len() {
            0 => vec![Finding::ok("mesh", "not installed; install it with: weft install")],
            count => vec![Finding::ok("mesh", format!("installed already: {count} pods"))],
        }));
        findings.extend(match install::preflight(client).await {
            Ok(found) => found,
            Err(why) => vec![Finding::warn("permissions", format!("not checked: {why}"))],
        });
        return Ok(findings);
    }
    if let Ok(parts) = &facts.parts {
        let (statuses, certificates) = facts::ask(client, parts).await;
        findings.extend(platform::clocks(&ahead(&facts, &statuses)));
        findings.extend(told(&facts.nodes, "nodes", |nodes| mesh::parts(parts, nodes)));
        findings.extend(mesh::said(&statuses));
        findings.extend(mesh::certificates(&certificates));
    }
    findings.extend(pods(&facts));
    if let (Ok(parts), Ok(pods)) = (&facts.parts, &facts.pods) {
        findings.extend(connections::prove(client, parts, pods).await);
    }
    findings.extend(told(&facts.problems, "objects", |problems| mesh::problems(problems)));
    Ok(findings)
}

/// What the mesh stands on.
fn platform(facts: &Facts) -> Vec<Finding> {
    let mut findings = told(&facts.version, "Kubernetes", |(major, minor)| {
        vec![platform::kubernetes(major, minor)]
    });
    findings.extend(told(&facts.nodes, "nodes", |nodes| platform::kernels(nodes)));
    findings.extend(told(&facts.daemon_sets, "CNI", |daemon_sets| {
        told(&facts.cilium, "CNI", |cilium| {
            cni::judge(&Plugins {
                daemon_sets,
                cilium: cilium.as_ref(),
            })
        })
    }));
    findings.extend(told(&facts.definitions, "kinds", |definitions| {
        let mut kinds = vec![platform::gateway_api(definitions)];
        if facts.is_installed() {
            kinds.push(platform::our_kinds(definitions));
        }
        kinds
    }));
    if !facts.is_installed() {
        findings.extend(platform::clocks(&ahead(facts, &[])));
    }
    findings
}

/// Whose clock is how far ahead of ours.
fn ahead(facts: &Facts, statuses: &[Said<Value>]) -> Vec<(String, i64)> {
    let now = facts::now();
    let proxies = statuses.iter().filter_map(|Said { proxy, told }| {
        let time = told.as_ref().ok()?["time"].as_i64()?;
        Some((proxy.name.clone(), time - now))
    });
    let server = facts.ahead.map(|by| ("the API server".to_owned(), by));
    server.into_iter().chain(proxies).collect()
}

/// Capture of the pods, and what NetworkPolicies do to it.
fn pods(facts: &Facts) -> Vec<Finding> {
    told(&facts.pods, "capture", |pods| {
        told(&facts.namespaces, "capture", |namespaces| {
            let all = mesh::meshed(pods, namespaces);
            let mut findings = vec![mesh::captured(&all)];
            let meshed = Meshed {
                pods: all.iter().map(|(pod, _)| *pod).collect(),
                namespaces: namespaces
                    .iter()
                    .filter_map(|it| Some((it.metadata.name.as_deref()?, it.metadata.labels.as_ref()?)))
                    .collect(),
            };
            findings.extend(told(&facts.policies, "NetworkPolicies", |policies| {
                network_policy::judge(&concerned(policies, &meshed.pods), &meshed)
            }));
            findings
        })
    })
}

/// Policies of namespaces with a pod of the mesh.
fn concerned(policies: &[NetworkPolicy], pods: &[&Pod]) -> Vec<NetworkPolicy> {
    let namespaces: BTreeSet<_> = pods.iter().map(|pod| &pod.metadata.namespace).collect();
    let own = policies
        .iter()
        .filter(|policy| namespaces.contains(&policy.metadata.namespace));
    own.cloned().collect()
}

/// What follows from something learnt; a warning where it could not be.
fn told<T>(learnt: &Learnt<T>, check: &'static str, judge: impl FnOnce(&T) -> Vec<Finding>) -> Vec<Finding> {
    match learnt {
        Ok(known) => judge(known),
        Err(why) => vec![Finding::warn(check, format!("not checked: {why}"))],
    }
}
