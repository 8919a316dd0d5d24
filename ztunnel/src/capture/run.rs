//! The process `weft-cni`.

use std::{
    future::{Future, pending},
    io::Write,
    pin::Pin,
    sync::Arc,
};

use act::{
    admin::{Admin, Part},
    config::{
        EXCLUDED, Reader, Source,
        kubernetes::{self, Scope},
    },
    process::{Failure, Gate, Readiness, shutdown},
    telemetry::Metrics,
};
use tokio_util::sync::CancellationToken;

use super::{Agent, AgentOptions, Cluster, Command, Host, Namespaces, Options, Sandboxes, Tally, check};
use crate::{
    cni::{self, CAPTURE, Installer, Known, Server},
    privileges::{self, Capability, NET_ADMIN, SYS_ADMIN, SYS_PTRACE},
    zds::{self, Announcements},
};

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
        Command::Remove(options) => runtime.block_on(async {
            check().await.map_err(|why| Failure(why.to_string()))?;
            cni::remove(options).await
        }),
        Command::Rules(options) => {
            let printed = std::io::stdout().write_all(options.script().as_bytes());
            printed.map_err(|why| Failure(format!("the script cannot be printed: {why}")))
        }
    }
}

/// What serves the CNI plugin, for as long as it is polled.
type Plugin = Pin<Box<dyn Future<Output = ()>>>;

async fn agent(options: &AgentOptions) -> Result<(), Failure> {
    let logs = options.log.start()?;
    let measured = Metrics::install();
    let stop = shutdown()?;
    check().await.map_err(|why| Failure(why.to_string()))?;
    let namespaces = namespaces(options)?;
    privileged(&namespaces)?;
    let readiness = Readiness::new();
    let told = readiness.gate("its first complete configuration, and every pod of it to be announced");
    let node = options.node.clone();
    let reader = options.source.watch(Scope::Agent { node })?;
    let client = client(options).await?;
    let announcements = Announcements::new();
    let listening = zds::listen(&options.zds, announcements.clone()).map_err(|why| Failure(why.to_string()))?;
    let host = Host::new(options.probes.clone());
    let (known, seen, served) = (namespaces.clone(), reader.clone(), announcements.clone());
    let mut agent = Agent::new(&options.node, known, seen, announcements, host.clone());
    let cluster = client.clone().map(|client| Cluster::new(client, &options.node));
    if let Some(cluster) = cluster.clone() {
        agent = agent.telling(cluster);
    }
    let mut parts = parts(agent.tally(), host.clone());
    let plugin: Plugin = match &namespaces {
        Namespaces::Directory(_) => Box::pin(pending()),
        Namespaces::Node(sandboxes) => {
            let known = Known::read(&options.cni.state()).unwrap_or_default();
            agent = agent.after(known.enabled);
            let server = server(&options.node, &reader, sandboxes, (agent.tally(), served), cluster);
            let installer = Installer::new(&options.cni, &[EXCLUDED, &options.source.root_namespace]);
            let told = installer.clone();
            parts.push(("cni", Arc::new(move || told.dump())));
            let stands = readiness.gate("its entry in the node's CNI configuration");
            plugin(options, installer, server, client, stands)?
        }
    };
    let admin = Admin {
        process: ("weft-cni", options.node.clone()),
        reader: Some(reader),
        certificates: None,
        metrics: measured,
        logs: Some(logs),
        readiness,
        prover: None,
        parts,
    };
    let ended = CancellationToken::new();
    admin.serve(&options.admin, &ended).await?;
    tracing::info!(node = options.node, "weft-cni agent started");
    tokio::select! {
        () = stop.cancelled() => tracing::info!("ending; captured pods stay captured"),
        () = listening => {}
        never = agent.run(told) => match never {},
        () = plugin => {}
        never = host.run() => match never {},
    }
    ended.cancel();
    Ok(())
}

/// What answers the CNI plugin's questions.
fn server(
    node: &str,
    reader: &Reader,
    sandboxes: &Arc<Sandboxes>,
    (tally, announcements): (Tally, Announcements),
    cluster: Option<Cluster>,
) -> Server {
    Server {
        node: node.into(),
        reader: reader.clone(),
        sandboxes: sandboxes.clone(),
        tally,
        announcements,
        cluster,
        patience: CAPTURE,
    }
}

/// What the agent tells at its admin endpoint.
fn parts(tally: Tally, host: Host) -> Vec<(&'static str, Part)> {
    vec![
        ("pods", Arc::new(move || tally.dump())),
        ("probes", Arc::new(move || host.dump())),
    ]
}

/// Puts the CNI plugin in its place, then answers its questions and keeps it there for as long as it is polled.
fn plugin(
    options: &AgentOptions,
    installer: Installer,
    server: Server,
    client: Option<kube::Client>,
    stands: Gate,
) -> Result<Plugin, Failure> {
    installer.put_program()?;
    let reader = server.reader.clone();
    let answering = server
        .listen(&options.cni.cni_socket)
        .map_err(|why| Failure(why.to_string()))?;
    let knowing = cni::keep(options.cni.state(), options.cni.kubeconfig(), reader, client);
    Ok(Box::pin(async move {
        tokio::select! {
            () = answering => {}
            () = knowing => {}
            () = installer.keep(stands) => {}
        }
    }))
}

/// The API server, where the configuration comes from it.
async fn client(options: &AgentOptions) -> Result<Option<kube::Client>, Failure> {
    if options.source.config != Source::Kubernetes {
        return Ok(None);
    }
    let client = kubernetes::client().await.map_err(|why| Failure(why.to_string()))?;
    Ok(Some(client))
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
    let needed: &[Capability] = match namespaces {
        // Other processes' namespaces are opened as a debugger would.
        Namespaces::Node(_) => &[SYS_ADMIN, NET_ADMIN, SYS_PTRACE],
        Namespaces::Directory(_) => &[SYS_ADMIN, NET_ADMIN],
    };
    privileges::require(needed)
}
