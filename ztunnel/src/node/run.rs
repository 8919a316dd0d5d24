//! The process: everything is started here, and ends here.

use std::{sync::Arc, time::Duration};

use act::{
    admin::Admin,
    authority::CaClient,
    certs::Certificates,
    config::{Reader, kubernetes::Scope},
    hbone::PoolOptions,
    net::stranded,
    process::{Failure, Gate, Readiness, Workers, shutdown},
};
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;

use super::{NodePods, Options, Settings};
use crate::{traffic::TrafficOptions, zds};

/// How often gauges are published.
const GAUGES: Duration = Duration::from_secs(5);

/// Runs a ztunnel until SIGTERM or SIGINT, and through its drain.
///
/// # Errors
/// One plain sentence when it cannot start.
pub fn run(options: &Options) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|why| Failure(format!("no runtime can be made: {why}")))?;
    runtime.block_on(live(options))
}

async fn live(options: &Options) -> Result<(), Failure> {
    let logs = options.log.start()?;
    let measured = options.flows.install();
    let stop = shutdown()?;
    let readiness = Readiness::new();
    let (configured, told) = (
        readiness.gate("its first complete configuration"),
        readiness.gate("the agent to tell the pods of its node"),
    );
    let reader = options.source.watch(Scope::Proxy)?;
    let certificates = Certificates::new(Arc::new(CaClient::new(&options.ca)?));
    let workers = Workers::start(options.worker_count(), "worker")
        .map_err(|why| Failure(format!("no workers can be started: {why}")))?;
    let stopping = CancellationToken::new();
    let settings = Settings {
        node: options.node.as_str().into(),
        reader: reader.clone(),
        certificates: certificates.clone(),
        workers: workers.clone(),
        traffic: Arc::new(TrafficOptions {
            hold: options.hold,
            connections: options.pod_connections as usize,
            pool: tunnels(options),
            ..TrafficOptions::default()
        }),
        drain: options.drain,
        stopping: stopping.clone(),
    };
    let pods = NodePods::new(settings, told);
    let dumped = pods.clone();
    let admin = Admin {
        process: ("ztunnel", options.node.clone()),
        reader: Some(reader.clone()),
        certificates: Some(certificates),
        metrics: measured,
        logs: Some(logs),
        readiness,
        parts: vec![("pods", Arc::new(move || dumped.dump()))],
    };
    // admin endpoints answer to the end of the drain
    let ended = CancellationToken::new();
    admin.serve(&options.admin, &ended).await?;
    tokio::spawn(open_when_complete(reader, configured));
    watch_for_stranded(&workers, &stopping);
    tracing::info!(node = options.node, workers = workers.count(), "ztunnel started");
    serve(options, &pods, &stop).await;
    stopping.cancel();
    if timeout(options.grace, pods.ended()).await.is_err() {
        tracing::warn!(grace = ?options.grace, "connections were still open when the grace ended");
    }
    workers.stop(Duration::from_secs(1)).await;
    ended.cancel();
    Ok(())
}

/// How tunnels are made and kept.
fn tunnels(options: &Options) -> PoolOptions {
    let mut pool = PoolOptions::default();
    if options.tunnel_per_connection {
        pool.shared = false;
        // Nobody comes back to them.
        pool.tunnel.idle = Duration::from_millis(100);
    }
    pool
}

/// Takes pods from the agent until asked to stop.
async fn serve(options: &Options, pods: &NodePods, stop: &CancellationToken) {
    let mut from_agent = pods.clone();
    let gauges = async {
        let mut ticks = interval(GAUGES);
        loop {
            ticks.tick().await;
            pods.gauge();
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = zds::connect(&options.zds, &mut from_agent) => {}
        () = gauges => {}
    }
}

async fn open_when_complete(mut reader: Reader, gate: Gate) {
    while !reader.load().complete {
        reader.changed().await;
    }
    gate.set(true);
}

/// A thread that could not come back from a pod's network namespace would open sockets in the wrong pod. The
/// process then ends at once and is started anew.
fn watch_for_stranded(workers: &Workers, stopping: &CancellationToken) {
    let die = |thread: String| {
        tracing::error!(thread, "stranded in a pod's network namespace: ending");
        std::process::exit(70);
    };
    for worker in 0..workers.count() {
        let stopping = stopping.clone();
        let watched = workers.spawn(worker, move || async move {
            tokio::select! {
                () = stranded() => die(format!("worker {worker}")),
                () = stopping.cancelled() => {}
            }
        });
        if let Err(why) = watched {
            tracing::error!(%why, "a worker is not watched");
        }
    }
    tokio::spawn(async move {
        stranded().await;
        die("main".to_owned());
    });
}
