//! Point 0: the world itself is what it says it is. Without a mesh, for what the mesh changes must be told from
//! what the world does.

use super::{Bench, Point};
use crate::observe::Capture;

const MARKER: &str = "marker-of-the-world";

/// What is reached: law, from where, what, and a word of the answer.
const REACHED: [(&str, &str, &str, &str); 6] = [
    (
        "a pod reaches a Service on the other node",
        "shop/client-a",
        "http://catalog/?say=marker-of-the-world",
        "catalog",
    ),
    (
        "a pod reaches a Service on its own node",
        "shop/client-a",
        "http://web-v2/",
        "web v2",
    ),
    (
        "a pod reaches a pod on its own node",
        "shop/client-a",
        "http://10.77.1.21:8080/",
        "web v2",
    ),
    (
        "a pod reaches itself by its Service",
        "shop/catalog",
        "http://catalog/",
        "catalog",
    ),
    ("a node reaches a Service", "node-1", "http://10.78.0.2/", "catalog"),
    (
        "a pod of another namespace knows the long name",
        "plain/outsider",
        "http://catalog.shop.svc.cluster.local/",
        "catalog",
    ),
];

/// Asserts that pods reach each other and Services on and across nodes, see each other's own addresses, have no
/// way out, and that the capture sees plaintext for what it is.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    let Some(capture) = point.step(
        "the link is captured",
        Capture::start(&bench.world, "world.pcap", &[MARKER]).await,
    ) else {
        return;
    };
    for (law, pod, url, wanted) in REACHED {
        if let Some(answer) = point.step(law, bench.curl(pod, &["--max-time", "3", url]).await) {
            point.holds(law, wanted, &answer.text);
        }
    }
    let log = std::fs::read_to_string(bench.world.run_directory().log("shop.catalog")).unwrap_or_default();
    point.holds("a server sees a pod's own address", "10.77.1.11 \"GET", &log);
    for (law, url) in [
        ("a pod has no way out", "http://192.0.2.1/"),
        ("a Service of nobody refuses", "http://10.78.99.99/"),
    ] {
        if let Some(answer) = point.step(law, bench.curl("shop/client-a", &["--max-time", "2", url]).await) {
            point.assert(law, "no answer", answer.phrase(), answer.refused());
        }
    }
    let saw = || async {
        capture
            .seen()
            .markers
            .get(MARKER)
            .is_some_and(|ports| ports.contains_key(&8080))
    };
    let saw = bench.until(std::time::Duration::from_secs(5), saw).await;
    let seen = format!("{:?}", capture.seen().ports.keys());
    point.assert(
        "the capture sees the marker in plaintext",
        "marker on port 8080",
        seen,
        saw,
    );
}
