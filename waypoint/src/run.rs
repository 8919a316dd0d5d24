//! The process' life: configuration and certificates first, then traffic on the workers, then the drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use act::{
    admin::Admin,
    authority::CaClient,
    certs::Certificates,
    config::kubernetes::Scope,
    hbone::{Pool, PoolOptions, TunnelOptions},
    net::{Acceptor, Dialer, Listen, Netns, SocketOptions, listen},
    process::{Failure, Gate, Readiness, Workers, shutdown},
    resolve::Resolver,
    telemetry::Logs,
};
use tokio::{
    net::TcpStream,
    sync::{AcquireError, OwnedSemaphorePermit, Semaphore, mpsc},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    bounds::{ACCEPTED, QUEUE},
    config::Options,
    inbound,
    reach::Network,
    waypoint::{Shared, Waypoint},
};

/// A connection on its way to its worker.
type Accepted = (std::net::TcpStream, SocketAddr, OwnedSemaphorePermit);

/// Runs the waypoint to its end.
///
/// # Errors
/// Why it cannot start.
pub(crate) fn run(options: Options) -> Result<(), Failure> {
    let logs = options.log.start()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure(format!("no runtime can be made: {error}")))?;
    runtime.block_on(serve(options, logs))
}

async fn serve(options: Options, logs: Logs) -> Result<(), Failure> {
    let metrics = options.flows.install();
    let stop = shutdown()?;
    let identity = options.identity()?;
    let settings = options.settings();
    let reader = options.source.watch(Scope::Waypoint)?;
    let certificates = Certificates::new(Arc::new(CaClient::new(&options.ca)?));
    let _hold = certificates.hold(&identity);
    let readiness = Readiness::new();
    let shared = Shared {
        key: options.key(),
        pod: (options.pod.namespace.clone(), options.pod.name.clone()),
        identity,
        reader: reader.clone(),
        certificates: certificates.clone(),
        names: Resolver::of_the_process(options.resolved_names),
        tunnels: Arc::new(Semaphore::new(settings.max_tunnels)),
        requests: Arc::new(Semaphore::new(settings.max_requests)),
        draining: CancellationToken::new(),
        settings,
    };
    let listener = listen(
        &Netns::own(),
        Listen {
            address: options.listen,
            transparent: false,
            shared: false,
        },
    )
    .and_then(Acceptor::new)
    .map_err(|error| Failure(format!("{error}; --listen chooses the address")))?;
    let (configured, certified) = (
        readiness.gate("its configuration"),
        readiness.gate("its certificate from the CA"),
    );
    let not_draining = readiness.gate("a successor: this process is stopping");
    not_draining.set(true);
    tokio::spawn(ready(shared.clone(), configured, certified));
    // The endpoints answer until the drain is over.
    let end = CancellationToken::new();
    let admin = Admin {
        process: ("waypoint", shared.key.to_string()),
        reader: Some(reader),
        certificates: Some(certificates),
        metrics,
        logs: Some(logs),
        readiness,
        prover: None,
        parts: Vec::new(),
    };
    admin.serve(&options.admin, &end).await?;
    let workers = Workers::start(options.workers(), "waypoint")
        .map_err(|error| Failure(format!("workers cannot be started: {error}")))?;
    tracing::info!(waypoint = %shared.key, listen = %options.listen, workers = workers.count(), "serving");
    let drain = options.drain;
    traffic(listener, &workers, &options, &shared, &stop).await?;
    finish(&workers, &shared, &not_draining, drain).await;
    end.cancel();
    Ok(())
}

/// Opens the gates as what they wait for arrives.
async fn ready(shared: Shared, configured: Gate, certified: Gate) {
    let mut reader = shared.reader.clone();
    tokio::join!(
        async {
            while !reader.load().complete {
                reader.changed().await;
            }
            configured.set(true);
        },
        async {
            while shared.certificates.leaf(&shared.identity).await.is_err() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            certified.set(true);
        }
    );
}

/// Accepts tunnels and hands them out in turn, until asked to stop.
async fn traffic(
    mut acceptor: Acceptor,
    workers: &Workers,
    options: &Options,
    shared: &Shared,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut seats = Vec::new();
    for worker in 0..workers.count() {
        let (seat, arrivals) = mpsc::channel(options.worker_queue);
        let (shared, options) = (shared.clone(), options.clone());
        workers
            .spawn(worker, move || work(shared, options, arrivals))
            .map_err(|error| Failure(error.to_string()))?;
        seats.push(seat);
    }
    for seat in seats.iter().cycle() {
        let accepted = stop.run_until_cancelled(async {
            let place = place(&shared.tunnels, shared.settings.max_tunnels).await;
            (acceptor.accept().await, place)
        });
        let (socket, from, place) = match accepted.await {
            None => return Ok(()),
            Some((Ok((socket, from)), Ok(place))) => (socket, from, place),
            Some((Err(error), _)) => {
                return Err(Failure(format!(
                    "{} cannot be listened on any more: {error}",
                    options.listen
                )));
            }
            Some((_, Err(_))) => return Ok(()),
        };
        let Ok(socket) = socket.into_std() else { continue };
        // A worker this far behind would only let the connection grow old.
        if seat.try_send((socket, from, place)).is_err() {
            // Counted whether or not it is logged: what a line is made of is worked out only when it is written.
            let why = QUEUE.told(options.worker_queue);
            tracing::warn!(%from, "refused: {why}");
        }
    }
    Ok(())
}

/// A place for one more of `most` tunnels. While there is none, clients wait in the listener's queue.
async fn place(places: &Arc<Semaphore>, most: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Ok(place);
    }
    let why = ACCEPTED.told(most);
    tracing::warn!("accepting waits: {why}");
    places.clone().acquire_owned().await
}

/// One worker: a waypoint of its own, and the tunnels it is given.
async fn work(shared: Shared, options: Options, mut arrivals: mpsc::Receiver<Accepted>) {
    let sockets = SocketOptions {
        congestion: options.congestion.as_deref().map(Into::into),
        ..SocketOptions::default()
    };
    let network = Network {
        pool: Pool::new(PoolOptions {
            deadline: options.connect_timeout,
            tunnels: options.pod_tunnels,
            tunnel: TunnelOptions {
                stream_window: shared.settings.tunnel.stream_window,
                tunnel_window: shared.settings.tunnel.tunnel_window,
                budget: shared.settings.tunnel.budget.clone(),
                ..TunnelOptions::default()
            },
            shared: true,
        }),
        certificates: shared.certificates.clone(),
        identity: shared.identity.clone(),
        dialer: Dialer {
            options: sockets.clone(),
            ..Dialer::own()
        },
        patience: options.connect_timeout,
    };
    let waypoint = Waypoint::new(shared, Arc::new(network));
    let tunnels = TaskTracker::new();
    while let Some((socket, from, place)) = arrivals.recv().await {
        let Ok(socket) = TcpStream::from_std(socket) else {
            continue;
        };
        // Fails only for one that is gone already.
        if sockets.apply(&socket).is_err() {
            continue;
        }
        let waypoint = waypoint.clone();
        tunnels.spawn(async move {
            inbound::tunnel(waypoint, socket, from).await;
            drop(place);
        });
    }
    tunnels.close();
    tunnels.wait().await;
}

/// Lets what is in flight finish, within the drain time.
async fn finish(workers: &Workers, shared: &Shared, not_draining: &Gate, drain: Duration) {
    not_draining.set(false);
    shared.draining.cancel();
    workers.stop(drain).await;
    tracing::info!("stopped");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use metrics_exporter_prometheus::PrometheusBuilder;
    use tokio::time::timeout;

    use super::*;
    use crate::tests::hits;

    #[tokio::test(start_paused = true)]
    async fn one_tunnel_more_waits_for_another_to_end_and_counts_as_slowed() {
        // Of this thread alone: other tests reach the bound as well.
        let recorder = PrometheusBuilder::new().build_recorder();
        let _here = metrics::set_default_local_recorder(&recorder);
        let places = Arc::new(Semaphore::new(1));
        let first = place(&places, 1).await.expect("there is one");
        assert_eq!(hits(&recorder, ACCEPTED), 0);
        let waiting = timeout(Duration::from_secs(1), place(&places, 1)).await;
        assert!(waiting.is_err(), "none is left");
        assert_eq!(hits(&recorder, ACCEPTED), 1);
        drop(first);
        assert!(place(&places, 1).await.is_ok());
        assert_eq!(hits(&recorder, ACCEPTED), 1);
    }
}
