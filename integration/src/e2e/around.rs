//! Point 2: with a valid identity of another workload, nothing gets around a waypoint, and it serves nobody else.

use act::process::Failure;

use super::{
    cluster::text,
    first_request::CLIENT,
    manifests::SHOP,
    stage::{MESH, Stage},
    tools::{self, AUDIENCE, token, ztunnel},
};
use crate::check::Point;

/// Where tunnels end, and what they may be asked for.
struct Places {
    waypoint: String,
    server: String,
    far: String,
    far_service: String,
}

/// Asks a server and its waypoint for tunnels they must not give.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("tunnels around a waypoint, and to it for what is not its");
    let Some(places) = point.step("a client's identity outside the mesh", lay(stage).await) else {
        return;
    };
    let Places {
        waypoint,
        server,
        far,
        far_service,
    } = &places;
    let hbone = |address: &str| format!("{address}:15008");
    // A control: who asks is believed, and a server without a waypoint answers it.
    let law = "HBONE straight to a pod without a waypoint is served";
    if let Some(told) = point.step(law, tools::tunnel(cluster, &hbone(far), &format!("{far}:8080")).await) {
        point.assert(
            law,
            "200",
            format!("{} {}", told.status, told.answer),
            told.status == 200,
        );
    }
    for (law, to, authority) in [
        (
            "HBONE straight to a pod behind a waypoint",
            server,
            format!("{server}:8080"),
        ),
        (
            "the waypoint is asked for another Service",
            waypoint,
            format!("{far_service}:80"),
        ),
        (
            "the waypoint is asked for a pod that is not its",
            waypoint,
            format!("{far}:8080"),
        ),
        (
            "the waypoint is asked for loopback",
            waypoint,
            "127.0.0.1:15000".to_owned(),
        ),
        ("the waypoint is asked for itself", waypoint, hbone(waypoint)),
    ] {
        if let Some(told) = point.step(law, tools::tunnel(cluster, &hbone(to), &authority).await) {
            let seen = told
                .failed
                .clone()
                .unwrap_or_else(|| format!("{} {} {}", told.status, told.refusal, told.reason));
            let refused = told.status >= 400 && !told.reason.is_empty();
            point.assert(law, "refused with a reason", seen, refused);
        }
    }
    point.step("the tools go", tools::remove(cluster).await);
}

/// The identity of the shop's clients, as the ztunnel of their node may have it.
async fn lay(stage: &Stage) -> Result<Places, Failure> {
    let cluster = &stage.cluster;
    tools::lay(cluster).await?;
    let ztunnel = ztunnel(cluster, stage.first_node()).await?;
    let token = token(cluster, MESH, "ztunnel", &ztunnel, AUDIENCE).await?;
    let signed = tools::sign(cluster, &token, CLIENT).await?;
    if !signed.success() {
        return Err(Failure(signed.stderr));
    }
    let address = |pod: serde_json::Value| text(&pod, "/status/podIP");
    let selector = "gateway.networking.k8s.io/gateway-name=waypoint";
    let waypoints = cluster.pods(SHOP, selector).await?;
    let waypoint = waypoints.into_iter().find(|pod| pod.ready && !pod.ending);
    Ok(Places {
        waypoint: waypoint.ok_or_else(|| Failure("no waypoint is ready".into()))?.address,
        server: address(cluster.get(&["pod", "-n", SHOP, "v1"]).await?),
        far: cluster.pod(SHOP, "far").await?.address,
        far_service: text(&cluster.get(&["service", "-n", SHOP, "far"]).await?, "/spec/clusterIP"),
    })
}
