//! Which network plugin the cluster has, and what of it stands in the mesh's way. Pure.

use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::ConfigMap};

use crate::finding::{Finding, names};

const CHECK: &str = "CNI";

/// Network plugins by the DaemonSet that runs them.
const KINDS: &[(&str, &str)] = &[
    ("cilium", "Cilium"),
    ("calico-node", "Calico"),
    ("canal", "Canal"),
    ("kube-flannel-ds", "Flannel"),
    ("kindnet", "kindnet"),
    ("aws-node", "Amazon VPC CNI"),
    ("azure-cns", "Azure CNI"),
    ("antrea-agent", "Antrea"),
    ("ovnkube-node", "OVN-Kubernetes"),
    ("kube-ovn-cni", "Kube-OVN"),
    ("weave-net", "Weave Net"),
    ("kube-router", "kube-router"),
    ("kube-multus-ds", MULTUS),
    ("multus", MULTUS),
];
const MULTUS: &str = "Multus";

/// What is known of the cluster's network plugins.
#[derive(Debug, Default)]
pub(super) struct Plugins<'p> {
    pub(super) daemon_sets: &'p [DaemonSet],
    /// `kube-system/cilium-config`.
    pub(super) cilium: Option<&'p ConfigMap>,
}

/// The plugins found, and each known trap.
pub(super) fn judge(plugins: &Plugins<'_>) -> Vec<Finding> {
    let mut kinds: Vec<&str> = KINDS
        .iter()
        .filter(|(name, _)| daemon_set(plugins, name).is_some())
        .map(|(_, kind)| *kind)
        .collect();
    kinds.dedup();
    let mut findings = Vec::new();
    if kinds.contains(&"Cilium") || plugins.cilium.is_some() {
        findings.extend(cilium(plugins.cilium));
    }
    findings.extend(daemon_set(plugins, "calico-node").and_then(calico));
    findings.extend(daemon_set(plugins, "aws-node").and_then(amazon));
    if kinds.contains(&MULTUS) {
        findings.push(Finding::warn(
            CHECK,
            "Multus: only a pod's first interface is in the mesh; traffic over further ones is neither encrypted nor judged",
        ));
    }
    if findings.is_empty() {
        findings.push(match kinds.is_empty() {
            true => Finding::ok(CHECK, "no plugin with known traps was found"),
            false => Finding::ok(CHECK, format!("{}, no known trap", names(&kinds))),
        });
    }
    findings
}

fn cilium(config: Option<&ConfigMap>) -> Vec<Finding> {
    let Some(config) = config else {
        return vec![Finding::warn(
            CHECK,
            "Cilium: its ConfigMap kube-system/cilium-config is not there, so that its settings cannot be checked",
        )];
    };
    let set = |key: &str| config.data.as_ref().and_then(|data| data.get(key)).map(String::as_str);
    let is_on = |key: &str| set(key) == Some("true");
    let mut findings = Vec::new();
    // Before 1.14 the replacement was called strict or partial.
    let replaces = matches!(set("kube-proxy-replacement"), Some("true" | "strict" | "partial"));
    let balances = set("bpf-lb-sock").map_or(replaces, |value| value == "true");
    if balances && !is_on("bpf-lb-sock-hostns-only") {
        findings.push(Finding::fail(
            CHECK,
            "Cilium's socket load balancer rewrites Service addresses inside pods, before the mesh can see which Service \
             was meant, so that waypoints and Service policies are passed by; set socketLB.hostNamespaceOnly=true in \
             its Helm values (bpf-lb-sock-hostns-only in cilium-config)",
        ));
    }
    if set("cni-exclusive") != Some("false") {
        findings.push(Finding::fail(
            CHECK,
            "Cilium removes every other plugin from the CNI configuration (cni-exclusive), so that new pods would start \
             uncaptured; set cni.exclusive=false in its Helm values",
        ));
    }
    if is_on("enable-ztunnel") || set("encryption-type") == Some("ztunnel") {
        findings.push(Finding::fail(
            CHECK,
            "Cilium's own ztunnel encryption is on and redirects the same traffic; choose one, with encryption.enabled=false",
        ));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "Cilium, set as the mesh needs it"));
    }
    findings
}

/// Calico's eBPF data path balances at connect(2) as Cilium's does.
fn calico(daemon_set: &DaemonSet) -> Option<Finding> {
    let ebpf = variable(daemon_set, "FELIX_BPFENABLED") == Some("true");
    let at_connect = variable(daemon_set, "FELIX_BPFCONNECTTIMELOADBALANCING");
    (ebpf && at_connect != Some("Disabled")).then(|| {
        Finding::fail(
            CHECK,
            "Calico's eBPF data path rewrites Service addresses at connect, before the mesh can see which Service was \
             meant; set bpfConnectTimeLoadBalancing: Disabled and bpfHostNetworkedNATWithoutCTLB: Enabled in its \
             FelixConfiguration",
        )
    })
}

fn amazon(daemon_set: &DaemonSet) -> Option<Finding> {
    let own_interfaces = variable(daemon_set, "ENABLE_POD_ENI") == Some("true");
    let mode = variable(daemon_set, "POD_SECURITY_GROUP_ENFORCING_MODE");
    (own_interfaces && mode != Some("standard")).then(|| {
        Finding::fail(
            CHECK,
            "Amazon VPC CNI enforces security groups for pods strictly, which drops kubelet probes of captured pods; set \
             POD_SECURITY_GROUP_ENFORCING_MODE=standard on the DaemonSet aws-node",
        )
    })
}

fn daemon_set<'p>(plugins: &Plugins<'p>, name: &str) -> Option<&'p DaemonSet> {
    let named = |it: &&DaemonSet| it.metadata.name.as_deref() == Some(name);
    plugins.daemon_sets.iter().find(named)
}

fn variable<'d>(daemon_set: &'d DaemonSet, name: &str) -> Option<&'d str> {
    let pod = daemon_set.spec.as_ref()?.template.spec.as_ref()?;
    let mut all = pod
        .containers
        .iter()
        .flat_map(|container| container.env.iter().flatten());
    all.find(|it| it.name == name)?.value.as_deref()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::finding::Severity::{Fail, Ok, Warn};

    fn daemon_set(name: &str, env: Value) -> DaemonSet {
        let spec = json!({ "selector": {}, "template": { "spec": { "containers": [{ "name": "c", "env": env }] } } });
        serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).expect("a DaemonSet")
    }

    fn cilium_with(data: Value) -> Vec<Finding> {
        let config: ConfigMap = serde_json::from_value(json!({ "data": data })).expect("a ConfigMap");
        judge(&Plugins {
            daemon_sets: &[daemon_set("cilium", json!([]))],
            cilium: Some(&config),
        })
    }

    #[test]
    fn ciliums_traps_are_found_where_they_are_set() {
        let safe =
            json!({ "kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true", "cni-exclusive": "false" });
        let with = |key: &str, value: &str| {
            let mut data = safe.clone();
            data[key] = json!(value);
            let found = cilium_with(data);
            (found[0].result, found.len())
        };
        assert_eq!(cilium_with(safe.clone())[0].result, Ok);
        for (key, value, expected) in [
            ("bpf-lb-sock-hostns-only", "false", Fail),
            ("cni-exclusive", "true", Fail),
            ("encryption-type", "ztunnel", Fail),
            ("bpf-lb-sock", "true", Ok),
        ] {
            assert_eq!(with(key, value), (expected, 1), "{key}={value}");
        }
        let no_replacement = json!({ "kube-proxy-replacement": "false", "cni-exclusive": "false" });
        assert_eq!(cilium_with(no_replacement)[0].result, Ok);
        let socket_only = json!({ "kube-proxy-replacement": "false", "bpf-lb-sock": "true", "cni-exclusive": "false" });
        assert_eq!(cilium_with(socket_only)[0].result, Fail);
        assert_eq!(
            cilium_with(json!({}))[0].result,
            Fail,
            "cni.exclusive is Cilium's default"
        );
    }

    #[test]
    fn other_plugins_traps_are_in_their_environment() {
        let found = |name: &str, env: Value| {
            let sets = [daemon_set(name, env)];
            let plugins = Plugins {
                daemon_sets: &sets,
                cilium: None,
            };
            judge(&plugins)[0].result
        };
        let variable = |name: &str, value: &str| json!({ "name": name, "value": value });
        let ebpf = variable("FELIX_BPFENABLED", "true");
        let off = variable("FELIX_BPFCONNECTTIMELOADBALANCING", "Disabled");
        let own = variable("ENABLE_POD_ENI", "true");
        for (name, env, expected) in [
            ("calico-node", json!([]), Ok),
            ("calico-node", json!([ebpf]), Fail),
            ("calico-node", json!([ebpf, off]), Ok),
            ("aws-node", json!([own]), Fail),
            (
                "aws-node",
                json!([own, variable("POD_SECURITY_GROUP_ENFORCING_MODE", "standard")]),
                Ok,
            ),
            ("kube-multus-ds", json!([]), Warn),
            ("cilium", json!([]), Warn),
            ("kindnet", json!([]), Ok),
            ("unheard-of", json!([]), Ok),
        ] {
            assert_eq!(found(name, env.clone()), expected, "{name} {env}");
        }
    }
}
