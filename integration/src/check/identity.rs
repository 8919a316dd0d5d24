//! Point 2: a server knows who calls, by identity and by address.

use std::time::Duration;

use super::{Bench, Point};

/// Two clients of one service account on one node: one identity, each its own address.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    for (pod, address) in [("client-a", "10.77.1.11"), ("client-b", "10.77.1.12")] {
        let mut access = bench.log("ztunnel-node-2");
        let mut nginx = bench.log("shop.catalog");
        let url = format!("http://catalog/?say=from-{pod}");
        let Some(answer) = point.step(
            "a client is answered",
            bench.curl(&format!("shop/{pod}"), &[&*url]).await,
        ) else {
            continue;
        };
        point.assert(
            &format!("{pod} is answered"),
            "200",
            answer.phrase(),
            answer.status == 200,
        );
        let mut events = Vec::new();
        let logged = |events: &[crate::observe::Event]| {
            events
                .iter()
                .any(|it| it.is("reporter", "destination") && it.field("src.addr").starts_with(&format!("{address}:")))
        };
        for _ in 0..60 {
            events.extend(access.events("access"));
            if logged(&events) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let event = events
            .iter()
            .find(|it| it.is("reporter", "destination") && it.field("src.addr").starts_with(&format!("{address}:")));
        let identity = event.map(|it| it.field("src.identity")).unwrap_or_default();
        point.equal(
            &format!("the server's access log names {pod}'s identity, at its own address"),
            "spiffe://cluster.local/ns/shop/sa/client",
            &*identity,
        );
        let lines = nginx.lines();
        let line = lines
            .iter()
            .find(|line| line.contains(&format!("from-{pod}")))
            .cloned()
            .unwrap_or_default();
        point.assert(
            &format!("nginx's own log shows {pod}'s own address"),
            address,
            &line,
            line.starts_with(address),
        );
    }
}
