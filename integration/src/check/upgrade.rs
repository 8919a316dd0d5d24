//! Point 11: ztunnels are replaced, killed and taken back under load; without one, nothing is carried and nothing
//! leaks.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use act::process::Failure;
use tokio::time::sleep;

use super::{Bench, Point};
use crate::{
    load::{Load, Report, unix_milliseconds},
    observe::{Capture, admin},
    world::Process,
};

/// Both nodes' ztunnels: the clients' and the server's.
const PROXIES: [&str; 2] = ["ztunnel-node-1", "ztunnel-node-2"];
/// How long load goes on before and after each disturbance.
const AROUND: Duration = Duration::from_secs(3);
/// How long a process may take to be ready, to take over, or to end when nothing is left in it.
const SOON: Duration = Duration::from_secs(30);
const URL: &str = "http://catalog/";

/// Load that must not notice anything.
struct Loads {
    fresh: Load,
    kept: Load,
}

impl Loads {
    /// Two hundred new connections a second, and eight connections that are kept throughout.
    async fn start(bench: &Bench, name: &str) -> Result<Self, Failure> {
        let (world, pod) = (&bench.world, "shop/client-b");
        let kept = [URL, "--clients", "8", "--pause", "50ms"];
        Ok(Self {
            fresh: Load::start(world, pod, &format!("{name}-new"), &[URL, "--rate", "200"]).await?,
            kept: Load::start(world, pod, &format!("{name}-kept"), &kept).await?,
        })
    }

    async fn end(self, point: &mut Point, law: &str) {
        flawless(
            point,
            &format!("{law}: 200 new connections a second"),
            &self.fresh.stop().await,
        );
        let kept = self.kept.stop().await;
        flawless(point, &format!("{law}: kept connections"), &kept);
        let law = format!("{law}: no kept connection is closed");
        point.assert(
            &law,
            "0 closed",
            format!("{} closed", kept.closed()),
            kept.closed() == 0,
        );
    }
}

/// Every order of coming and going, each under load of its own.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    replaced(bench, point).await;
    taken_back(bench, point).await;
    bereaved(bench, point).await;
    agents(bench, point).await;
    killed(bench, point).await;
}

fn flawless(point: &mut Point, law: &str, report: &Report) {
    let pass = report.failed() == 0 && report.answered() > 200;
    point.assert(law, "0 failed", report.summary(), pass);
}

/// One ztunnel after the other is replaced by another process.
async fn replaced(bench: &Bench, point: &mut Point) {
    let law = "each ztunnel is replaced";
    let Some(loads) = point.step(law, Loads::start(bench, "load-upgrade").await) else {
        return;
    };
    sleep(AROUND).await;
    let mut earlier = Vec::new();
    for name in PROXIES {
        bench.tell(&format!("{name}: another takes over"));
        if let Some((process, _)) = point.step(law, successor(bench, name).await) {
            process.terminate();
            sleep(AROUND).await;
            earlier.push((name, process));
        }
    }
    for (name, process) in &mut earlier {
        let runs = process.ended().is_none();
        let law = format!("{name}: the earlier one goes on with the connections it has");
        point.assert(&law, "it runs", if runs { "it runs" } else { "it ended" }, runs);
    }
    loads.end(point, law).await;
    for (name, mut process) in earlier {
        let gone = ends(&mut process).await;
        let law = format!("{name}: the earlier one ends with its last connection");
        point.assert(&law, "it ends", if gone { "it ended" } else { "it runs" }, gone);
    }
}

/// A second one comes, takes over, and is asked to stop again: as a rollout that is taken back.
async fn taken_back(bench: &Bench, point: &mut Point) {
    let law = "a ztunnel that took over is asked to stop: the earlier one goes on";
    let Some(loads) = point.step(law, Loads::start(bench, "load-back").await) else {
        return;
    };
    sleep(AROUND).await;
    for name in PROXIES {
        bench.tell(&format!("{name}: another takes over, and is asked to stop"));
        if let Some(mut newer) = point.step(law, usurper(bench, name).await) {
            newer.terminate();
            let gone = ends(&mut newer).await;
            let law = format!("{law}: the new {name} ends");
            point.assert(&law, "it ends", if gone { "it ended" } else { "it runs" }, gone);
            sleep(AROUND).await;
        }
    }
    loads.end(point, law).await;
}

/// A second one comes, takes over, and is killed: what it carried dies with it, nothing else does.
async fn bereaved(bench: &Bench, point: &mut Point) {
    let law = "a ztunnel that took over is killed: the earlier one goes on";
    let Some(loads) = point.step(law, Loads::start(bench, "load-bereaved").await) else {
        return;
    };
    sleep(AROUND).await;
    for name in PROXIES {
        bench.tell(&format!("{name}: another takes over, and is killed"));
        if let Some(mut newer) = point.step(law, usurper(bench, name).await) {
            newer.kill().await;
            sleep(AROUND).await;
        }
    }
    let since = unix_milliseconds();
    sleep(AROUND).await;
    let fresh = loads.fresh.stop().await;
    flawless(
        point,
        &format!("{law}: new connections afterwards"),
        &fresh.since(since),
    );
    // only what was under way in those two moments: less than half a second of load
    let lost = format!("{law}: new connections in all");
    point.assert(&lost, "at most 100 failed", fresh.summary(), fresh.failed() <= 100);
    flawless(
        point,
        &format!("{law}: connections of before"),
        &loads.kept.stop().await,
    );
}

async fn agents(bench: &Bench, point: &mut Point) {
    let law = "each node agent is killed and comes back";
    let Some(loads) = point.step(law, Loads::start(bench, "load-agents").await) else {
        return;
    };
    sleep(AROUND).await;
    for name in ["weft-cni-node-1", "weft-cni-node-2"] {
        bench.tell(&format!("{name} is killed, and comes back"));
        point.step(law, bench.world.restart(name).await);
        sleep(AROUND).await;
    }
    loads.end(point, law).await;
}

/// With a ztunnel away its pods reach nobody and are reached by nobody, in the clear least of all.
async fn killed(bench: &Bench, point: &mut Point) {
    let capture = Capture::start(&bench.world, "killed.pcap", &[]).await;
    let Some(capture) = point.step("the link is captured", capture) else {
        return;
    };
    for name in PROXIES {
        bench.tell(&format!("{name} is killed"));
        let law = format!("{name} is killed");
        point.step(&law, bench.world.kill(name).await);
        let marker = format!("leak-{}", fastrand::u64(..));
        capture.look_for(&marker);
        let mut answered = 0;
        for _ in 0..10 {
            let url = format!("{URL}?say={marker}");
            let words = ["-s", "--max-time", "1", "-o", "/dev/null", "-w", "%{http_code}", &url];
            let asked = bench.run("shop/client-b", &[&["curl"], &words[..]].concat()).await;
            let told = point.step(&law, asked).map(|finished| finished.stdout);
            answered += usize::from(told.is_none_or(|told| told.trim() == "200"));
        }
        let law = format!("{law}: its pods are closed, not open");
        point.assert(&law, "0 answered", format!("{answered} answered"), answered == 0);
        let seen = capture.saw(&marker).await;
        let law = format!("{law}, and nothing crosses the link in the clear");
        point.assert(&law, "nothing", if seen { "the request" } else { "nothing" }, !seen);
        let law = format!("{name} is started again: it opens listeners of its own");
        point.step(&law, bench.world.restart(name).await);
        let answers = || async {
            bench
                .curl("shop/client-b", &[URL])
                .await
                .is_ok_and(|it| it.status == 200)
        };
        let back = bench.until(SOON, answers).await;
        point.assert(&law, "200", if back { "200" } else { "no answer" }, back);
    }
}

/// A successor that took over, while the earlier one is the world's again.
async fn usurper(bench: &Bench, name: &str) -> Result<Process, Failure> {
    let (earlier, _) = successor(bench, name).await?;
    bench.world.put_back(name, earlier).await
}

async fn successor(bench: &Bench, name: &str) -> Result<(Process, PathBuf), Failure> {
    let (earlier, socket) = bench.world.succeed(name).await?;
    if bench.until(SOON, || ready(&socket)).await {
        Ok((earlier, socket))
    } else {
        Err(Failure(format!("the new {name} is not ready within {SOON:?}")))
    }
}

async fn ready(socket: &Path) -> bool {
    admin(socket, "/healthz/ready").await.is_ok()
}

async fn ends(process: &mut Process) -> bool {
    let until = tokio::time::Instant::now() + SOON;
    while process.ended().is_none() && tokio::time::Instant::now() < until {
        sleep(Duration::from_millis(100)).await;
    }
    process.ended().is_some()
}
