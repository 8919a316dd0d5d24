//! Point 7, too: what lies outside and is bound to a waypoint is reached through it or not at all.

use std::time::Duration;

use super::{Bench, Point};

const FILE: &str = "75-egress.yaml";
/// A virtual address, in front of a server that is not in the mesh.
const PARTNER: &str = "\
apiVersion: weft.dev/v1alpha1
kind: ExternalService
metadata: {name: partner, namespace: shop, labels: {weft.dev/use-waypoint: waypoint}}
spec:
  hosts: [partner.example]
  addresses: [240.0.0.7]
  resolution: Static
  ports: [{number: 80, targetPort: 8080}]
  endpoints: [{address: 10.77.2.41}]
";
const URL: &str = "http://240.0.0.7/";

/// While the waypoint lives.
pub(super) async fn through(bench: &Bench, point: &mut Point) {
    point.step("an ExternalService bound to the waypoint", bench.write(FILE, PARTNER));
    let mut log = bench.log("shop.waypoint");
    let answers = || async {
        let answer = bench.curl("shop/client-a", &[URL]).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let answered = bench.until(Duration::from_secs(10), answers).await;
    let law = "what is bound outside answers through its waypoint";
    point.assert(law, "200 within 10 s", answered, answered);
    let told = || {
        let events = log.events("access");
        std::future::ready(events.iter().any(|event| event.field("dst.service") == "shop/partner"))
    };
    let told = bench.until(Duration::from_secs(5), told).await;
    point.assert(&format!("{law}: its log names it"), "shop/partner", told, told);
}

/// While it does not.
pub(super) async fn nowhere(bench: &Bench, point: &mut Point) {
    let law = "what is bound outside is not reached around its waypoint";
    if let Some(answer) = point.step(law, bench.curl("shop/client-a", &[URL]).await) {
        let pass = answer.status == 503 || answer.refused();
        point.assert(law, "503, or no answer", answer.phrase(), pass);
    }
    point.step("the ExternalService is removed", bench.remove(FILE));
}
