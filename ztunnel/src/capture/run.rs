//! The process `weft-cni`.

use std::{io::Write, path::Path, sync::Arc};

use act::{
    admin::Admin,
    config::kubernetes::Scope,
    process::{Failure, Readiness, shutdown},
    telemetry::Metrics,
};
use tokio_util::sync::CancellationToken;

use super::{Agent, AgentOptions, Command, Host, Options, check};
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
    may_enter(&options.netns_dir)?;
    let readiness = Readiness::new();
    let told = readiness.gate("its first complete configuration, and every pod of it to be announced");
    let scope = Scope::Agent {
        node: options.node.clone(),
    };
    let reader = options.source.watch(scope)?;
    let announcements = Announcements::new();
    let listening = zds::listen(&options.zds, announcements.clone()).map_err(|why| Failure(why.to_string()))?;
    let host = Host::new(options.probes.clone());
    let agent = Agent::new(
        &options.node,
        &options.netns_dir,
        reader.clone(),
        announcements,
        host.clone(),
    );
    let (tally, dumped) = (agent.tally(), host.clone());
    let admin = Admin {
        process: ("weft-cni", options.node.clone()),
        reader: Some(reader),
        certificates: None,
        metrics: measured,
        logs: Some(logs),
        readiness,
        parts: vec![
            ("pods", Arc::new(move || tally.dump())),
            ("probes", Arc::new(move || dumped.dump())),
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

/// Says at once what would fail at every pod.
fn may_enter(netns_dir: &Path) -> Result<(), Failure> {
    if !netns_dir.is_dir() {
        return Err(Failure(format!(
            "the directory of pods' network namespaces {} is not there: make it, or give another --netns-dir",
            netns_dir.display()
        )));
    }
    let missing: Vec<&str> = [(21, "CAP_SYS_ADMIN"), (12, "CAP_NET_ADMIN")]
        .into_iter()
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
