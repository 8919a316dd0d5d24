//! Too much at once: strangers that say nothing, and more connections than anybody needs.

use std::time::Duration;

use super::watch::{self, Watch};
use crate::{
    check::{Bench, Point, own_program},
    load::Load,
    observe::Capture,
};

/// Connections of the stranger, four times as many as may be unauthenticated.
const STRANGERS: &str = "1200";
/// How long 50,000 connections may take on a machine that does other things, too.
const LONGEST: Duration = Duration::from_secs(300);
/// How long they take to come, at most, and how long the last is looked at: longer than a handshake may take.
const COMING: Duration = Duration::from_secs(4);
const HELD: Duration = Duration::from_secs(16);

/// Half-open connections, held beyond the handshake's deadline, while the pod they are opened to serves others.
pub(super) async fn half_open(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "1,200 connections to port 15008 that say nothing";
    let (Some(before), Some(own)) = (
        point.step(law, watch::both(bench).await),
        point.step(law, own_program()),
    ) else {
        return;
    };
    let Some(load) = point.step(law, Watch::start(bench, "flood").await) else {
        return;
    };
    tokio::time::sleep(Duration::from_secs(1)).await;
    let words = [&*own, "hold", "10.77.2.22:15008", "--count", STRANGERS];
    let flood = bench.world.spawn_in("plain/outsider", "flood", &words).await;
    let Some(mut flood) = point.step(law, flood) else {
        return;
    };
    let peak = most_descriptors(bench).await;
    // 256 on each of two workers, and those that are on their way to one.
    let (least, most) = (before[1].descriptors + 100, before[1].descriptors + 900);
    point.assert(
        &format!("{law}: those beyond the bound are shut out"),
        format!("{least} to {most} descriptors at the peak"),
        peak,
        (least..=most).contains(&peak),
    );
    let over = || async {
        let now = watch::both(bench).await;
        now.is_ok_and(|[_, server]| server.descriptors < least)
    };
    let over = bench.until(HELD, over).await;
    let law_of_time = format!("{law}: those within it, once a handshake may take no longer");
    point.assert(
        &law_of_time,
        "shut out, too",
        if over { "shut out" } else { "let in" },
        over,
    );
    flood.kill().await;
    load.nothing_is_lost(point, law).await;
    watch::given_back(bench, point, law, &before).await;
    watch::nothing_in_clear(capture, point, law);
}

/// Fifty thousand connections, one request each, offered within a minute. A machine that cannot carry as many takes
/// longer: then they wait on the client's side, of which no more than so many are under way.
pub(super) async fn connects(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "50,000 connects in a minute";
    let Some(before) = point.step(law, watch::both(bench).await) else {
        return;
    };
    let url = format!("http://catalog/?say={}", watch::MARKER);
    let words = [&*url, "--rate", "834", "--requests", "50000", "--room", "500"];
    let begun = tokio::time::Instant::now();
    let load = Load::start(&bench.world, "shop/client-b", "connects", &words).await;
    if let Some(load) = point.step(law, load) {
        let report = load.finish(LONGEST).await;
        let pass = report.failed() == 0 && report.answered() == 50_000;
        let seen = format!("{} in {} s", report.summary(), begun.elapsed().as_secs());
        point.assert(law, "50,000 answered, 0 failed", seen, pass);
    }
    watch::given_back(bench, point, law, &before).await;
    watch::nothing_in_clear(capture, point, law);
}

/// The most descriptors that the server's ztunnel holds while the flood comes in.
async fn most_descriptors(bench: &Bench) -> usize {
    let end = tokio::time::Instant::now() + COMING;
    let mut most = 0;
    while tokio::time::Instant::now() < end {
        most = most.max(watch::both(bench).await.map_or(0, |[_, server]| server.descriptors));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    most
}
