//! Point 1: nothing but TLS crosses the link, and the capture would tell if it did.

use super::{Bench, Point};
use crate::observe::Capture;

/// The CA's port and HBONE's: all that may cross.
const ALLOWED: [u16; 2] = [15008, 15012];

/// Sends a marker both ways, directly and by the waypoint, under a capture that saw every tunnel from its beginning.
pub(super) async fn check(bench: &Bench, capture: &Capture, point: &mut Point) {
    const MARKER: &str = "marker-inside-the-mesh";
    capture.look_for(MARKER);
    let say = format!("http://catalog/?say={MARKER}");
    let header = format!("x-say: {MARKER}");
    for (law, words) in [
        (
            "a marker is asked for and answered, pod to pod",
            [&*say, "-H", &*header],
        ),
        (
            "a marker is sent by way of the waypoint",
            ["http://web/marker-inside-the-mesh", "-H", &*header],
        ),
    ] {
        if let Some(answer) = point.step(law, bench.curl("shop/client-a", &words).await) {
            point.assert(law, "200", answer.phrase(), answer.status == 200);
        }
    }
    let saw = capture.saw(MARKER).await;
    point.assert("the marker is never seen on the link", "not seen", word(saw), !saw);
    let seen = capture.seen();
    let ports: Vec<_> = seen
        .ports
        .iter()
        .filter(|(_, port)| port.payload > 0)
        .map(|(number, _)| *number)
        .collect();
    let pass = ports.iter().all(|port| ALLOWED.contains(port)) && ports.contains(&15008);
    point.assert(
        "only HBONE and the CA's port cross the link",
        "15008 and 15012",
        format!("{ports:?}"),
        pass,
    );
    for (number, port) in &seen.ports {
        let seen = format!(
            "{} connections, {} bytes, {} streams not TLS, {} not judged",
            port.connections, port.payload, port.not_tls, port.unjudged
        );
        let pass = port.not_tls == 0 && port.unjudged == 0;
        point.assert(
            &format!("what crosses on {number} is TLS records, all of it"),
            "0 and 0",
            seen,
            pass,
        );
    }
    // 58 is ICMPv6; 0 the hop-by-hop header before its multicast reports.
    let others: Vec<_> = seen
        .others
        .iter()
        .filter(|protocol| !matches!(**protocol, 0 | 58))
        .collect();
    let pass = others.is_empty() && seen.broken.is_none();
    let told = format!("protocols {others:?} {}", seen.broken.unwrap_or_default());
    point.assert("nothing else crosses (neighbour discovery aside)", "none", told, pass);
}

/// The same capture, once the namespace left the mesh.
pub(super) async fn check_released(bench: &Bench, capture: &Capture, point: &mut Point) {
    let law = "with the label removed, the same capture holds the marker";
    let clear = bench.crosses_in_clear(capture, "shop/client-a").await;
    if let Some(clear) = point.step(law, clear) {
        point.assert(law, "seen", word(clear), clear);
    }
}

fn word(saw: bool) -> &'static str {
    if saw { "seen" } else { "not seen" }
}
