//! The mesh itself: whether its parts run on every node, what its agents and proxies say, whether every enabled pod
//! is captured. Pure.

use std::collections::{BTreeMap, BTreeSet};

use act::config::MODE;
use decide::model::Problem;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use serde_json::Value;

use crate::finding::{Finding, counted, names};
use crate::{
    enrolment::{self, Standing},
    pods::{self, Part},
    proxies::Said,
};

/// Parts that every node needs.
const NODE_PARTS: [&str; 2] = ["ztunnel", "weft-cni"];
/// Of how many thousandths of its life a leaf has left when renewal is late, and when it is an emergency: it is renewed
/// at half.
const LATE: u64 = 400;
const EMERGENCY: u64 = 100;

/// Whether every node has a ready ztunnel and a ready agent, and the CA and the waypoints are ready.
pub(super) fn parts(parts: &[Part], nodes: &[Node]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let linux: BTreeSet<_> = nodes
        .iter()
        .filter(|node| is_linux(node))
        .filter_map(name_of_node)
        .collect();
    for (kind, check) in [("ztunnel", "ztunnel"), ("weft-cni", "weft-cni")] {
        let own: Vec<_> = parts.iter().filter(|part| part.kind == kind).collect();
        let ready: BTreeSet<_> = own
            .iter()
            .filter(|part| is_ready(&part.pod))
            .filter_map(|part| node(&part.pod))
            .collect();
        let without: Vec<_> = linux.iter().filter(|node| !ready.contains(*node)).collect();
        findings.push(if without.is_empty() {
            Finding::ok(check, format!("ready on {}", counted(linux.len(), "node")))
        } else {
            let why = own
                .iter()
                .filter(|part| !is_ready(&part.pod))
                .find_map(|part| why_not_ready(&part.pod));
            let why = why.unwrap_or_else(|| "it has no pod there".into());
            Finding::fail(
                check,
                format!("not ready on {} ({why}): no new pod is captured there", names(without)),
            )
        });
    }
    let (ca, waypoints): (Vec<_>, Vec<_>) = parts
        .iter()
        .filter(|part| !NODE_PARTS.contains(&&*part.kind))
        .partition(|part| part.kind == "ca");
    let ready = ca.iter().filter(|part| is_ready(&part.pod)).count();
    findings.push(match (ready, ca.iter().find_map(|part| why_not_ready(&part.pod))) {
        (0, why) => Finding::fail(
            "ca",
            format!(
                "no replica is ready ({}): no certificate can be renewed",
                why.as_deref().unwrap_or("there is none")
            ),
        ),
        (1, _) => Finding::warn(
            "ca",
            "only one replica is ready: while it restarts no certificate is signed",
        ),
        (ready, Some(why)) => Finding::warn("ca", format!("{ready} replicas are ready, another is not: {why}")),
        (ready, None) => Finding::ok("ca", format!("{ready} replicas are ready")),
    });
    let down = waypoints.iter().filter(|part| !is_ready(&part.pod));
    for part in down {
        let name = part.pod.metadata.name.as_deref().unwrap_or_default();
        let why = why_not_ready(&part.pod).unwrap_or_default();
        findings.push(Finding::fail(
            "waypoints",
            format!("{name} is not ready ({why}): what needs it is refused"),
        ));
    }
    findings
}

fn is_linux(node: &Node) -> bool {
    let info = node.status.as_ref().and_then(|status| status.node_info.as_ref());
    info.is_none_or(|info| info.operating_system == "linux")
}

fn name_of_node(node: &Node) -> Option<&str> {
    node.metadata.name.as_deref()
}

fn node(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn why_not_ready(pod: &Pod) -> Option<String> {
    (!is_ready(pod)).then(|| pods::not_running(pod).unwrap_or_else(|| "it runs, and is not ready yet".into()))
}

/// What each proxy said: whether it answers and is ready, its version, what its node is like.
pub(super) fn said(all: &[Said<Value>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut versions: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for Said { proxy, told } in all {
        match told {
            Err(why) => findings.push(Finding::fail("proxies", why.clone())),
            Ok(told) => {
                let version = told["version"].as_str().unwrap_or("unknown").to_owned();
                versions.entry(version).or_default().push(&proxy.name);
                findings.extend(waits(&proxy.name, told));
                findings.extend(agent(&proxy.name, told));
            }
        }
    }
    let own = env!("CARGO_PKG_VERSION");
    let others: Vec<_> = versions.iter().filter(|(version, _)| *version != own).collect();
    for (version, who) in &others {
        findings.push(Finding::warn(
            "versions",
            format!(
                "{} of version {version}, this command is {own}; run: weft upgrade",
                names(who.iter())
            ),
        ));
    }
    if others.is_empty() && !versions.is_empty() {
        findings.push(Finding::ok("versions", format!("{own} everywhere")));
    }
    findings
}

fn waits(name: &str, told: &Value) -> Option<Finding> {
    let waits: Vec<_> = told["waitsFor"].as_array()?.iter().filter_map(Value::as_str).collect();
    (!waits.is_empty()).then(|| Finding::fail("proxies", format!("{name} is not ready: it waits for {}", names(waits))))
}

/// What a node's agent says of its probes, its place in the node's CNI configuration, and its pods.
fn agent(name: &str, told: &Value) -> Vec<Finding> {
    let mut findings = Vec::new();
    let why = |told: &Value| told["why"].as_str().map(|why| format!(" ({why})")).unwrap_or_default();
    match told["probes"]["mode"].as_str() {
        Some("address") => findings.push(Finding::warn(
            "probes",
            format!(
                "{name}: every program of the node passes as its kubelet, to probed ports of captured pods{}; give the \
                 kubelet a cgroup of version 2",
                why(&told["probes"])
            ),
        )),
        Some("none") => findings.push(Finding::fail(
            "probes",
            format!(
                "{name}: kubelet probes are judged as everybody's connections{}",
                why(&told["probes"])
            ),
        )),
        _ => {}
    }
    let problems = told["cni"]["problems"].as_array().into_iter().flatten();
    findings.extend(
        problems
            .filter_map(Value::as_str)
            .map(|problem| Finding::fail("CNI", format!("{name}: {problem}"))),
    );
    let pods: Vec<&Value> = told["pods"]
        .as_object()
        .into_iter()
        .flat_map(serde_json::Map::values)
        .collect();
    let named = |those: Vec<&&Value>| names(those.iter().filter_map(|pod| pod["pod"].as_str()));
    let gaps: Vec<_> = pods.iter().filter(|pod| pod["gap"] == true).collect();
    if !gaps.is_empty() {
        findings.push(Finding::warn(
            "capture",
            format!(
                "{name}: {} ran uncaptured until this agent started; with cni.ownConfig=true no pod starts before it is \
                 captured",
                named(gaps)
            ),
        ));
    }
    for pod in pods.iter().filter(|pod| pod["state"] == "Waiting") {
        let which = pod["pod"].as_str().unwrap_or_default();
        findings.push(Finding::fail(
            "capture",
            format!("{name}: {which} waits to be captured{}", why(pod)),
        ));
    }
    findings
}

/// Pods of enabled namespaces that are, or are to be, in the mesh.
pub(super) fn meshed<'p>(pods: &'p [Pod], namespaces: &[Namespace]) -> Vec<(&'p Pod, Standing)> {
    let enabled: BTreeSet<_> = namespaces
        .iter()
        .filter(|it| is_enabled(it))
        .map(|it| it.metadata.name.as_deref())
        .collect();
    let standing = |pod: &'p Pod| {
        let namespace = pod.metadata.namespace.as_deref();
        let standing = enrolment::standing(pod, namespace.unwrap_or_default(), enabled.contains(&namespace));
        (pod, standing)
    };
    let wanted = |(pod, standing): &(&Pod, Standing)| {
        enrolment::is_captured(pod) || (standing.waits() && standing.is_concerned())
    };
    pods.iter().map(standing).filter(wanted).collect()
}

/// Whether a namespace is in the mesh.
pub(super) fn is_enabled(namespace: &Namespace) -> bool {
    let labels = namespace.metadata.labels.as_ref();
    let excluded = namespace.metadata.name.as_deref().is_some_and(enrolment::is_excluded);
    !excluded && labels.is_some_and(|labels| labels.get(MODE).is_some_and(|mode| mode == "ambient"))
}

/// Whether every enabled pod is captured.
pub(super) fn captured(meshed: &[(&Pod, Standing)]) -> Finding {
    let waiting: Vec<_> = meshed
        .iter()
        .filter_map(|(pod, standing)| {
            let why = standing.why().filter(|_| standing.waits())?;
            let text = |it: &Option<String>| it.clone().unwrap_or_default();
            Some(format!(
                "{}/{} ({why})",
                text(&pod.metadata.namespace),
                text(&pod.metadata.name)
            ))
        })
        .collect();
    if waiting.is_empty() {
        let what = match meshed.len() {
            0 => "no pod is in the mesh yet; take a namespace in with: weft namespace enable NAME".to_owned(),
            count => format!("{} captured", counted(count, "pod")),
        };
        Finding::ok("capture", what)
    } else {
        Finding::fail("capture", format!("not as their labels want them: {}", names(waiting)))
    }
}

/// Certificates that are missing, or not renewed in time.
pub(super) fn certificates(all: &[Said<Value>]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut held = 0;
    for Said { proxy, told } in all {
        for leaf in told.iter().flat_map(|told| told.as_array().into_iter().flatten()) {
            held += 1;
            let identity = leaf["identity"].as_str().unwrap_or_default();
            if let Some(why) = leaf["missing"].as_str() {
                findings.push(Finding::fail(
                    "certificates",
                    format!("{} has none for {identity}: {why}", proxy.name),
                ));
                continue;
            }
            let number = |field: &str| leaf[field].as_u64().unwrap_or_default();
            // Its life here: it begins in the past for clocks that are behind. Older proxies tell that beginning alone.
            let begun = number("since").max(number("notBefore"));
            let life = number("notAfter").saturating_sub(begun).max(1);
            let left = number("remainingSeconds").saturating_mul(1000) / life;
            if left < LATE {
                let what = format!(
                    "{}: the one for {identity} ends in {} s and was not renewed at half its life; see whether the ca is \
                     ready and reached",
                    proxy.name,
                    number("remainingSeconds")
                );
                findings.push(match left < EMERGENCY {
                    true => Finding::fail("certificates", what),
                    false => Finding::warn("certificates", what),
                });
            }
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok("certificates", format!("{held} held, none late")));
    }
    findings
}

/// What users wrote that cannot be honoured.
pub(super) fn problems(problems: &[Problem]) -> Vec<Finding> {
    if problems.is_empty() {
        return vec![Finding::ok("objects", "nothing in them that cannot be honoured")];
    }
    problems
        .iter()
        .map(|problem| Finding::fail("objects", problem.to_string()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        finding::Severity::{self, Fail, Ok, Warn},
        proxies::Proxy,
    };

    fn part(kind: &str, node: &str, ready: bool) -> Part {
        let status = if ready { "True" } else { "False" };
        let pod = json!({ "metadata": { "name": format!("{kind}-{node}") }, "spec": { "nodeName": node, "containers": [] },
            "status": { "conditions": [{ "type": "Ready", "status": status }] } });
        Part {
            kind: kind.into(),
            pod: serde_json::from_value(pod).expect("a pod"),
        }
    }

    fn of(findings: &[Finding], check: &str) -> Vec<Severity> {
        findings
            .iter()
            .filter(|it| it.check == check)
            .map(|it| it.result)
            .collect()
    }

    #[test]
    fn every_node_needs_both_parts_ready_and_the_ca_two_replicas() {
        let nodes: Vec<Node> = ["a", "b"]
            .iter()
            .map(|name| serde_json::from_value(json!({ "metadata": { "name": name } })).expect("a node"))
            .collect();
        let mut all = vec![
            part("ztunnel", "a", true),
            part("ztunnel", "b", true),
            part("weft-cni", "a", true),
            part("weft-cni", "b", false),
            part("ca", "a", true),
        ];
        let found = parts(&all, &nodes);
        assert_eq!(
            (of(&found, "ztunnel"), of(&found, "weft-cni"), of(&found, "ca")),
            (vec![Ok], vec![Fail], vec![Warn])
        );
        assert!(found[1].what.contains("not ready on b"), "{found:?}");
        all.push(part("ca", "b", true));
        all.push(part("waypoint", "b", false));
        let found = parts(&all, &nodes);
        assert_eq!((of(&found, "ca"), of(&found, "waypoints")), (vec![Ok], vec![Fail]));
        assert_eq!(of(&parts(&[], &nodes), "ca"), [Fail]);
    }

    fn says(told: Value) -> Said<Value> {
        Said {
            proxy: Proxy::absent("weft-cni-a", String::new()),
            told: Result::Ok(told),
        }
    }

    #[test]
    fn what_an_agent_says_of_its_node_is_told() {
        let told = json!({ "version": env!("CARGO_PKG_VERSION"), "waitsFor": [],
            "probes": { "mode": "address", "why": "no cgroup2" },
            "cni": { "problems": ["another plugin removed our entry"] },
            "pods": {
                "1": { "pod": "shop/web", "state": "Captured", "gap": true },
                "2": { "pod": "shop/new", "state": "Waiting", "why": "no certificate" },
            } });
        let found = said(&[says(told)]);
        assert_eq!(
            (
                of(&found, "probes"),
                of(&found, "CNI"),
                of(&found, "capture"),
                of(&found, "versions")
            ),
            (vec![Warn], vec![Fail], vec![Warn, Fail], vec![Ok])
        );
        assert!(
            found
                .iter()
                .any(|it| it.what.contains("shop/new waits to be captured (no certificate)"))
        );
        let found = said(&[says(json!({ "version": "0.0.1", "waitsFor": ["its first snapshot"] }))]);
        assert_eq!(
            (of(&found, "versions"), of(&found, "proxies")),
            (vec![Warn], vec![Fail])
        );
        let silent = Said {
            told: Err("proxy ztunnel-a does not answer".into()),
            ..says(Value::Null)
        };
        assert_eq!(of(&said(&[silent]), "proxies"), [Fail]);
    }

    #[test]
    fn a_pod_that_is_not_as_its_labels_want_it_is_named() {
        let namespace: Namespace =
            serde_json::from_value(json!({ "metadata": { "name": "shop", "labels": { MODE: "ambient" } } }))
                .expect("it");
        let pod = |name: &str, namespace: &str, annotations: Value| -> Pod {
            serde_json::from_value(
                json!({ "metadata": { "name": name, "namespace": namespace, "annotations": annotations } }),
            )
            .expect("a pod")
        };
        let yes = json!({ act::config::CAPTURE: "captured" });
        let pods = [
            pod("web", "shop", yes.clone()),
            pod("new", "shop", json!({})),
            pod("old", "plain", yes),
            pod("other", "plain", json!({})),
        ];
        let all = meshed(&pods, &[namespace]);
        assert_eq!(all.len(), 3);
        let finding = captured(&all);
        assert_eq!(finding.result, Fail);
        assert!(
            finding.what.contains("shop/new") && finding.what.contains("plain/old"),
            "{finding:?}"
        );
        assert_eq!(captured(&all[..1]).result, Ok);
    }

    #[test]
    fn certificates_are_late_after_half_their_life() {
        let leaf = |remaining: u64| json!([{ "identity": "a", "notBefore": 0, "notAfter": 1000, "remainingSeconds": remaining }]);
        for (remaining, expected) in [(600, Ok), (450, Ok), (300, Warn), (50, Fail)] {
            assert_eq!(
                certificates(&[says(leaf(remaining))])[0].result,
                expected,
                "{remaining}"
            );
        }
        // A minute of life, begun five minutes ago.
        let short = |remaining: u64| json!([{ "identity": "a", "notBefore": 0, "since": 300, "notAfter": 360, "remainingSeconds": remaining }]);
        for (remaining, expected) in [(58, Ok), (26, Ok), (20, Warn), (5, Fail)] {
            assert_eq!(
                certificates(&[says(short(remaining))])[0].result,
                expected,
                "{remaining}"
            );
        }
        assert_eq!(
            certificates(&[says(json!([{ "identity": "a", "missing": "the ca refused" }]))])[0].result,
            Fail
        );
    }
}
