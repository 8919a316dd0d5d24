//! Point 6: certificates rotate under load, the CA may die, and nobody gets what is not theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use super::{Bench, Point};
use crate::{load::Load, observe::Log};

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(180);
/// How long the CA is away meanwhile: less than what a leaf has left when it is due for renewal.
const AWAY: Duration = Duration::from_secs(12);
/// The mesh's proxies.
const PROXIES: [&str; 3] = ["ztunnel-node-1", "ztunnel-node-2", "stock.waypoint"];

/// Three minutes of load, with the CA killed in the middle, and a foreign node's question.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    let mut logs: Vec<Log> = PROXIES.iter().map(|proxy| bench.log(proxy)).collect();
    let world = &bench.world;
    let loads = [
        (
            "kept connections, pod to pod",
            "load-rotation-kept",
            ["http://catalog/", "--clients", "2", "--pause", "20ms"],
        ),
        (
            "new connections, pod to pod",
            "load-rotation-direct",
            ["http://catalog/", "--mode", "new", "--pause", "50ms"],
        ),
        (
            "new connections by a waypoint",
            "load-rotation-new",
            ["http://parts.stock/", "--mode", "new", "--pause", "50ms"],
        ),
    ];
    let mut running = Vec::new();
    for (law, name, words) in loads {
        if let Some(load) = point.step(law, Load::start(world, "shop/client-b", name, &words).await) {
            running.push((law, load));
        }
    }
    let end = tokio::time::Instant::now() + LOAD;
    foreign_node(bench, point).await;
    tokio::time::sleep(Duration::from_secs(45)).await;
    kill_the_ca(bench, point).await;
    let mut tunnels = Vec::new();
    while tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_secs(5)).await;
        for log in &mut logs {
            tunnels.extend(log.events("tunnel"));
        }
    }
    for (law, load) in running {
        let report = load.stop().await;
        let law = format!("{law}: {} s of load while leaves rotate", LOAD.as_secs());
        let pass = report.failed() == 0 && report.answered() > 1000;
        point.assert(&law, "0 failed", report.summary(), pass);
    }
    serials(point, &tunnels);
    expired(bench, point);
}

/// Which serials of each identity its peers saw in new tunnels.
fn serials(point: &mut Point, tunnels: &[crate::observe::Event]) {
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for tunnel in tunnels.iter().filter(|tunnel| tunnel.is("direction", "inbound")) {
        seen.entry(tunnel.field("peer"))
            .or_default()
            .insert(tunnel.field("peer_serial"));
    }
    for (whose, identity) in [
        ("node 1's ztunnel", "spiffe://cluster.local/ns/shop/sa/client"),
        ("a waypoint", "spiffe://cluster.local/ns/stock/sa/waypoint"),
    ] {
        let count = seen.get(identity).map_or(0, BTreeSet::len);
        point.assert(
            &format!("{whose} made new tunnels with fresh leaves, as its peers' logs show"),
            "at least 3 serials",
            format!("{count} serials"),
            count >= 3,
        );
    }
    let mut served = BTreeSet::new();
    for tunnel in tunnels.iter().filter(|tunnel| tunnel.is("direction", "outbound")) {
        if tunnel.is("peer", "spiffe://cluster.local/ns/catalog/sa/catalog")
            || tunnel.field("peer").ends_with("/sa/catalog")
        {
            served.insert(tunnel.field("peer_serial"));
        }
    }
    let seen = format!("{} serials", served.len());
    let law = "node 2's ztunnel served new tunnels with fresh leaves, as its peers' logs show";
    point.assert(law, "at least 3 serials", seen, served.len() >= 3);
}

fn expired(bench: &Bench, point: &mut Point) {
    let found = ["ztunnel-node-1", "ztunnel-node-2", "shop.waypoint", "stock.waypoint"]
        .iter()
        .flat_map(|proxy| Log::new(bench.world.run_directory().log(proxy)).lines())
        .find(|line| line.to_lowercase().contains("expired"));
    let seen = found.as_deref().unwrap_or("none");
    point.assert("no handshake used an expired leaf", "none", seen, found.is_none());
}

async fn kill_the_ca(bench: &Bench, point: &mut Point) {
    bench.tell("the CA is killed, and comes back");
    let root = || fs::read_to_string(bench.world.run_directory().join("ca/root.pem")).unwrap_or_default();
    let before = root();
    if point.step("the CA is killed", bench.world.kill("ca").await).is_none() {
        return;
    }
    tokio::time::sleep(AWAY).await;
    point.step("the CA is started again", bench.world.restart("ca").await);
    let socket = bench.world.run_directory().socket("ca");
    let ready = || async { crate::observe::admin(&socket, "/healthz/ready").await.is_ok() };
    let back = bench.until(Duration::from_secs(10), ready).await;
    point.assert(
        "the CA comes back",
        "ready",
        if back { "ready" } else { "not ready" },
        back,
    );
    let same = !before.is_empty() && before == root();
    point.assert(
        "with the same root",
        "same",
        if same { "same" } else { "another" },
        same,
    );
}

/// A token of node 2 for an identity of node 1, and that node's own for comparison.
async fn foreign_node(bench: &Bench, point: &mut Point) {
    const WANTED: &str = "spiffe://cluster.local/ns/shop/sa/client";
    let objects = bench.world.objects().await;
    let mut audit = bench.log("ca");
    for (node, wanted) in [("node-1", true), ("node-2", false)] {
        let pod = objects.pods.get(&format!("weft-system/ztunnel-{node}"));
        let token = pod.map(|pod| bench.world.api().pod_token(pod));
        let Some(Some(token)) = point.step("a node's token", token.transpose()) else {
            continue;
        };
        let law = format!("{node}'s token asks for an identity of a pod on node-1");
        let Some(finished) = point.step(
            &law,
            bench.sign(node, &token, WANTED, &format!("asked-by-{node}")).await,
        ) else {
            continue;
        };
        let expected = if wanted { "signed" } else { "refused" };
        let seen = if finished.success() {
            "signed"
        } else {
            finished.stderr.trim()
        };
        let pass = finished.success() == wanted && (wanted || finished.stderr.contains("refuses"));
        point.assert(&law, expected, seen, pass);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let events = audit.events("audit");
    let told = events
        .iter()
        .find(|event| format!("{event:?}").contains("node-2") && format!("{event:?}").contains(WANTED));
    let seen = told.map_or_else(|| "no audit line".to_owned(), |event| event.field("reason"));
    point.assert("the refusal is audited", "an audit line", seen, told.is_some());
}
