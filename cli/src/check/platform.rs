//! What the mesh stands on: the versions of Kubernetes, of the nodes' kernels and of the kinds it reads, and the
//! clocks. Pure.

use k8s_openapi::{
    api::core::v1::Node, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};

use crate::{
    finding::{Finding, counted, names},
    install::OLDEST,
};

const KUBERNETES: &str = "Kubernetes";
const KERNELS: &str = "node kernels";
const CLOCK: &str = "clock";
const GATEWAY_API: &str = "Gateway API";
const OUR_KINDS: &str = "kinds of the mesh";
/// nftables have NAT for both families in one table since then.
const KERNEL_NEEDED: (u32, u32) = (5, 2);
/// nftables can tell a socket's cgroup since then, by which the kubelet is known.
const KERNEL_WANTED: (u32, u32) = (5, 13);
/// Clocks that are apart so far, in seconds, are worth a word.
const APART: i64 = 10;
/// Certificates are dated back five minutes: beyond that a new one is not valid yet elsewhere.
const TOO_FAR_APART: i64 = 240;
/// The Gateway API's kinds we read, and the version they must be served in.
const GATEWAY_KINDS: [&str; 2] = [
    "gateways.gateway.networking.k8s.io",
    "httproutes.gateway.networking.k8s.io",
];
const BUNDLE: &str = "gateway.networking.k8s.io/bundle-version";
/// The oldest minor version of Gateway API 1 whose objects are tested.
const OLDEST_BUNDLE: u32 = 1;

/// The cluster's version.
pub(super) fn kubernetes(major: &str, minor: &str) -> Finding {
    let number: String = minor.chars().take_while(char::is_ascii_digit).collect();
    match (major, number.parse::<u32>()) {
        ("1", Ok(minor)) if minor >= OLDEST => Finding::ok(KUBERNETES, format!("version 1.{minor}")),
        ("1", Ok(minor)) => Finding::fail(
            KUBERNETES,
            format!(
                "version 1.{minor} is older than 1.{OLDEST}, the oldest the mesh is tested with; upgrade the cluster"
            ),
        ),
        _ => Finding::warn(KUBERNETES, format!("version {major}.{minor} cannot be understood")),
    }
}

/// Every node's kernel.
pub(super) fn kernels(nodes: &[Node]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let info = |node: &Node| node.status.as_ref()?.node_info.clone();
    let (mut old, mut without_cgroup, mut unknown, mut foreign, mut fine) = (vec![], vec![], vec![], vec![], vec![]);
    for node in nodes {
        let name = node.metadata.name.clone().unwrap_or_default();
        let Some(info) = info(node) else {
            unknown.push(name);
            continue;
        };
        let told = format!("{name} ({})", info.kernel_version);
        match (info.operating_system.as_str(), kernel(&info.kernel_version)) {
            ("linux", Some(version)) if version < KERNEL_NEEDED => old.push(told),
            ("linux", Some(version)) if version < KERNEL_WANTED => without_cgroup.push(told),
            ("linux", Some(_)) => fine.push(told),
            ("linux", None) => unknown.push(told),
            _ => foreign.push(name),
        }
    }
    if !old.is_empty() {
        findings.push(Finding::fail(
            KERNELS,
            format!("{}: nftables cannot redirect both IPv4 and IPv6 before Linux 5.2, so no pod there is captured; upgrade the kernel", names(&old)),
        ));
    }
    if !without_cgroup.is_empty() {
        findings.push(Finding::warn(
            KERNELS,
            format!("{}: before Linux 5.13 the kubelet cannot be told from other programs of its node, so probes are admitted by address alone; upgrade the kernel", names(&without_cgroup)),
        ));
    }
    if !unknown.is_empty() {
        findings.push(Finding::warn(
            KERNELS,
            format!("the kernel of {} is not known", names(&unknown)),
        ));
    }
    if !foreign.is_empty() {
        findings.push(Finding::warn(
            KERNELS,
            format!("{}: no Linux, so no pod there can be in the mesh", names(&foreign)),
        ));
    }
    if !fine.is_empty() {
        findings.push(Finding::ok(KERNELS, names(&fine)));
    }
    findings
}

/// Major and minor version of a kernel's name.
fn kernel(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// How far clocks are ahead of ours, in seconds: the API server's, and each proxy's.
pub(super) fn clocks(ahead: &[(String, i64)]) -> Vec<Finding> {
    let apart = |from: i64, to: i64| {
        let those = ahead.iter().filter(|(_, by)| (from..to).contains(&by.abs()));
        those
            .map(|(who, by)| match by.is_positive() {
                true => format!("{who} ({by} s ahead)"),
                false => format!("{who} ({} s behind)", by.abs()),
            })
            .collect::<Vec<_>>()
    };
    let (far, somewhat) = (apart(TOO_FAR_APART, i64::MAX), apart(APART, TOO_FAR_APART));
    let mut findings = Vec::new();
    if !far.is_empty() {
        findings.push(Finding::fail(
            CLOCK,
            format!("apart from this machine's: {}; certificates and tokens are refused as not valid yet or expired: synchronize the clocks", names(&far)),
        ));
    }
    if !somewhat.is_empty() {
        findings.push(Finding::warn(
            CLOCK,
            format!(
                "apart from this machine's: {}; synchronize the clocks",
                names(&somewhat)
            ),
        ));
    }
    if findings.is_empty() && !ahead.is_empty() {
        let whose = match ahead.len() {
            1 => "the API server's".to_owned(),
            more => format!("the API server's and those of {}", counted(more - 1, "pod")),
        };
        findings.push(Finding::ok(
            CLOCK,
            format!("{whose} within {APART} s of this machine's"),
        ));
    }
    findings
}

/// Whether the Gateway API's kinds are there, and how old they are.
pub(super) fn gateway_api(definitions: &[CustomResourceDefinition]) -> Finding {
    let found: Vec<_> = GATEWAY_KINDS
        .iter()
        .filter_map(|name| definition(definitions, name))
        .collect();
    if found.is_empty() {
        return Finding::ok(
            GATEWAY_API,
            "not installed: only waypoints need it; its kinds are at https://gateway-api.sigs.k8s.io",
        );
    }
    if found.len() < GATEWAY_KINDS.len() || !found.iter().all(|it| serves(it, "v1")) {
        return Finding::fail(
            GATEWAY_API,
            format!(
                "{} must all be there and serve v1, or routes and waypoints have no effect; install the kinds anew",
                GATEWAY_KINDS.join(", ")
            ),
        );
    }
    let annotation = |it: &&CustomResourceDefinition| it.metadata.annotations.as_ref()?.get(BUNDLE).cloned();
    match found.iter().find_map(annotation) {
        None => Finding::warn(
            GATEWAY_API,
            format!("installed, of an unknown version (annotation {BUNDLE} is missing)"),
        ),
        Some(bundle) => match kernel(bundle.trim_start_matches('v')) {
            Some((1, minor)) if minor >= OLDEST_BUNDLE => Finding::ok(GATEWAY_API, format!("version {bundle}")),
            _ => Finding::warn(
                GATEWAY_API,
                format!("version {bundle} is not one the mesh is tested with; install 1.{OLDEST_BUNDLE} or later"),
            ),
        },
    }
}

/// Whether the kinds users write for the mesh are there, in the version this command knows.
pub(super) fn our_kinds(definitions: &[CustomResourceDefinition]) -> Finding {
    let wanted = crds::all();
    let name = |it: &CustomResourceDefinition| it.metadata.name.clone().unwrap_or_default();
    let wrong: Vec<_> = wanted
        .iter()
        .filter(|ours| {
            definition(definitions, &name(ours)).is_none_or(|it| !serves(it, crds::VERSION) || !is_established(it))
        })
        .map(name)
        .collect();
    if wrong.is_empty() {
        Finding::ok(
            OUR_KINDS,
            format!("{}, version {}", counted(wanted.len(), "kind"), crds::VERSION),
        )
    } else {
        Finding::fail(
            OUR_KINDS,
            format!(
                "{} not there or not served as {}, so that what users write of it has no effect; run: weft upgrade",
                names(&wrong),
                crds::VERSION
            ),
        )
    }
}

fn definition<'d>(all: &'d [CustomResourceDefinition], name: &str) -> Option<&'d CustomResourceDefinition> {
    all.iter().find(|it| it.metadata.name.as_deref() == Some(name))
}

fn serves(definition: &CustomResourceDefinition, version: &str) -> bool {
    definition
        .spec
        .versions
        .iter()
        .any(|it| it.name == version && it.served)
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Established" && condition.status == "True")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::finding::Severity::{self, Fail, Ok, Warn};

    fn results(findings: &[Finding]) -> Vec<Severity> {
        findings.iter().map(|it| it.result).collect()
    }

    #[test]
    fn old_clusters_are_refused_and_providers_suffixes_understood() {
        for (minor, expected) in [("34", Ok), ("33+", Ok), ("32", Fail), ("", Warn)] {
            assert_eq!(kubernetes("1", minor).result, expected, "{minor}");
        }
    }

    #[test]
    fn kernels_that_cannot_capture_fail_and_those_without_cgroup_matching_warn() {
        let node = |kernel: &str, system: &str| -> Node {
            let info = json!({ "kernelVersion": kernel, "operatingSystem": system, "architecture": "", "bootID": "",
                "containerRuntimeVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "",
                "osImage": "", "systemUUID": "" });
            serde_json::from_value(json!({ "metadata": { "name": "n" }, "status": { "nodeInfo": info } }))
                .expect("a node")
        };
        for (kernel, system, expected) in [
            ("6.18.44-fc-v669", "linux", Ok),
            ("5.13.0", "linux", Ok),
            ("5.10.0-8-amd64", "linux", Warn),
            ("4.18.0-553.el8_10.x86_64", "linux", Fail),
            ("unknown", "linux", Warn),
            ("10.0.20348.2340", "windows", Warn),
        ] {
            assert_eq!(results(&kernels(&[node(kernel, system)])), [expected], "{kernel}");
        }
        assert_eq!(
            results(&kernels(&[node("6.1.0", "linux"), node("4.4.0", "linux")])),
            [Fail, Ok]
        );
        assert_eq!(results(&kernels(&[Node::default()])), [Warn]);
    }

    #[test]
    fn clocks_apart_are_named_with_how_far() {
        let of = |by: i64| clocks(&[("the API server".into(), 0), ("ztunnel-a".into(), by)]);
        assert_eq!(results(&of(3)), [Ok]);
        assert_eq!(results(&of(-30)), [Warn]);
        assert!(of(-30)[0].what.contains("ztunnel-a (30 s behind)"), "{:?}", of(-30));
        assert_eq!(results(&of(600)), [Fail]);
        assert!(clocks(&[]).is_empty());
    }

    #[test]
    fn kinds_must_be_there_served_and_established() {
        let definition = |name: &str, version: &str, bundle: Option<&str>| -> CustomResourceDefinition {
            let annotations = bundle.map(|bundle| json!({ BUNDLE: bundle }));
            serde_json::from_value(json!({
                "metadata": { "name": name, "annotations": annotations },
                "spec": { "group": "", "scope": "", "names": { "kind": "", "plural": "" },
                    "versions": [{ "name": version, "served": true, "storage": true }] },
                "status": { "conditions": [{ "type": "Established", "status": "True" }] },
            }))
            .expect("a definition")
        };
        let gateway = |version: &str, bundle: Option<&str>| {
            let all: Vec<_> = GATEWAY_KINDS
                .iter()
                .map(|name| definition(name, version, bundle))
                .collect();
            gateway_api(&all).result
        };
        assert_eq!(gateway_api(&[]).result, Ok);
        assert_eq!(gateway("v1", Some("v1.4.0")), Ok);
        assert_eq!(gateway("v1", Some("v0.8.1")), Warn);
        assert_eq!(gateway("v1", None), Warn);
        assert_eq!(gateway("v1beta1", Some("v0.8.1")), Fail);
        assert_eq!(our_kinds(&[]).result, Fail);
        let ours: Vec<_> = crds::all()
            .iter()
            .map(|it| definition(it.metadata.name.as_deref().expect("a name"), crds::VERSION, None))
            .collect();
        assert_eq!(our_kinds(&ours).result, Ok);
        assert_eq!(our_kinds(&ours[1..]).result, Fail);
    }
}
