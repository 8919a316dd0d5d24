//! Point 5: a namespace leaves the mesh and comes back under load, and nothing is restarted.

use std::time::Duration;

use super::{Bench, Point};
use crate::{
    load::{Load, Report, unix_milliseconds},
    observe::Capture,
};

/// `catalog` takes mutual TLS only.
const STRICT: &str = "apiVersion: weft.dev/v1alpha1
kind: PeerAuthentication
metadata: {name: catalog-strict, namespace: shop}
spec:
  selector: {matchLabels: {app: catalog}}
  mtls: {mode: STRICT}
";

/// How long each state lasts under load.
const WHILE: Duration = Duration::from_secs(3);

/// The clients of one turn.
struct Clients {
    kept: Load,
    new: Load,
    download: Load,
}

/// Out and in again, first PERMISSIVE, then STRICT.
pub(super) async fn check(bench: &Bench, capture: &Capture, point: &mut Point, wire: &mut Point) {
    let before = bench.world.pid("shop.catalog").await.ok();
    turn(bench, capture, point, Some(wire)).await;
    if point
        .step("catalog takes mutual TLS only", bench.write("92-strict.yaml", STRICT))
        .is_none()
    {
        return;
    }
    let law = "STRICT refuses plain traffic";
    let refused = bench
        .until(Duration::from_secs(5), || async {
            let answer = bench.curl("plain/outsider", &["http://catalog.shop/"]).await;
            answer.is_ok_and(|answer| answer.refused())
        })
        .await;
    point.assert(
        law,
        "no answer",
        if refused { "no answer" } else { "answered" },
        refused,
    );
    turn(bench, capture, point, None).await;
    point.step("catalog takes both again", bench.remove("92-strict.yaml"));
    let law = "PERMISSIVE takes plain traffic";
    let answered = bench
        .until(Duration::from_secs(5), || async {
            let answer = bench.curl("plain/outsider", &["http://catalog.shop/"]).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    point.assert(law, "200", if answered { "200" } else { "no answer" }, answered);
    let after = bench.world.pid("shop.catalog").await.ok();
    let same = before.is_some() && before == after;
    point.assert(
        "the workload was never restarted",
        format!("{before:?}"),
        format!("{after:?}"),
        same,
    );
}

/// `wire`: PERMISSIVE, and where to tell what the capture sees meanwhile. `None`: STRICT.
async fn turn(bench: &Bench, capture: &Capture, point: &mut Point, wire: Option<&mut Point>) {
    let strict = wire.is_none();
    let mode = if strict { "STRICT" } else { "PERMISSIVE" };
    bench.tell(&format!(
        "the namespace leaves the mesh and comes back under load ({mode})"
    ));
    let Some(released) = point.step("clients are under load", Clients::start(bench, "release").await) else {
        return;
    };
    tokio::time::sleep(WHILE).await;
    point.step(
        &format!("the namespace leaves the mesh ({mode})"),
        bench.enrol(capture, false).await,
    );
    if let Some(wire) = wire {
        super::wire::check_released(bench, capture, wire).await;
    }
    tokio::time::sleep(WHILE).await;
    let [kept, new, download] = released.stop().await;
    for (who, report) in [
        ("a keep-alive client", kept),
        ("a client of new connections", new),
        ("an open download", download),
    ] {
        let lives = report.answered() + report.downloaded() > 0;
        let pass = report.failed() == 0 && report.closed() == 0 && lives;
        let seen = format!("{}, {} bytes", report.summary(), report.downloaded());
        point.assert(
            &format!("{mode}: on release, {who} loses nothing"),
            "0 failed",
            seen,
            pass,
        );
    }
    return_under_load(bench, capture, point, strict).await;
}

async fn return_under_load(bench: &Bench, capture: &Capture, point: &mut Point, strict: bool) {
    let mode = if strict { "STRICT" } else { "PERMISSIVE" };
    let Some(captured) = point.step("clients are under load", Clients::start(bench, "capture").await) else {
        return;
    };
    tokio::time::sleep(WHILE).await;
    let mut logs =
        ["weft-cni-node-1", "weft-cni-node-2", "ztunnel-node-1", "ztunnel-node-2"].map(|name| bench.log(name));
    point.step(
        &format!("the namespace is in the mesh again ({mode})"),
        bench.enrol(capture, true).await,
    );
    let settled = unix_milliseconds() + 1_000;
    tokio::time::sleep(WHILE).await;
    let [kept, new, download] = captured.stop().await;
    if strict {
        let cut = |report: &Report| report.failed() + report.closed() > 0;
        let law = "STRICT: on capture, the old connection is cut";
        point.assert(law, "cut", kept.summary(), cut(&kept));
        let law = "STRICT: on capture, the open download is cut";
        point.assert(law, "cut", download.summary(), cut(&download));
    } else {
        let told = logs.iter_mut().flat_map(crate::observe::Log::lines).find(|line| {
            let line = line.to_lowercase();
            line.contains("older") || line.contains("before capture") || line.contains("uncaptured connection")
        });
        let seen = told.as_deref().unwrap_or("not reported");
        let law = "PERMISSIVE: on capture, older connections are reported";
        point.assert(law, "a log line", seen, told.is_some());
        let pass = kept.failed() == 0 && download.failed() == 0 && kept.answered() > 0;
        let seen = format!("{}; download: {}", kept.summary(), download.summary());
        point.assert(
            "PERMISSIVE: on capture, older connections live on",
            "0 failed",
            seen,
            pass,
        );
    }
    // STRICT refuses plaintext, also that of a client whose own node captures it a moment later.
    let (when, lost) = if strict {
        ("once the client is captured", new.since(settled).failed())
    } else {
        ("at any time", new.failed())
    };
    let law = format!("{mode}: on capture, new connections lose nothing {when}");
    point.assert(&law, "0 failed", new.summary(), lost == 0 && new.answered() > 0);
}

impl Clients {
    async fn start(bench: &Bench, what: &str) -> Result<Self, act::process::Failure> {
        let world = &bench.world;
        let start = |name: &str, words: &'static [&'static str]| {
            let name = format!("load-{what}-{name}");
            async move { Load::start(world, "shop/client-a", &name, words).await }
        };
        Ok(Self {
            kept: start("kept", &["http://catalog/", "--clients", "2"]).await?,
            new: start("new", &["http://catalog/", "--mode", "new", "--clients", "2"]).await?,
            download: start("download", &["http://catalog/big", "--mode", "download"]).await?,
        })
    }

    async fn stop(self) -> [Report; 3] {
        [
            self.kept.stop().await,
            self.new.stop().await,
            self.download.stop().await,
        ]
    }
}
