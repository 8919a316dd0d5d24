//! kill -9, in every order.

use std::time::Duration;

use super::watch::{self, Watch};
use crate::{
    check::{Bench, Point},
    load::unix_milliseconds,
    observe::Capture,
};

const ZTUNNEL: &str = "ztunnel-node-1";
const AGENT: &str = "weft-cni-node-1";
const AUTHORITY: &str = "ca";
/// Every order of the three.
const ORDERS: [[&str; 3]; 6] = [
    [ZTUNNEL, AGENT, AUTHORITY],
    [ZTUNNEL, AUTHORITY, AGENT],
    [AGENT, ZTUNNEL, AUTHORITY],
    [AGENT, AUTHORITY, ZTUNNEL],
    [AUTHORITY, ZTUNNEL, AGENT],
    [AUTHORITY, AGENT, ZTUNNEL],
];
/// How long each is away.
const AWAY: Duration = Duration::from_millis(800);
/// How long after a ztunnel's return requests may still fail: it has to be given its pods, and leaves.
const RETURN: u64 = 10_000;

/// All three are killed one after the other and come back in the same order, under load. Only what a ztunnel carried,
/// and what came while it was away, may fail.
pub(super) async fn check(bench: &Bench, capture: &Capture, point: &mut Point) {
    for order in ORDERS {
        let law = format!("kill -9 of {}", order.join(", then "));
        bench.tell(&law);
        let Some(load) = point.step(&law, Watch::start(bench, "kills").await) else {
            return;
        };
        tokio::time::sleep(AWAY).await;
        let mut away = (0, u64::MAX);
        for victim in order {
            point.step(&law, bench.world.kill(victim).await);
            if victim == ZTUNNEL {
                away.0 = unix_milliseconds();
            }
            tokio::time::sleep(AWAY).await;
        }
        for victim in order {
            point.step(&law, bench.world.restart(victim).await);
            if victim == ZTUNNEL {
                away.1 = unix_milliseconds() + RETURN;
            }
            tokio::time::sleep(AWAY).await;
        }
        watch::well_again(bench, point, &law).await;
        let rest = away.1.saturating_sub(unix_milliseconds());
        tokio::time::sleep(Duration::from_millis(rest + 1_000)).await;
        for (what, report) in ["kept", "new"].into_iter().zip(load.stop().await) {
            // Ticks are told a little after what they tell of.
            let (before, after) = (report.until(away.0 - 300), report.since(away.1));
            let seen = format!("before: {}; after: {}", before.summary(), after.summary());
            let pass = before.failed() == 0 && after.failed() == 0 && after.answered() > 0;
            let law = format!("{law}: only what came while no ztunnel ran is lost ({what} connections)");
            point.assert(&law, "0 failed before and after", seen, pass);
        }
        watch::nothing_in_clear(capture, point, &law);
    }
    agent_and_authority_alone(bench, capture, point).await;
}

/// Without either, nothing that runs is lost.
async fn agent_and_authority_alone(bench: &Bench, capture: &Capture, point: &mut Point) {
    for victims in [[AGENT, AUTHORITY], [AUTHORITY, AGENT]] {
        let law = format!("kill -9 of {}, and no ztunnel", victims.join(", then "));
        bench.tell(&law);
        let Some(load) = point.step(&law, Watch::start(bench, "others").await) else {
            return;
        };
        for victim in victims {
            point.step(&law, bench.world.kill(victim).await);
            tokio::time::sleep(AWAY).await;
        }
        for victim in victims {
            point.step(&law, bench.world.restart(victim).await);
            tokio::time::sleep(AWAY).await;
        }
        tokio::time::sleep(2 * AWAY).await;
        load.nothing_is_lost(point, &law).await;
        watch::nothing_in_clear(capture, point, &law);
    }
}
