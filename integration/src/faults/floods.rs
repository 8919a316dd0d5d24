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
/// How long they are held: longer than a handshake may take.
const HELD: Duration = Duration::from_secs(12);

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
    tokio::time::sleep(HELD).await;
    if let Some(during) = point.step(law, watch::both(bench).await) {
        let [_, server] = &during;
        let most = before[1].descriptors + 600;
        point.assert(
            &format!("{law}: those beyond the bound are shut out"),
            format!("at most {most} descriptors"),
            server.descriptors,
            server.descriptors <= most,
        );
    }
    flood.kill().await;
    load.nothing_is_lost(point, law).await;
    watch::given_back(bench, point, law, &before).await;
    watch::nothing_in_clear(capture, point, law);
}

/// Fifty thousand connections within a minute, one request each.
pub(super) async fn connects(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "50,000 connects in a minute";
    let Some(before) = point.step(law, watch::both(bench).await) else {
        return;
    };
    let url = format!("http://catalog/?say={}", watch::MARKER);
    let words = [&*url, "--rate", "834", "--time", "60s"];
    let load = Load::start(&bench.world, "shop/client-b", "connects", &words).await;
    if let Some(load) = point.step(law, load) {
        let report = load.finish(Duration::from_secs(100)).await;
        let tried = report.answered() + report.failed();
        let pass = report.failed() == 0 && tried >= 50_000;
        point.assert(law, "at least 50,000, 0 failed", report.summary(), pass);
    }
    watch::given_back(bench, point, law, &before).await;
    watch::nothing_in_clear(capture, point, law);
}
