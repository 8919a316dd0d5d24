//! Point 3, the connections that are kept: while servers are replaced they end by their servers' own hand alone, while
//! ztunnels are replaced they do not end.

use std::time::Duration;

use act::process::Failure;
use tokio::time::sleep;

use super::{
    load::{Outcome, PodLoad},
    manifests::{SHOP, roll_ztunnels, service_url},
    mesh::{self, Mark, ZTUNNELS},
    smoke::from_the_shop,
    stage::{MESH, Stage},
};
use crate::check::Point;

/// New connections a second while ztunnels are replaced.
const RATE: &str = "200";
/// How long load goes on before, and after the last ztunnel was replaced.
const AROUND: Duration = Duration::from_secs(10);
/// How a connection ends that we have ended.
const BY_US: [&str; 3] = ["cut", "drained", "timed-out"];

/// Clients that keep their connections.
pub(super) async fn start(stage: &Stage, name: &str) -> Result<PodLoad, Failure> {
    let cluster = &stage.cluster;
    let url = service_url(cluster, SHOP, "web").await?;
    let words = [&*url, "--clients", "8", "--pause", "100ms"];
    PodLoad::start_with(cluster, from_the_shop(stage), name, &words).await
}

/// What servers that went away ended is counted apart; by us, nothing was.
pub(super) async fn ended_by_servers_alone(
    stage: &Stage,
    point: &mut Point,
    law: &str,
    since: &Mark,
    outcome: Result<Outcome, Failure>,
) {
    let law = format!("{law}: kept connections end by their servers alone");
    let Some(outcome) = point.step(&law, outcome) else {
        return;
    };
    let ended = mesh::events(&stage.cluster, ZTUNNELS, "access", since).await;
    let Some(ended) = point.step(&law, ended) else { return };
    let of_the_shop = ended.iter().filter(|event| event.is("dst.namespace", SHOP));
    let by_us = of_the_shop.filter(|event| BY_US.iter().any(|how| event.is("outcome", how)));
    let by_us = by_us.count();
    let seen = format!(
        "{by_us} cut by us; {} closed between requests, {} while one was asked",
        outcome.report.closed(),
        outcome.report.failed()
    );
    let closed = outcome.report.closed();
    let pass = by_us == 0 && closed > 0 && outcome.report.failed() <= closed && outcome.report.is_whole();
    point.assert(&law, "0 cut by us", seen, pass);
}

/// Every ztunnel is replaced under two hundred new connections a second, and nobody notices.
pub(super) async fn ztunnels(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    let law = "a rollout of the ztunnels";
    stage.tell(law);
    let kept = start(stage, "load-ztunnels-kept").await;
    let Some(kept) = point.step(law, kept) else { return };
    let fresh = async {
        let url = service_url(cluster, SHOP, "web").await?;
        PodLoad::start_with(
            cluster,
            from_the_shop(stage),
            "load-ztunnels-new",
            &[&url, "--rate", RATE],
        )
        .await
    };
    let Some(fresh) = point.step(law, fresh.await) else {
        return;
    };
    sleep(AROUND).await;
    let rolled = roll_ztunnels(cluster).await;
    point.step(&format!("{law}: it happens"), rolled);
    sleep(AROUND).await;
    let pods = cluster.pods(MESH, ZTUNNELS.selector).await;
    let leaving = pods.map(|pods| pods.iter().filter(|pod| pod.ending && pod.running).count());
    let leaving_law = format!("{law}: the earlier ones serve what they have");
    if let Some(leaving) = point.step(&leaving_law, leaving) {
        point.assert(&leaving_law, "some run", format!("{leaving} run"), leaving > 0);
    }
    for (what, load) in [("200 new connections a second", fresh), ("kept connections", kept)] {
        let law = format!("{law}: {what}");
        if let Some(outcome) = point.step(&law, load.stop().await) {
            let report = &outcome.report;
            let pass = report.is_whole() && report.failed() == 0 && report.closed() == 0 && report.answered() > 1000;
            let seen = format!("{}, {} closed", outcome.phrase(), report.closed());
            point.assert(&law, "0 failed, 0 closed", seen, pass);
        }
    }
    point.step(
        &format!("{law}: every pod is captured"),
        mesh::captured(cluster, SHOP).await,
    );
}
