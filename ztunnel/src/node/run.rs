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
    resolve::Resolver,
};
use tokio::{
    sync::watch,
    time::{interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{NodePods, Options, Settings, proof};
use crate::{
    handover::{self, Elders, Place},
    privileges::{self, NET_ADMIN, SYS_ADMIN},
    traffic::TrafficOptions,
    zds,
};

/// How often gauges are published.
const GAUGES: Duration = Duration::from_secs(5);
/// How often elders are asked whether everything has been taken over.
const ASK: Duration = Duration::from_millis(500);
/// What of the grace is left for telling what is cut: who started us may kill us when it has ended.
pub const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a ztunnel that was succeeded is not ready. One that nobody has asked to stop by then stands by, and says
/// that it is ready: otherwise a rollout would wait for it for ever.
const ASIDE: Duration = Duration::from_secs(60);

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
    privileges::require(&[SYS_ADMIN, NET_ADMIN])?;
    let logs = options.log.start()?;
    let measured = options.flows.install();
    let stop = shutdown()?;
    let readiness = Readiness::new();
    let (configured, told) = (
        readiness.gate("its first complete configuration"),
        readiness.gate("the agent to tell the pods of its node"),
    );
    let taken = readiness.gate("every pod to be taken over from the ztunnel that was there before");
    let foremost = readiness.gate("nothing: another ztunnel has taken over");
    let (place, elders) = meet(options).await?;
    let reader = options.source.watch(Scope::Ztunnel)?;
    let certificates = Certificates::new(Arc::new(CaClient::new(&options.ca)?));
    let workers = Workers::with_queue(options.worker_count(), "worker", options.bounds.worker_queue as usize)
        .map_err(|why| Failure(format!("no workers can be started: {why}")))?;
    let settings = settings(options, &reader, &certificates, &workers, &elders);
    let pods = NodePods::new(settings.clone(), place.number, told);
    let dumped = pods.clone();
    let admin = Admin {
        process: ("ztunnel", options.node.clone()),
        reader: Some(reader.clone()),
        certificates: Some(certificates),
        metrics: measured,
        logs: Some(logs),
        readiness,
        parts: vec![("pods", Arc::new(move || dumped.dump()))],
        prover: Some(proof::prover(pods.clone(), reader.clone())),
    };
    // admin endpoints answer to the end of the drain
    let ended = CancellationToken::new();
    admin.serve(&options.admin, &ended).await?;
    tokio::spawn(open_when_complete(reader, configured));
    tokio::spawn(open_when_taken(pods.clone(), elders.clone(), taken));
    tokio::spawn(step_aside(pods.superseded(), foremost));
    watch_for_stranded(&workers, &settings.stopping);
    tracing::info!(
        node = options.node,
        number = place.number,
        elders = elders.count(),
        workers = workers.count(),
        "ztunnel started"
    );
    tokio::select! {
        () = async {
            stop.cancelled().await;
            end(&settings, &pods, options.grace, options.linger).await;
        } => {}
        () = serve(options, &pods) => {}
        () = handover::serve(place, pods.clone()) => {}
    }
    workers.stop(Duration::from_secs(1)).await;
    ended.cancel();
    Ok(())
}

/// A place among the ztunnels of this node, and those that were there before.
async fn meet(options: &Options) -> Result<(Place, Elders), Failure> {
    let place = Place::take(&options.meeting()).await;
    let place = place.map_err(|why| Failure(format!("no other ztunnel could take over from this one: {why}")))?;
    let elders = Elders::greet(place.number, &place.elders).await;
    Ok((place, elders))
}

fn settings(
    options: &Options,
    reader: &Reader,
    certificates: &Certificates,
    workers: &Workers,
    elders: &Elders,
) -> Settings {
    Settings {
        node: options.node.as_str().into(),
        reader: reader.clone(),
        certificates: certificates.clone(),
        workers: workers.clone(),
        traffic: Arc::new(TrafficOptions {
            names: Resolver::of_the_process(options.bounds.resolved_names as usize),
            congestion: options.congestion.as_deref().map(Into::into),
            pool: tunnels(options),
            ..options.bounds.traffic()
        }),
        drain: options.drain,
        elders: elders.clone(),
        stopping: CancellationToken::new(),
        leaving: CancellationToken::new(),
    }
}

/// How tunnels are made and kept.
fn tunnels(options: &Options) -> PoolOptions {
    let mut pool = options.bounds.traffic().pool;
    if options.tunnel_per_connection {
        pool.shared = false;
        // Nobody comes back to them.
        pool.tunnel.idle = Duration::from_millis(100);
    }
    pool
}

/// What a process does that is asked to stop. Resolves when it may: nothing is left in it, or its grace has ended and
/// what was still open is told and cut. `linger` is how long it serves on while nobody comes to take over.
pub async fn end(settings: &Settings, pods: &NodePods, grace: Duration, linger: Duration) {
    settings.stopping.cancel();
    if settings.elders.leave().await {
        tracing::info!("an earlier ztunnel goes on in our stead");
        settings.leaving.cancel();
    }
    let why = tokio::select! {
        () = pods.ended() => return,
        () = sleep(grace.saturating_sub(LAST_WORDS)) => "the grace has ended",
        () = nobody_comes(linger, pods) => "no other ztunnel has come",
    };
    let open = pods.cut();
    tracing::warn!(why, open, "ending: what was still open is cut");
}

/// Resolves when we are the only ztunnel here and have waited long enough for another: one that is to come after us may
/// be waiting for our end.
async fn nobody_comes(linger: Duration, pods: &NodePods) {
    sleep(linger).await;
    while !pods.is_alone() {
        sleep(ASK).await;
    }
}

/// Takes pods from the agent, for ever.
async fn serve(options: &Options, pods: &NodePods) {
    let mut from_agent = pods.clone();
    let gauges = async {
        let mut ticks = interval(GAUGES);
        loop {
            ticks.tick().await;
            pods.gauge();
        }
    };
    tokio::select! {
        () = zds::connect(&options.zds, &mut from_agent) => {}
        () = gauges => {}
        never = pods.watch_phases() => match never {},
    }
}

/// Ready when no other ztunnel accepts for a pod that we were told of.
async fn open_when_taken(pods: NodePods, elders: Elders, gate: Gate) {
    pods.told().await;
    while !elders.done().await {
        sleep(ASK).await;
    }
    gate.set(true);
}

/// Not ready for a while once another has taken over.
async fn step_aside(mut superseded: watch::Receiver<bool>, gate: Gate) {
    loop {
        gate.set(true);
        if superseded.wait_for(|superseded| *superseded).await.is_err() {
            return;
        }
        gate.set(false);
        let back = async { superseded.wait_for(|superseded| !superseded).await.is_err() };
        match timeout(ASIDE, back).await {
            Ok(true) => return,
            Ok(false) => continue,
            Err(_) => gate.set(true),
        }
        if superseded.wait_for(|superseded| !superseded).await.is_err() {
            return;
        }
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
