//! Point 7: nothing gets around a waypoint, dead or alive, and it serves nobody else.

use std::time::Duration;

use super::{Bench, Point, egress};
use crate::observe::Log;

const WAYPOINT: &str = "10.77.2.30:15008";
const OTHER_WAYPOINT: &str = "10.77.1.50:15008";

/// Asks the living waypoint for what is not its, kills it, tries every way around it, and has it back.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    unbound(bench, point).await;
    egress::through(bench, point).await;
    bench.tell("the waypoint is killed, and every way around it tried");
    let mut servers = [bench.log("shop.web-v1"), bench.log("shop.web-v2")];
    if point
        .step("the waypoint is killed", bench.world.kill("shop.waypoint").await)
        .is_none()
    {
        return;
    }
    captured(bench, point).await;
    outside(bench, point).await;
    egress::nowhere(bench, point).await;
    tunnels(bench, point).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let reached: Vec<_> = servers
        .iter_mut()
        .flat_map(Log::lines)
        .filter(|line| line.contains("get-around"))
        .collect();
    let seen = reached.first().cloned().unwrap_or_else(|| "0 requests".into());
    point.assert(
        "not one request reached the server around it",
        "0 requests",
        seen,
        reached.is_empty(),
    );
    let law = "a port that no L7 rule touches stays reachable";
    if let Some(answer) = point.step(law, bench.curl("shop/client-a", &["http://10.77.2.21:9090/"]).await) {
        point.assert(law, "200 metrics of v1", answer.phrase(), answer.status == 200);
    }
    point.step(
        "the waypoint is started again",
        bench.world.restart("shop.waypoint").await,
    );
    let answers = || async {
        let answer = bench.curl("shop/client-a", &["http://web/"]).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let back = bench.until(Duration::from_secs(15), answers).await;
    point.assert(
        "it recovers by itself",
        "200",
        if back { "200" } else { "not within 15 s" },
        back,
    );
}

async fn captured(bench: &Bench, point: &mut Point) {
    for (how, url) in [
        ("by name", "http://web/get-around"),
        ("by Service address", "http://10.78.0.1/get-around"),
        ("by pod address", "http://10.77.2.21:8080/get-around"),
    ] {
        let mut log = bench.log("ztunnel-node-1");
        let law = format!("from a captured pod, {how}");
        let Some(answer) = point.step(&law, bench.curl("shop/client-a", &[url]).await) else {
            continue;
        };
        let refused = answer.status == 503 || answer.refused();
        point.assert(&law, "503, or no answer", answer.phrase(), refused);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let events = log.events("access");
        let event = events.iter().find(|event| !event.field("refusal").is_empty());
        let seen = event.map_or_else(
            || "no refusal logged".to_owned(),
            |event| format!("{}: {}", event.field("refusal"), event.field("reason")),
        );
        point.assert(
            &format!("{law}: the log says why"),
            "a refusal and its reason",
            seen,
            event.is_some(),
        );
    }
}

async fn outside(bench: &Bench, point: &mut Point) {
    for (law, place, url) in [
        (
            "from an uncaptured pod, by name",
            "plain/outsider",
            "http://web.shop/get-around",
        ),
        (
            "from an uncaptured pod, by pod address",
            "plain/outsider",
            "http://10.77.2.21:8080/get-around",
        ),
        (
            "from the server's own node",
            "node-2",
            "http://10.77.2.21:8080/get-around",
        ),
        ("from the other node", "node-1", "http://10.77.2.21:8080/get-around"),
    ] {
        if let Some(answer) = point.step(law, bench.curl(place, &[url]).await) {
            let pass = answer.status != 200 && !answer.text.contains("web v");
            point.assert(law, "no answer", answer.phrase(), pass);
        }
    }
}

/// With a valid identity of another workload.
async fn tunnels(bench: &Bench, point: &mut Point) {
    for (law, to, authority) in [
        ("by HBONE straight to the pod", "10.77.2.21:15008", "10.77.2.21:8080"),
        (
            "through another waypoint, by Service address",
            OTHER_WAYPOINT,
            "10.78.0.1:80",
        ),
        (
            "through another waypoint, by pod address",
            OTHER_WAYPOINT,
            "10.77.2.21:8080",
        ),
    ] {
        refused(bench, point, law, to, authority).await;
    }
}

async fn unbound(bench: &Bench, point: &mut Point) {
    for (law, authority) in [
        ("the waypoint is asked for another Service", "10.78.0.2:80"),
        (
            "the waypoint is asked for a Service of another namespace",
            "10.78.2.1:80",
        ),
        ("the waypoint is asked for a pod that is not its", "10.77.2.22:8080"),
        ("the waypoint is asked for loopback", "127.0.0.1:15000"),
        ("the waypoint is asked for itself", WAYPOINT),
    ] {
        refused(bench, point, law, WAYPOINT, authority).await;
    }
}

async fn refused(bench: &Bench, point: &mut Point, law: &str, to: &str, authority: &str) {
    if let Some(told) = point.step(law, bench.tunnel("plain/outsider", to, authority).await) {
        let seen = match &told.failed {
            Some(why) => why.clone(),
            None => format!("{} {} {}", told.status, told.refusal, told.reason),
        };
        point.assert(
            law,
            "refused with a reason",
            seen,
            told.status >= 400 && !told.reason.is_empty(),
        );
    }
}
