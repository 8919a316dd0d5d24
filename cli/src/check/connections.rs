//! Capture, proven by real connections: from a captured pod of each node to one of the next node, in a ring, so that
//! every node is once the source and once the destination, however many there are.
//!
//! The ztunnel of the first node connects inside the pod's network namespace, without the mark that spares it the
//! redirect rules; the ztunnel of the second answers in its pod's place. So a row says: redirect, certificate, HBONE
//! over the wire, certificate, listener, all of it as the pod's own connections go it. Nothing runs in anybody's
//! container and no application gets a byte. Asked is the ztunnel's admin endpoint, on loopback as every other
//! question, through the API server: who may do that may read everything of the mesh already, and a pod may not.
//! The other way, a pod of our own on every node, would need the right to make pods, an image there, and would prove
//! the capture of a pod that nobody cares for.

use std::{collections::BTreeMap, time::Duration};

use act::admin::Way;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use serde_json::Value;

use crate::finding::{Finding, counted, names};
use crate::{
    enrolment,
    pods::{self, Part},
    proxies::Proxy,
};

const CHECK: &str = "connections";
/// How long a ztunnel may take to prove a way: longer than it waits itself.
const PATIENCE: Duration = Duration::from_secs(15);
/// Ways proven at once; each is of another node.
const AT_ONCE: usize = 16;

/// A way to prove.
#[derive(Debug)]
struct Leg<'p> {
    from: &'p Pod,
    to: &'p Pod,
    way: Way,
}

/// Proves every way of the ring; a finding for each, and one for nodes where there is nothing to prove it with.
pub(super) async fn prove(client: &Client, parts: &[Part], pods: &[Pod]) -> Vec<Finding> {
    let ztunnels = ztunnels(parts);
    let captured = by_node(pods);
    let mut findings = unproven(&ztunnels.keys().copied().collect::<Vec<_>>(), &captured);
    let legs = ring(&captured).into_iter().map(|leg| {
        let ztunnel = node(leg.from).and_then(|node| ztunnels.get(node).copied());
        async move {
            let told = match ztunnel {
                Some(ztunnel) => ask(&pods::proxy(client, ztunnel), &leg.way).await,
                None => Err("no ztunnel runs there".to_owned()),
            };
            judge(&leg, told)
        }
    });
    findings.extend(stream::iter(legs).buffered(AT_ONCE).collect::<Vec<_>>().await);
    findings
}

/// The ztunnel of each node: during an upgrade the one that stays, for the other is done with pods.
fn ztunnels(parts: &[Part]) -> BTreeMap<&str, &Pod> {
    parts
        .iter()
        .filter(|part| part.kind == "ztunnel" && part.pod.metadata.deletion_timestamp.is_none())
        .filter_map(|part| Some((node(&part.pod)?, &part.pod)))
        .collect()
}

async fn ask(ztunnel: &Proxy, way: &Way) -> Result<Value, String> {
    let question = serde_json::to_string(way).map_err(|error| error.to_string())?;
    let answer = ztunnel.post_within("/proof", question, PATIENCE).await?;
    ztunnel.json(&answer)
}

/// Up to two captured, running pods of each node.
fn by_node(pods: &[Pod]) -> BTreeMap<&str, Vec<&Pod>> {
    let mut all: BTreeMap<&str, Vec<&Pod>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| can_prove(pod)) {
        let Some(node) = node(pod) else { continue };
        let own = all.entry(node).or_default();
        if own.len() < 2 {
            own.push(pod);
        }
    }
    all
}

fn can_prove(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ends = pod.metadata.deletion_timestamp.is_some();
    enrolment::is_captured(pod) && phase == Some("Running") && !ends && pod.metadata.uid.is_some()
}

/// From each node to the next; on a single node, from one of its pods to the other.
fn ring<'p>(captured: &BTreeMap<&str, Vec<&'p Pod>>) -> Vec<Leg<'p>> {
    let all: Vec<_> = match captured.len() {
        1 => captured.values().flatten().copied().collect(),
        _ => captured.values().filter_map(|own| own.first().copied()).collect(),
    };
    if all.len() < 2 {
        return Vec::new();
    }
    let next = all.iter().copied().cycle().skip(1);
    let pairs = all.iter().copied().zip(next);
    let leg = |(from, to): (&'p Pod, &'p Pod)| {
        let uid = |pod: &Pod| pod.metadata.uid.clone().unwrap_or_default();
        let way = Way {
            from: uid(from),
            to: uid(to),
        };
        Leg { from, to, way }
    };
    pairs.map(leg).collect()
}

/// Nodes with a ztunnel where nothing can be proven, because no pod is captured there or none elsewhere.
fn unproven(ztunnels: &[&str], captured: &BTreeMap<&str, Vec<&Pod>>) -> Vec<Finding> {
    if captured.is_empty() {
        return vec![Finding::ok(CHECK, "nothing to prove it with: no captured pod runs")];
    }
    let without: Vec<_> = ztunnels.iter().filter(|node| !captured.contains_key(*node)).collect();
    let mut findings = Vec::new();
    if !without.is_empty() {
        findings.push(Finding::warn(
            CHECK,
            format!(
                "not proven on {}: no captured pod runs on {}",
                counted(without.len(), "node"),
                names(without)
            ),
        ));
    }
    if captured.len() == 1 && captured.values().all(|own| own.len() < 2) {
        findings.push(Finding::warn(
            CHECK,
            "not proven: a single pod is captured, and it takes two",
        ));
    }
    findings
}

fn judge(leg: &Leg<'_>, told: Result<Value, String>) -> Finding {
    let ends = format!("{} to {}", place(leg.from), place(leg.to));
    match told {
        Ok(told) => {
            let text = |field: &str| told[field].as_str().unwrap_or("nobody").to_owned();
            let took = told["milliseconds"].as_u64().unwrap_or_default();
            Finding::ok(
                CHECK,
                format!(
                    "{ends}: HBONE from {} to {} in {took} ms",
                    text("identity"),
                    text("peer")
                ),
            )
        }
        // An admin endpoint of before it could be asked.
        Err(why) if why.starts_with("no POST /proof") => Finding::warn(
            CHECK,
            format!("{ends}: not proven, the ztunnel is of an older version; run: weft upgrade"),
        ),
        Err(why) => Finding::fail(CHECK, format!("{ends}: {why}")),
    }
}

fn place(pod: &Pod) -> String {
    let text = |it: &Option<String>| it.clone().unwrap_or_default();
    let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
    format!("{namespace}/{name} on {}", node(pod).unwrap_or_default())
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

#[cfg(test)]
mod tests {
    use act::config::CAPTURE;
    use serde_json::json;

    use super::*;
    use crate::finding::Severity::{Fail, Ok as Fine, Warn};

    fn pod(name: &str, node: &str, captured: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "shop", "uid": name, "annotations": { CAPTURE: captured } },
            "spec": { "nodeName": node, "containers": [] }, "status": { "phase": "Running" },
        }))
        .expect("a pod")
    }

    fn ways(pods: &[Pod]) -> Vec<String> {
        let legs = ring(&by_node(pods));
        legs.iter()
            .map(|leg| format!("{}>{}", leg.way.from, leg.way.to))
            .collect()
    }

    #[test]
    fn every_node_is_once_a_source_and_once_a_destination() {
        let mut all = vec![
            pod("a1", "a", "captured"),
            pod("a2", "a", "captured"),
            pod("b0", "b", "no"),
            pod("b1", "b", "captured"),
            pod("c1", "c", "captured"),
        ];
        assert_eq!(ways(&all), ["a1>b1", "b1>c1", "c1>a1"]);
        all.truncate(2);
        assert_eq!(ways(&all), ["a1>a2", "a2>a1"], "a single node proves among its pods");
        all.truncate(1);
        assert!(ways(&all).is_empty());
    }

    #[test]
    fn during_an_upgrade_the_ztunnel_that_stays_is_asked() {
        let part = |name: &str, leaves: bool| {
            let mut pod = pod(name, "a", "no");
            pod.metadata.deletion_timestamp =
                leaves.then(|| serde_json::from_value(json!("2026-01-01T00:00:00Z")).expect("a time"));
            Part {
                kind: "ztunnel".into(),
                pod,
            }
        };
        for parts in [
            [part("new", false), part("old", true)],
            [part("old", true), part("new", false)],
        ] {
            assert_eq!(ztunnels(&parts)["a"].metadata.name.as_deref(), Some("new"));
        }
    }

    #[test]
    fn where_nothing_can_be_proven_is_said() {
        let one = [pod("a1", "a", "captured")];
        let told = |pods: &[Pod]| {
            let found = unproven(&["a", "b"], &by_node(pods));
            found.iter().map(|it| it.result).collect::<Vec<_>>()
        };
        assert_eq!(told(&[]), [Fine]);
        assert_eq!(told(&one), [Warn, Warn]);
        assert!(told(&[one[0].clone(), pod("b1", "b", "captured")]).is_empty());
    }

    #[test]
    fn a_way_is_told_with_its_ends_and_its_identities_or_the_reason() {
        let pods = [pod("a1", "a", "captured"), pod("b1", "b", "captured")];
        let legs = ring(&by_node(&pods));
        let told = json!({ "identity": "spiffe://x", "peer": "spiffe://y", "milliseconds": 7 });
        let shown = judge(&legs[0], Ok(told));
        assert_eq!(shown.result, Fine);
        assert_eq!(
            shown.what,
            "shop/a1 on a to shop/b1 on b: HBONE from spiffe://x to spiffe://y in 7 ms"
        );
        let late = "a NetworkPolicy that does not admit TCP port 15008 to the pod is the likely cause";
        let shown = judge(&legs[0], Err(late.into()));
        assert!(shown.result == Fail && shown.what.ends_with(late), "{shown:?}");
        assert_eq!(judge(&legs[0], Err("no POST /proof here".into())).result, Warn);
    }
}
