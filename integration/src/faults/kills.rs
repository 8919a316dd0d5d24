//! kill -9, in every order.

use std::time::Duration;

use super::watch::{self, Watch};
use crate::{
    check::{Bench, Point},
    load::{Report, unix_milliseconds},
    observe::Capture,
};

/// Whose ztunnel and agent: the node of the clients, and that of the server.
const NODES: [&str; 2] = ["node-1", "node-2"];
const AUTHORITY: &str = "ca";
/// Every order of the three.
const ORDERS: [[Victim; 3]; 6] = [
    [Victim::Ztunnel, Victim::Agent, Victim::Authority],
    [Victim::Ztunnel, Victim::Authority, Victim::Agent],
    [Victim::Agent, Victim::Ztunnel, Victim::Authority],
    [Victim::Agent, Victim::Authority, Victim::Ztunnel],
    [Victim::Authority, Victim::Ztunnel, Victim::Agent],
    [Victim::Authority, Victim::Agent, Victim::Ztunnel],
];
/// How long each is away.
const AWAY: Duration = Duration::from_millis(800);
/// How long after a ztunnel's return requests may still fail: it has to be given its pods, and leaves.
const RETURN: u64 = 10_000;

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Ztunnel,
    Agent,
    Authority,
}

impl Victim {
    /// The process of a node.
    fn of(self, node: &str) -> String {
        match self {
            Self::Ztunnel => format!("ztunnel-{node}"),
            Self::Agent => format!("weft-cni-{node}"),
            Self::Authority => AUTHORITY.into(),
        }
    }
}

/// All three are killed one after the other and come back in the same order, under load: those of the clients' node,
/// then those of the server's. Only what a ztunnel carried, and what came while it was away, may fail.
pub(super) async fn check(bench: &Bench, capture: &Capture, point: &mut Point) {
    for node in NODES {
        for order in ORDERS {
            in_order(bench, capture, point, (node, order)).await;
        }
    }
    agent_and_authority_alone(bench, capture, point).await;
}

async fn in_order(bench: &Bench, capture: &Capture, point: &mut Point, (node, order): (&str, [Victim; 3])) {
    let names = order.map(|victim| victim.of(node));
    let law = format!("kill -9 of {}", names.join(", then "));
    bench.tell(&law);
    let Some(load) = point.step(&law, Watch::start(bench, "kills").await) else {
        return;
    };
    tokio::time::sleep(AWAY).await;
    let mut gone = 0;
    for victim in order {
        point.step(&law, bench.world.kill(&victim.of(node)).await);
        if victim == Victim::Ztunnel {
            gone = unix_milliseconds();
        }
        tokio::time::sleep(AWAY).await;
    }
    let mut back = 0;
    for victim in order {
        point.step(&law, bench.world.restart(&victim.of(node)).await);
        if victim == Victim::Ztunnel {
            back = unix_milliseconds();
        }
        tokio::time::sleep(AWAY).await;
    }
    watch::well_again(bench, point, &law).await;
    let rest = (back + RETURN).saturating_sub(unix_milliseconds());
    tokio::time::sleep(Duration::from_millis(rest + 1_000)).await;
    for (what, report) in ["kept", "new"].into_iter().zip(load.stop().await) {
        lost(
            point,
            &format!("{law}: only what came while no ztunnel ran is lost ({what} connections)"),
            (gone, back),
            &report,
        );
    }
    watch::nothing_in_clear(capture, point, &law);
}

/// What was lost of a load while its ztunnel was away, from and until when; nothing before, nothing after its return.
fn lost(point: &mut Point, law: &str, (gone, back): (u64, u64), report: &Report) {
    // Ticks are told a little after what they tell of.
    let (before, after) = (report.until(gone.saturating_sub(300)), report.since(back + RETURN));
    let last = report.last_failed_at().unwrap_or(gone) as f64 - back as f64;
    let side = if last < 0.0 { "before" } else { "after" };
    let seen = format!(
        "before: {}; meanwhile: {}, the last {:.1} s {side} its return; from 10 s after that on: {}",
        before.summary(),
        report.since(gone.saturating_sub(300)).until(back + RETURN).summary(),
        last.abs() / 1000.0,
        after.summary()
    );
    let whole = |part: &Report| part.failed() == 0 && part.closed() == 0 && part.answered() > 0;
    point.assert(law, "0 failed before and after", seen, whole(&before) && whole(&after));
}

/// Without either, nothing that runs is lost.
async fn agent_and_authority_alone(bench: &Bench, capture: &Capture, point: &mut Point) {
    let agent = Victim::Agent.of("node-1");
    for victims in [[&*agent, AUTHORITY], [AUTHORITY, &*agent]] {
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
