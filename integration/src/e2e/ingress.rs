//! Point 7: an nginx with endpoint upstreams as ingress. Enrolled it works, and policies see its identity; un-enrolled
//! it is refused, and told why.

use act::process::Failure;

use super::{
    cluster::text,
    manifests::{IMAGE, SHOP, service_url},
    mesh::{self, Mark, Source, ZTUNNELS},
    outsider,
    stage::Stage,
    through_waypoint,
};
use crate::check::Point;

const INGRESS: &str = include_str!("../../e2e/ingress.yaml");
/// Its namespace outside the mesh.
const OUTSIDE: &str = "e2e-ingress";
/// The waypoint's log.
const WAYPOINT: Source<'static> = Source {
    namespace: SHOP,
    selector: "gateway.networking.k8s.io/gateway-name=waypoint",
};

/// First inside the mesh, then outside it.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("an ingress with endpoint upstreams");
    if point
        .step("a Service with a waypoint", through_waypoint::lay(stage).await)
        .is_none()
    {
        return;
    }
    let laid = async {
        cluster.fresh_namespace(OUTSIDE).await?;
        for namespace in [SHOP, OUTSIDE] {
            cluster.apply(&manifests(stage, namespace).await?).await?;
            cluster
                .kubectl(&[
                    "wait",
                    "--for=condition=Ready",
                    "-n",
                    namespace,
                    "pod/ingress",
                    "--timeout=50s",
                ])
                .await?;
        }
        mesh::captured(cluster, SHOP).await?;
        outsider::lay(cluster).await
    };
    let Some(user) = point.step("an ingress in the mesh, one outside, and a user", laid.await) else {
        return;
    };
    inside(stage, point, user).await;
    outside(stage, point, user).await;
    point.step("the ingress goes", cluster.remove_namespace(OUTSIDE).await);
    point.step("the user goes", outsider::remove(cluster).await);
    let enrolled = manifests(stage, SHOP).await;
    if let Some(enrolled) = point.step("the ingress in the mesh", enrolled) {
        point.step("the ingress in the mesh goes", cluster.delete(&enrolled).await);
    }
    let waypoint = through_waypoint::manifests(stage, (90, 10));
    point.step("the waypoint goes", cluster.delete(&waypoint).await);
}

async fn inside(stage: &Stage, point: &mut Point, user: outsider::Outsider) {
    let cluster = &stage.cluster;
    let mark = Mark::now();
    for (law, path, status) in [
        ("through the enrolled ingress a request is answered", "", 200),
        (
            "the policy sees the ingress's identity: it may GET /admin",
            "admin",
            200,
        ),
    ] {
        let asked = async {
            let url = format!("{}{path}", service_url(cluster, SHOP, "ingress").await?);
            Ok(mesh::answers(cluster, user.namespace, user.pod, &[&*url], status).await)
        };
        if let Some(answer) = point.step(law, asked.await) {
            point.assert(law, status, answer.phrase(), answer.status == status);
        }
    }
    let event = mesh::awaited_event(cluster, WAYPOINT, "access", &mark, |event| {
        event.field("src.identity").ends_with("/sa/ingress")
    });
    let seen = event
        .await
        .map_or_else(|| "not logged".into(), |event| event.field("src.identity"));
    point.holds(
        "the waypoint's log names the ingress's identity",
        "/ns/e2e-shop/sa/ingress",
        &seen,
    );
}

async fn outside(stage: &Stage, point: &mut Point, user: outsider::Outsider) {
    let cluster = &stage.cluster;
    let mark = Mark::now();
    let law = "through the un-enrolled ingress a request is refused";
    let asked = async {
        let url = service_url(cluster, OUTSIDE, "ingress").await?;
        mesh::curl(cluster, user.namespace, user.pod, &[&*url]).await
    };
    if let Some(answer) = point.step(law, asked.await) {
        let refused = matches!(answer.status, 502..=504);
        point.assert(law, "502, 503 or 504 of nginx", answer.phrase(), refused);
    }
    let event = mesh::awaited_event(cluster, ZTUNNELS, "access", &mark, |event| {
        !event.field("refusal").is_empty()
    });
    let told = event.await.map_or_else(
        || "not logged".into(),
        |event| format!("{}: {}", event.field("refusal"), event.field("reason")),
    );
    let pass = told.to_lowercase().contains("waypoint");
    point.assert(
        "the log says why: it did not come by the waypoint",
        "… waypoint …",
        told,
        pass,
    );
}

/// The ingress, its upstreams the addresses of the Service's pods.
async fn manifests(stage: &Stage, namespace: &str) -> Result<String, Failure> {
    let pods = stage.cluster.list(&["pods", "-n", SHOP, "-l", "app=routed"]).await?;
    let endpoints: Vec<_> = pods
        .iter()
        .map(|pod| format!("server {}:8080;", text(pod, "/status/podIP")))
        .collect();
    Ok(INGRESS
        .replace("NAMESPACE", namespace)
        .replace("FIRST_NODE", stage.first_node())
        .replace("IMAGE", IMAGE)
        .replace("ENDPOINTS", &endpoints.join(" ")))
}
