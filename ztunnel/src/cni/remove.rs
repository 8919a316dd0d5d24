//! Everything of ours taken off a node (`weft-cni remove`). Comes in: what an agent left. Goes out: a CNI
//! configuration without us, pods without rules and annotations. May be done twice.

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use act::{
    admin::Admin,
    config::{CAPTURE, Source, kubernetes},
    process::{Failure, Readiness, shutdown},
    telemetry::Metrics,
};
use k8s_openapi::api::core::v1 as core;
use kube::{
    Api,
    api::{ListParams, PartialObjectMeta},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{conflist::TYPE, files, install::take_out};
use crate::{
    capture::{AgentOptions, Cluster, Host, Namespaces, PodNamespace, Sandboxes, Standing, TellError},
    zds::{Packets, Pod},
};

/// How long an agent that is ending is waited for.
const ENDING: Duration = Duration::from_secs(60);
/// How often what is waited for is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// How long to wait before trying again what failed.
const AGAIN: Duration = Duration::from_secs(5);

/// Flags of `weft-cni remove`: those of the agent, so that one command line serves both.
#[derive(Debug, Clone, clap::Args)]
pub struct RemoveOptions {
    /// As the agent had them.
    #[command(flatten)]
    pub agent: AgentOptions,
    /// How long connections through the ztunnel may go on before the rules that carry them are removed
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub grace: Duration,
    /// Waits for SIGTERM when all is done, and is ready from then on: for a DaemonSet
    #[arg(long)]
    pub stay: bool,
}

/// Takes everything of ours off this node.
///
/// # Errors
/// One plain sentence; with `--stay` only when it cannot begin, for what fails is tried again.
pub async fn remove(options: &RemoveOptions) -> Result<(), Failure> {
    let logs = options.agent.log.start()?;
    if !options.stay {
        return take_off(&options.agent, options.grace).await;
    }
    let measured = Metrics::install();
    let stop = shutdown()?;
    let readiness = Readiness::new();
    let gone = readiness.gate("everything of ours to be taken off this node");
    let admin = Admin {
        process: ("weft-cni", options.agent.node.clone()),
        reader: None,
        certificates: None,
        metrics: measured,
        logs: Some(logs),
        readiness,
        prover: None,
        parts: vec![],
    };
    let ended = CancellationToken::new();
    admin.serve(&options.agent.admin, &ended).await?;
    let removing = async {
        while let Err(why) = take_off(&options.agent, options.grace).await {
            tracing::warn!(%why, "trying again");
            sleep(AGAIN).await;
        }
        gone.set(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = removing => {}
    }
    ended.cancel();
    Ok(())
}

async fn take_off(options: &AgentOptions, grace: Duration) -> Result<(), Failure> {
    agent_is_gone(options).await?;
    let system = |what: &str| {
        let what = what.to_owned();
        move |why: io::Error| Failure(format!("{what}: {why}"))
    };
    // first of all: from now on no sandbox waits for us
    let changed = take_out(&options.cni.cni_conf_dir)
        .map_err(system("our entry cannot be taken out of the CNI configuration"))?;
    for edit in changed {
        tracing::info!(directory = %options.cni.cni_conf_dir.display(), "{edit}");
    }
    for path in [
        options.cni.kubeconfig(),
        options.cni.state(),
        options.cni.cni_bin_dir.join(TYPE),
        options.cni.cni_socket.clone(),
    ] {
        files::remove(&path).map_err(system(&format!("{} cannot be removed", path.display())))?;
    }
    untell(options).await?;
    let namespaces = match &options.netns_dir {
        Some(directory) => Namespaces::Directory(directory.clone()),
        None => Namespaces::Node(Sandboxes::new(&options.proc)),
    };
    let left = release(&namespaces, grace).await?;
    if options.netns_dir.is_none() {
        let host = Host::remove().await;
        host.map_err(|why| Failure(format!("the host's rules for probes cannot be removed: {why}")))?;
    }
    if left > 0 {
        return Err(Failure(format!("{left} pods could not be released: see the log above")));
    }
    tracing::info!("nothing of ours is left on this node");
    Ok(())
}

/// An agent would put everything back.
async fn agent_is_gone(options: &AgentOptions) -> Result<(), Failure> {
    let until = Instant::now() + ENDING;
    while Packets::connect(&options.cni.cni_socket).is_ok() {
        if Instant::now() > until {
            return Err(Failure(format!(
                "an agent answers at {}: end it first, or it puts everything back",
                options.cni.cni_socket.display()
            )));
        }
        sleep(LOOK).await;
    }
    Ok(())
}

/// Others stop sending HBONE before the rules go.
async fn untell(options: &AgentOptions) -> Result<(), Failure> {
    if options.source.config != Source::Kubernetes {
        return Ok(());
    }
    let client = kubernetes::client().await.map_err(|why| Failure(why.to_string()))?;
    let pods: Api<PartialObjectMeta<core::Pod>> = Api::all(client.clone());
    let of_node = ListParams::default().fields(&format!("spec.nodeName={}", options.node));
    let found = pods
        .list(&of_node)
        .await
        .map_err(|why| Failure(format!("the pods of this node cannot be listed: {why}")))?;
    let cluster = Cluster::new(client, &options.node);
    for pod in found.items.into_iter().filter_map(annotated) {
        match cluster.tell(&pod, false).await {
            Ok(()) | Err(TellError::Gone) => {}
            Err(why) => return Err(Failure(format!("pod {}/{}: {why}", pod.namespace, pod.name))),
        }
    }
    Ok(())
}

/// The pod, if its annotation says that it is captured.
fn annotated(pod: PartialObjectMeta<core::Pod>) -> Option<Pod> {
    let metadata = pod.metadata;
    metadata.annotations?.contains_key(CAPTURE).then_some(())?;
    Some(Pod {
        uid: metadata.uid?.into(),
        name: metadata.name?.into(),
        namespace: metadata.namespace?.into(),
        service_account: "".into(),
    })
}

/// Releases every pod that has rules of ours; answers how many could not be.
async fn release(namespaces: &Namespaces, grace: Duration) -> Result<usize, Failure> {
    let uids = namespaces
        .uids()
        .map_err(|why| Failure(format!("the pods of this node cannot be found: {why}")))?;
    let (mut left, mut released) = (0, BTreeMap::<Arc<str>, PodNamespace>::new());
    for uid in uids {
        // a pod without a namespace has nothing of ours
        let Ok(namespace) = namespaces.open(&uid) else { continue };
        let done = match namespace.standing().await {
            Ok(Standing::Untouched) => continue,
            Ok(_) => namespace.release().await,
            Err(why) => Err(why),
        };
        match done {
            Ok(()) => drop(released.insert(uid, namespace)),
            Err(why) => {
                tracing::warn!(%uid, %why, "cannot release a pod");
                left += 1;
            }
        }
    }
    let until = Instant::now() + grace;
    let is_idle = |namespace: &PodNamespace| namespace.sockets().is_ok_and(|sockets| sockets.our_connections == 0);
    while Instant::now() < until && !released.values().all(is_idle) {
        sleep(LOOK).await;
    }
    for (uid, namespace) in released {
        match namespace.remove().await {
            Ok(()) => tracing::info!(%uid, "released"),
            Err(_) if !namespace.is_current() => {}
            Err(why) => {
                tracing::warn!(%uid, %why, "cannot remove the rules of a pod");
                left += 1;
            }
        }
    }
    Ok(left)
}
