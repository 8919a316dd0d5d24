//! The process `weft-cni`.

use std::{io::Write, sync::Arc};

use act::{
    admin::Admin,
    config::{
        Source,
        kubernetes::{self, Scope},
    },
    process::{Failure, Readiness, shutdown},
    telemetry::Metrics,
};
use tokio_util::sync::CancellationToken;

use super::{Agent, AgentOptions, Cluster, Command, Host, Namespaces, Options, Sandboxes, check};
use crate::zds::{self, Announcements};

/// Does what the command line says. An agent runs until SIGTERM or SIGINT; its rules stay.
///
/// # Errors
/// One plain sentence when it cannot start.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure(format!("no runtime can be made: {why}")))?;
    match &options.command {
        Command::Agent(options) => runtime.block_on(agent(options)),
        Command::Rules(options) => {
            let printed = std::io::stdout().write_all(options.script().as_bytes());
            printed.map_err(|why| Failure(format!("the script cannot be printed: {why}")))
        }
    }
}

async fn agent(options: &AgentOptions) -> Result<(), Failure> {
    let logs = options.log.start()?;
    let measured = Metrics::install();
    let stop = shutdown()?;
    check().await.map_err(|why| Failure(why.to_string()))?;
    let namespaces = namespaces(options)?;
    privileged(&namespaces)?;
    let readiness = Readiness::new();
    let told = readiness.gate("its first complete configuration, and every pod of it to be announced");
    let scope = Scope::Agent {
        node: options.node.clone(),
    };
    let reader = options.source.watch(scope)?;
    let announcements = Announcements::new();
    let listening = zds::listen(&options.zds, announcements.clone()).map_err(|why| Failure(why.to_string()))?;
    let host = Host::new(options.probes.clone());
    let mut agent = Agent::new(&options.node, namespaces, reader.clone(), announcements, host.clone());
    if options.source.config == Source::Kubernetes {
        let client = kubernetes::client().await.map_err(|why| Failure(why.to_string()))?;
        agent = agent.telling(Cluster::new(client, &options.node));
    }
    let (tally, probes) = (agent.tally(), host.clone());
    let admin = Admin {
        process: ("weft-cni", options.node.clone()),
        reader: Some(reader),
        certificates: None,
        metrics: measured,
        logs: Some(logs),
        readiness,
        parts: vec![
            ("pods", Arc::new(move || tally.dump())),
            ("probes", Arc::new(move || probes.dump())),
        ],
    };
    let ended = CancellationToken::new();
    admin.serve(&options.admin, &ended).await?;
    tracing::info!(node = options.node, "weft-cni agent started");
    tokio::select! {
        () = stop.cancelled() => tracing::info!("ending; captured pods stay captured"),
        () = listening => {}
        never = agent.run(told) => match never {},
        never = host.run() => match never {},
    }
    ended.cancel();
    Ok(())
}

/// Where the pods' namespaces are.
fn namespaces(options: &AgentOptions) -> Result<Namespaces, Failure> {
    let Some(directory) = &options.netns_dir else {
        return Ok(Namespaces::Node(Sandboxes::new(&options.proc)));
    };
    if directory.is_dir() {
        return Ok(Namespaces::Directory(directory.clone()));
    }
    Err(Failure(format!(
        "the directory of pods' network namespaces {} is not there: make it, or give another --netns-dir",
        directory.display()
    )))
}

/// Says at once what would fail at every pod.
fn privileged(namespaces: &Namespaces) -> Result<(), Failure> {
    // other processes' namespaces are opened as a debugger would
    let debugs = matches!(namespaces, Namespaces::Node(_)).then_some((19, "CAP_SYS_PTRACE"));
    let missing: Vec<&str> = [(21, "CAP_SYS_ADMIN"), (12, "CAP_NET_ADMIN")]
        .into_iter()
        .chain(debugs)
        .filter(|(bit, _)| effective_capabilities().is_some_and(|held| held & (1 << bit) == 0))
        .map(|(_, name)| name)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Failure(format!(
        "the privilege {} is missing: run weft-cni as root, or give it the capability",
        missing.join(" and ")
    )))
}

/// `CapEff` of `/proc/self/status`; `None` when it cannot be read.
fn effective_capabilities() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let held = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(held.trim(), 16).ok()
}
