//! The short run: a policy refuses and is foretold, and leaves rotate under load without a failed request.

use std::{collections::BTreeSet, time::Duration};

use tokio::time::{Instant, sleep};

use super::{
    first_request::CLIENT,
    load::{From, PodLoad, flawless},
    manifests::{SHOP, service_url},
    mesh::{self, LEAF_LIFE, Mark, ZTUNNELS},
    stage::Stage,
};
use crate::check::Point;

/// Refuses the shop's clients at one server.
pub(super) const DENY: &str = "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-clients, namespace: e2e-shop}
spec:
  selector: {matchLabels: {app: far}}
  action: DENY
  rules:
  - from:
    - source: {principals: [cluster.local/ns/e2e-shop/sa/client]}
";

/// Where load comes from.
pub(super) fn from_the_shop(stage: &Stage) -> From<'_> {
    From {
        namespace: SHOP,
        account: "client",
        node: stage.first_node(),
    }
}

/// A policy refuses, names itself, is foretold, and its end is felt.
pub(super) async fn deny(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("a policy that denies");
    let ready = async {
        let client = cluster.pod(SHOP, "client").await?;
        let url = service_url(cluster, SHOP, "far").await?;
        Ok((client, url))
    };
    let Some((client, url)) = point.step("client and server run", ready.await) else {
        return;
    };
    let allowed = mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await;
    point.assert(
        "without a policy a client is answered",
        "200",
        allowed.phrase(),
        allowed.status == 200,
    );
    let mark = Mark::now();
    if point
        .step("a DENY policy is applied", cluster.apply(DENY).await)
        .is_none()
    {
        return;
    }
    let refused = mesh::answers(cluster, SHOP, &client.name, &[&*url], 0).await;
    point.assert(
        "whom it names is refused",
        "no answer",
        refused.phrase(),
        refused.status == 0,
    );
    let event = mesh::awaited_event(cluster, ZTUNNELS, "access", &mark, |event| {
        event.is("reporter", "destination") && !event.field("refusal").is_empty()
    });
    let event = event.await;
    let told = event.as_ref().map_or_else(
        || "no refusal logged".into(),
        |event| format!("{} {}", event.field("policy"), event.field("reason")),
    );
    point.holds("the log names the policy", "no-clients", &told);
    foretold(stage, point, &client.name).await;
    point.step("the policy is removed", cluster.delete(DENY).await);
    let allowed = mesh::answers(cluster, SHOP, &client.name, &[&*url], 200).await;
    let same = allowed.status == 200;
    point.assert("without it all is as before", "200", allowed.phrase(), same);
}

async fn foretold(stage: &Stage, point: &mut Point, client: &str) {
    let from = format!("{SHOP}/{client}");
    let why = stage
        .cluster
        .weft(&["why", &from, "far.e2e-shop:80"], Duration::from_secs(30))
        .await;
    if let Some(why) = point.step("`weft why` answers", why) {
        let seen = format!(
            "exit {:?}: {}",
            why.code,
            why.stdout.lines().last().unwrap_or(&why.stderr)
        );
        let pass = why.code == Some(2) && why.stdout.contains("no-clients");
        point.assert(
            "`weft why` foretells it, by the policy",
            "exit 2, no-clients",
            seen,
            pass,
        );
    }
}

/// Load over the renewal of every leaf.
pub(super) async fn rotate(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("leaves rotate under load");
    let Some(url) = point.step("the Service's address", service_url(cluster, SHOP, "far").await) else {
        return;
    };
    let mark = Mark::now();
    let started = PodLoad::start(cluster, from_the_shop(stage), "load-rotate", &url).await;
    let Some(load) = point.step("load starts", started) else {
        return;
    };
    let before = serials(stage, &mark).await;
    let end = Instant::now() + LEAF_LIFE + Duration::from_secs(10);
    let mut seen = before;
    while Instant::now() < end && seen.len() < 2 {
        sleep(Duration::from_secs(2)).await;
        seen.extend(serials(stage, &mark).await);
    }
    let law = "the client's leaf was renewed, as new tunnels show";
    point.assert(
        law,
        "at least 2 serials",
        format!("{} serials", seen.len()),
        seen.len() >= 2,
    );
    flawless(point, "while leaves rotate no request fails", load.stop().await);
}

/// Serials of the client's leaves that servers saw in new tunnels.
async fn serials(stage: &Stage, mark: &Mark) -> BTreeSet<String> {
    let tunnels = mesh::events(&stage.cluster, ZTUNNELS, "tunnel", mark)
        .await
        .unwrap_or_default();
    let inbound = tunnels
        .iter()
        .filter(|tunnel| tunnel.is("direction", "inbound") && tunnel.is("peer", CLIENT));
    inbound.map(|tunnel| tunnel.field("peer_serial")).collect()
}
