//! Bytes that are no HTTP: judged by what is known without reading them, again whenever that changes.

use std::sync::Arc;

use act::{
    hbone::Traceparent,
    telemetry::{Connection, FLOW_TICK, FlowLabels, Outcome, Party, Reporter, Security},
};
use decide::{
    hop::{Bound, bound},
    model::{Refusal, Workload},
    pick::Choice,
    snapshot::Snapshot,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    time::{Instant, MissedTickBehavior, interval_at},
};

use crate::{
    choose::{Asked, Chosen},
    client::Client,
    reach::Reached,
};

/// Endpoints tried while no byte has been sent.
const MOST_TRIES: usize = 3;

/// A connection to a server, judged, and its telling.
pub(crate) struct Opened {
    reached: Reached,
    chosen: Chosen,
    tale: Connection,
}

/// Chooses a server, judges, and connects it. A refusal is told.
///
/// # Errors
/// The refusal.
pub(crate) async fn open(client: &Client) -> Result<Opened, Refusal> {
    let mut labels = FlowLabels {
        source: client.source(),
        security: Security::MutualTls,
        trace: client.trace.as_ref().map(Traceparent::trace),
        ..FlowLabels::new(Reporter::Waypoint)
    };
    match connect(client, &mut labels).await {
        Ok((reached, chosen)) => Ok(Opened {
            reached,
            chosen,
            tale: Connection::open(labels),
        }),
        Err(refusal) => {
            Connection::refused(labels, &refusal);
            Err(refusal)
        }
    }
}

async fn connect(client: &Client, labels: &mut FlowLabels) -> Result<(Reached, Chosen), Refusal> {
    let waypoint = &client.waypoint;
    let mut avoid = Vec::new();
    loop {
        let snapshot = waypoint.reader.load();
        let bound = bound(&snapshot, &waypoint.key, client.namespace(), client.authority)?;
        let own = waypoint.own(&snapshot)?;
        labels.service = bound.addressed();
        let choosing = asked(client, &snapshot, &own, &bound).choose(
            0,
            &Choice {
                random: fastrand::u64(..),
                load: &|address| waypoint.loads.of(address),
                avoid: &avoid,
            },
        )?;
        let chosen = waypoint.settle(choosing, &snapshot, &own, &avoid).await?;
        labels.allowed_by = chosen.judged.allowed_by.clone().map(Box::new);
        labels.would_deny = chosen.judged.would_deny.clone().map(Box::new);
        labels.destination = Party {
            workload: chosen.workload.clone(),
            identity: chosen.destination.tunnel.as_ref().map(|tunnel| tunnel.expected.clone()),
            address: Some(chosen.endpoint),
        };
        let trace = client.trace.map(|trace| trace.onward(fastrand::u64(..)));
        match waypoint.reach.reach(&own, &chosen.destination, trace).await {
            Ok(reached) => return Ok((reached, chosen)),
            Err(refusal) if avoid.len() + 1 >= MOST_TRIES => return Err(refusal),
            Err(_) => avoid.push(chosen.endpoint),
        }
    }
}

impl Opened {
    /// Passes bytes both ways until both sides have finished, nothing moves for too long, or a change denies it.
    pub(crate) async fn serve(mut self, client: &Client, mut io: impl AsyncRead + AsyncWrite + Unpin) {
        let mut counted = (0, 0);
        let outcome = {
            let copied = copy_bidirectional(&mut io, &mut self.reached.io);
            tokio::select! {
                ended = copied => match ended {
                    Ok(_) => Outcome::Closed,
                    Err(error) => Outcome::Reset(error.to_string().into()),
                },
                refusal = denied(client, &self.chosen) => Outcome::Cut(refusal),
                outcome = silence(client, &mut self.tale, &mut counted) => outcome,
            }
        };
        count(client, &mut self.tale, &mut counted);
        self.tale.finish(&outcome);
    }
}

/// Resolves when a change of the configuration denies the connection.
async fn denied(client: &Client, chosen: &Chosen) -> Refusal {
    let waypoint = &client.waypoint;
    let mut reader = waypoint.reader.clone();
    loop {
        let snapshot = reader.changed().await;
        let allowed = bound(&snapshot, &waypoint.key, client.namespace(), client.authority).and_then(|bound| {
            let own = waypoint.own(&snapshot)?;
            asked(client, &snapshot, &own, &bound).recheck(chosen)
        });
        if let Err(refusal) = allowed {
            return refusal;
        }
    }
}

/// Resolves when nothing has moved for too long.
async fn silence(client: &Client, tale: &mut Connection, counted: &mut (u64, u64)) -> Outcome {
    let idle = client.waypoint.settings.idle;
    let period = FLOW_TICK.min(idle);
    let mut tick = interval_at(Instant::now() + period, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        count(client, tale, counted);
        if client.activity.silent() >= idle {
            return Outcome::TimedOut(format!("idle for {idle:?}").into());
        }
    }
}

fn count(client: &Client, tale: &mut Connection, counted: &mut (u64, u64)) {
    let now = client.activity.bytes();
    tale.count(now.0 - counted.0, now.1 - counted.1);
    *counted = now;
}

fn asked<'a>(client: &'a Client, snapshot: &'a Snapshot, own: &'a Arc<Workload>, bound: &'a Bound) -> Asked<'a> {
    Asked {
        snapshot,
        own,
        key: &client.waypoint.key,
        authority: client.authority,
        bound,
        client: client.peer.identity(),
        address: client.remote.ip(),
        request: None,
    }
}
