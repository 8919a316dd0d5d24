//! Point 3: a route divides requests as it says, and changes at once without a failed request.

use std::time::Duration;

use super::{Bench, Point};
use crate::load::{Load, unix_milliseconds};

/// The file with the route.
const FILE: &str = "30-routes.yaml";

/// 1,000 requests at 90/10, then a change to 50/50 under load.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    let law = "a 90/10 route over 1,000 requests";
    let thousand = bench
        .run("shop/client-b", &["curl", "-s", "-S", "http://web/[1-1000]"])
        .await;
    if let Some(finished) = point.step(law, thousand) {
        let first = finished.stdout.lines().filter(|line| *line == "web v1").count();
        let all = finished.stdout.lines().count();
        let seen = format!(
            "{first} of {all} to v1 {}",
            finished.stderr.lines().next().unwrap_or("")
        );
        point.assert(
            law,
            "870 to 930 of 1000 to v1",
            seen,
            (870..=930).contains(&first) && all == 1000,
        );
    }
    change_under_load(bench, point).await;
}

async fn change_under_load(bench: &Bench, point: &mut Point) {
    let world = &bench.world;
    let quick = ["http://web/", "--clients", "4", "--pause", "4ms"];
    // Each of these answers takes about two seconds, so that some are in flight when the route changes.
    let slow = ["http://web/slow", "--clients", "4", "--pause", "0ms"];
    let quick = Load::start(world, "shop/client-a", "load-quick", &quick).await;
    let slow = Load::start(world, "shop/client-b", "load-slow", &slow).await;
    let (Some(quick), Some(slow)) = (
        point.step("kept connections are under load", quick),
        point.step("slow answers are in flight", slow),
    ) else {
        return;
    };
    tokio::time::sleep(Duration::from_secs(3)).await;
    let edited = bench.edit(FILE, &[("weight: 90", "weight: 50"), ("weight: 10", "weight: 50")]);
    let at = unix_milliseconds();
    point.step("the route is changed to 50/50", edited);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let quick = quick.stop().await;
    let slow = slow.finish(Duration::from_secs(1)).await;
    let share = |report: &crate::load::Report| {
        let all = report.answered().max(1);
        report.answers("web v1") * 1000 / all
    };
    let before = quick.until(at);
    point.assert(
        "before the change, on kept connections",
        "87.0 to 93.0 % to v1",
        format!("{} ‰ of {}", share(&before), before.answered()),
        (860..=940).contains(&share(&before)) && before.answered() > 500,
    );
    let after = quick.since(at + 1000);
    point.assert(
        "from one second after the change on",
        "45.0 to 55.0 % to v1",
        format!("{} ‰ of {}", share(&after), after.answered()),
        (450..=550).contains(&share(&after)) && after.answered() > 500,
    );
    for (law, report) in [
        ("no request on kept connections failed", quick),
        ("no answer in flight failed", slow),
    ] {
        let pass = report.failed() == 0 && report.closed() == 0 && report.answered() > 0;
        point.assert(law, "0 failed", report.summary(), pass);
    }
    let back = bench.edit(
        FILE,
        &[
            ("web-v1, port: 80, weight: 50", "web-v1, port: 80, weight: 90"),
            ("web-v2, port: 80, weight: 50", "web-v2, port: 80, weight: 10"),
        ],
    );
    point.step("the route is changed back", back);
}
