//! Point 2, second half: a waypoint from a plain manifest routes by weights, judges requests, and nothing goes around it.

use std::time::Duration;

use act::process::Failure;
use tokio::time::sleep;

use super::{
    around,
    load::PodLoad,
    manifests::{IMAGE, SHOP, service_url},
    mesh::{self, Answer, Mark, Source, curl},
    outsider::Outsider,
    smoke::from_the_shop,
    stage::Stage,
};
use crate::{check::Point, load::unix_milliseconds};

/// What an ordinary user applies, from the samples, in the shop's namespace.
const WAYPOINT: &str = include_str!("../../../manifests/samples/waypoint.yaml");
/// What stands behind it.
const BEHIND: &str = include_str!("../../e2e/waypoint.yaml");
/// The waypoint's log.
const LOG: Source<'static> = Source {
    namespace: SHOP,
    selector: "gateway.networking.k8s.io/gateway-name=waypoint",
};

/// The waypoint and what is behind it, as manifests, with the route's weights.
pub(super) fn manifests(stage: &Stage, weights: (u8, u8)) -> String {
    let waypoint = WAYPOINT
        .replace("namespace: shop", &format!("namespace: {SHOP}"))
        .replace("--gateway=shop/", &format!("--gateway={SHOP}/"))
        .replace("weft-waypoint-shop-waypoint", "e2e-waypoint");
    let behind = BEHIND
        .replace("NAMESPACE", SHOP)
        .replace("FIRST_NODE", stage.first_node())
        .replace("LAST_NODE", stage.last_node())
        .replace("IMAGE", IMAGE)
        .replace("FIRST_WEIGHT", &weights.0.to_string())
        .replace("SECOND_WEIGHT", &weights.1.to_string());
    format!("{waypoint}\n---\n{behind}")
}

/// Lays the waypoint and waits until requests pass it.
pub(super) async fn lay(stage: &Stage) -> Result<String, Failure> {
    let cluster = &stage.cluster;
    cluster.apply(&manifests(stage, (90, 10))).await?;
    cluster
        .rolled_out(SHOP, "deployment/waypoint", Duration::from_secs(90))
        .await?;
    for pod in ["pod/v1", "pod/v2", "pod/guest"] {
        cluster
            .kubectl(&["wait", "--for=condition=Ready", "-n", SHOP, pod, "--timeout=50s"])
            .await?;
    }
    mesh::captured(cluster, SHOP).await?;
    let url = service_url(cluster, SHOP, "routed").await?;
    match mesh::answers(cluster, SHOP, "guest", &[&*url], 200).await {
        answer if answer.status == 200 => Ok(url),
        answer => Err(Failure(format!("no request passes the waypoint: {}", answer.phrase()))),
    }
}

/// Routes, policies, and a waypoint that is gone.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    stage.tell("a waypoint from a plain manifest");
    let Some(url) = point.step("a waypoint from a plain manifest", lay(stage).await) else {
        return;
    };
    weights(stage, point, &url).await;
    policies(stage, point, &url).await;
    around::check(stage, point).await;
    down(stage, point, &url).await;
    point.step(
        "the waypoint goes",
        stage.cluster.delete(&manifests(stage, (90, 10))).await,
    );
}

async fn weights(stage: &Stage, point: &mut Point, url: &str) {
    let cluster = &stage.cluster;
    stage.tell("a route's weights, and their change under load");
    let law = "a 90/10 route over 1,000 requests";
    let many = format!("{url}[1-1000]");
    let asked = async {
        let client = cluster.pod(SHOP, "client").await?;
        cluster
            .exec(SHOP, &client.name, &["curl", "-s", "-S", "-m", "10", &many])
            .await
    };
    if let Some(finished) = point.step(law, asked.await) {
        let first = finished.stdout.lines().filter(|line| line.starts_with("v1 ")).count();
        let all = finished.stdout.lines().count();
        point.assert(
            law,
            "870 to 930 of 1000 to v1",
            format!("{first} of {all} to v1"),
            (870..=930).contains(&first) && all == 1000,
        );
    }
    let words = [url, "--clients", "4", "--pause", "5ms"];
    let started = PodLoad::start_with(cluster, from_the_shop(stage), "load-weights", &words).await;
    let Some(load) = point.step("kept connections are under load", started) else {
        return;
    };
    sleep(Duration::from_secs(3)).await;
    point.step(
        "the route is changed to 50/50",
        cluster.apply(&manifests(stage, (50, 50))).await,
    );
    let at = unix_milliseconds();
    sleep(Duration::from_secs(6)).await;
    let Some(outcome) = point.step("load ends", load.stop().await) else {
        return;
    };
    let report = &outcome.report;
    let pass = report.is_whole() && report.failed() == 0 && report.closed() == 0 && report.answered() > 100;
    point.assert(
        "the change fails no request on kept connections",
        "0 failed",
        report.summary(),
        pass,
    );
    let after = report.since(at + 1000);
    let share = after.answers("v1") * 1000 / after.answered().max(1);
    point.assert(
        "from one second after the change on",
        "45.0 to 55.0 % to v1",
        format!("{share} ‰ of {}", after.answered()),
        (450..=550).contains(&share) && after.answered() > 300,
    );
}

async fn policies(stage: &Stage, point: &mut Point, url: &str) {
    let cluster = &stage.cluster;
    stage.tell("policies about requests");
    let Some(client) = point.step("a client", cluster.pod(SHOP, "client").await) else {
        return;
    };
    let admin = format!("{url}admin");
    for (law, pod, url, path, status) in [
        ("the one identity may GET /admin", &*client.name, &*admin, "/admin", 200),
        ("nobody else may GET /admin", "guest", &*admin, "/admin", 403),
        ("the rest is everybody's", "guest", url, "/", 200),
    ] {
        let mark = Mark::now();
        if let Some(answer) = point.step(law, curl(cluster, SHOP, pod, &[url]).await) {
            point.assert(law, status, answer.phrase(), answer.status == status);
        }
        if status == 403 {
            let event = mesh::awaited_event(cluster, LOG, "access", &mark, |event| {
                !event.field("refusal").is_empty()
            })
            .await;
            let told = event.map_or_else(
                || "not logged".into(),
                |event| format!("{} {}", event.field("policy"), event.field("reason")),
            );
            point.holds("the waypoint's log names the policy", "admin-is-for-clients", &told);
        }
        let from = format!("{SHOP}/{pod}");
        let why = cluster
            .weft(
                &["why", &from, &format!("routed.{SHOP}:80"), "GET", path],
                Duration::from_secs(30),
            )
            .await;
        if let Some(why) = point.step(law, why) {
            let wanted = if status == 200 { 0 } else { 2 };
            let seen = format!(
                "exit {:?}: {}",
                why.code,
                why.stdout.lines().last().unwrap_or(&why.stderr)
            );
            point.assert(
                &format!("{law}: `weft why` foretells it"),
                format!("exit {wanted}"),
                seen,
                why.code == Some(wanted),
            );
        }
    }
}

async fn down(stage: &Stage, point: &mut Point, url: &str) {
    let cluster = &stage.cluster;
    stage.tell("the waypoint is gone, and every way around it tried");
    let gone = async {
        let scale = "scale deployment/waypoint --replicas=0 -n";
        let words: Vec<_> = scale.split(' ').chain([SHOP]).collect();
        cluster.kubectl(&words).await?;
        let delete = "delete pods --force --grace-period=0 -n";
        let words: Vec<_> = delete.split(' ').chain([SHOP, "-l", LOG.selector]).collect();
        cluster.kubectl(&words).await?;
        let server = cluster.get(&["pod", "-n", SHOP, "v1"]).await?;
        let outsider = super::outsider::lay(cluster).await?;
        Ok((super::cluster::text(&server, "/status/podIP"), outsider))
    };
    let Some((address, outsider)) = point.step("the waypoint is killed", gone.await) else {
        return;
    };
    let around = format!("http://{address}:8080/get-around");
    let through = format!("{url}get-around");
    let law = "from a captured pod, by Service address: told that the waypoint is missing";
    let answer = mesh::answers(cluster, SHOP, "guest", &["-i", &through], 503).await;
    let reason = answer.text.to_lowercase().contains("waypoint");
    point.assert(
        law,
        "503 and the reason",
        answer.phrase() + if reason { ", waypoint named" } else { "" },
        answer.status == 503 && reason,
    );
    let Outsider { namespace, pod } = outsider;
    for (law, namespace, pod, url) in [
        ("from a captured pod, by pod address", SHOP, "guest", &around),
        ("from a pod outside, by Service address", namespace, pod, &through),
        ("from a pod outside, by pod address", namespace, pod, &around),
    ] {
        if let Some(answer) = point.step(law, curl(cluster, namespace, pod, &[url]).await) {
            let refused = answer.status == 503 || answer.status == 0;
            point.assert(law, "503, or no answer", answer.phrase(), refused);
        }
    }
    from_nodes(stage, point, &around).await;
    let back = ["scale", "deployment/waypoint", "-n", SHOP, "--replicas=2"];
    point.step("the waypoint is back", cluster.kubectl(&back).await);
    let ready = cluster.rolled_out(SHOP, "deployment/waypoint", Duration::from_secs(60));
    point.step("it is ready", ready.await);
    let answer = mesh::answers(cluster, SHOP, "guest", &[url], 200).await;
    point.assert("it recovers by itself", "200", answer.phrase(), answer.status == 200);
    point.step("the outsider goes", super::outsider::remove(cluster).await);
}

/// The kubelet's own address must be no way around.
async fn from_nodes(stage: &Stage, point: &mut Point, url: &str) {
    if !stage.ours_or_not_shown(2, "no node gets around a waypoint that is gone") {
        return;
    }
    for node in &stage.nodes {
        let law = format!("from {node} itself, by pod address");
        let words = ["sh", "-c", &format!("curl -s -m 3 -w '\\n%{{http_code}}' {url}; true")];
        if let Some(text) = point.step(&law, stage.cluster.on_node(node, &words).await) {
            let status = text.trim().lines().last().and_then(|it| it.parse().ok()).unwrap_or(0);
            let answer = Answer { status, text };
            point.assert(&law, "no answer", answer.phrase(), status == 0 || status == 503);
        }
    }
}
