//! kube-proxy's and cluster DNS's stand-ins: nftables rules per node, a hosts file per namespace.

use std::{collections::BTreeSet, fmt::Write as _, net::IpAddr};

use super::{
    network::{SERVICES, SERVICES_V6},
    objects::{Objects, Pod, Service, ServicePort},
};

/// The node's rules, as one transaction of `nft`: connections to a Service go to one of its ready pods at random,
/// those to a Service without any are refused, and a pod that reaches itself by its Service is masqueraded.
pub(super) fn rules(objects: &Objects) -> String {
    let mut destinations = String::new();
    let mut behind = BTreeSet::new();
    for service in &objects.services {
        for port in &service.ports {
            for address in &service.addresses {
                let endpoints = endpoints(objects, service, port, address.is_ipv4());
                behind.extend(endpoints.iter().map(|(address, _)| *address));
                if let Some(rule) = destination(*address, port, &endpoints) {
                    let _ = writeln!(destinations, "    {rule} # {}/{}", service.namespace, service.name);
                }
            }
        }
    }
    let mut hairpins = String::new();
    for address in behind {
        let family = family(address);
        let _ = writeln!(
            hairpins,
            "    ct status dnat {family} saddr {address} {family} daddr {address} masquerade"
        );
    }
    format!(
        "table inet services
delete table inet services
table inet services {{
  chain destinations {{
{destinations}  }}
  chain forwarded {{
    type nat hook prerouting priority -100
    jump destinations
  }}
  chain local {{
    type nat hook output priority -100
    jump destinations
  }}
  chain hairpins {{
    type nat hook postrouting priority 100
{hairpins}  }}
  chain nobody {{
    ip daddr {SERVICES} meta l4proto tcp reject with tcp reset
    ip6 daddr {SERVICES_V6} meta l4proto tcp reject with tcp reset
    ip daddr {SERVICES} reject
    ip6 daddr {SERVICES_V6} reject
  }}
  chain forwarded_to_nobody {{
    type filter hook forward priority 0
    jump nobody
  }}
  chain local_to_nobody {{
    type filter hook output priority 0
    jump nobody
  }}
}}
"
    )
}

/// What a pod of this namespace finds in `/etc/hosts`: itself, and every Service under the names that cluster DNS
/// would know (`name.namespace.svc.cluster.local` and shorter, in its own namespace the bare name).
pub(super) fn hosts(objects: &Objects, pod: &Pod) -> String {
    let mut text = String::from("127.0.0.1 localhost\n::1 localhost\n");
    for address in &pod.addresses {
        let _ = writeln!(text, "{address} {}", pod.name);
    }
    for service in &objects.services {
        let Service { name, namespace, .. } = service;
        for address in &service.addresses {
            let _ = write!(
                text,
                "{address} {name}.{namespace}.svc.cluster.local {name}.{namespace}.svc {name}.{namespace}"
            );
            text.push_str(&if *namespace == pod.namespace {
                format!(" {name}\n")
            } else {
                "\n".into()
            });
        }
    }
    text
}

fn endpoints(objects: &Objects, service: &Service, port: &ServicePort, v4: bool) -> Vec<(IpAddr, u16)> {
    let selects = |pod: &&Pod| {
        pod.ready
            && pod.namespace == service.namespace
            && !service.selector.is_empty()
            && service
                .selector
                .iter()
                .all(|(key, value)| pod.labels.get(key) == Some(value))
    };
    objects
        .pods
        .values()
        .filter(selects)
        .filter_map(|pod| {
            let address = pod.addresses.iter().find(|it| it.is_ipv4() == v4)?;
            Some((*address, pod.port(port)?))
        })
        .collect()
}

fn destination(address: IpAddr, port: &ServicePort, endpoints: &[(IpAddr, u16)]) -> Option<String> {
    if port.protocol.as_ref().is_some_and(|it| it != "TCP") {
        return None;
    }
    let family = family(address);
    let to = match endpoints {
        [] => return None,
        [(one, target)] => match one {
            IpAddr::V4(one) => format!("{one}:{target}"),
            IpAddr::V6(one) => format!("[{one}]:{target}"),
        },
        many => {
            let choices: Vec<_> = many
                .iter()
                .enumerate()
                .map(|(index, (one, target))| format!("{index} : {one} . {target}"))
                .collect();
            format!("numgen random mod {} map {{ {} }}", many.len(), choices.join(", "))
        }
    };
    Some(format!(
        "{family} daddr {address} tcp dport {} dnat {family} to {to}",
        port.port
    ))
}

fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ip" } else { "ip6" }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const YAML: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop, labels: {app: web}}
spec: {nodeName: node-1, containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.77.1.9}, {ip: "fd77:0:0:1::9"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: shop, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: web, ports: [{name: http, containerPort: 8081}]}]}
status: {podIP: 10.77.2.9}
---
apiVersion: v1
kind: Pod
metadata: {name: late, namespace: shop, labels: {app: web}}
spec: {nodeName: node-2, containers: [{name: web, ports: [{name: http, containerPort: 8081}]}]}
status: {podIP: 10.77.2.10, conditions: [{type: Ready, status: "False"}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  clusterIPs: [10.78.0.5, "fd78::5"]
  selector: {app: web}
  ports: [{port: 80, targetPort: http}, {port: 53, protocol: UDP}]
---
apiVersion: v1
kind: Service
metadata: {name: nobody, namespace: shop}
spec: {clusterIP: 10.78.0.6, selector: {app: absent}, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: other}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80}]}
"#;

    fn objects() -> Objects {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("a.yaml"), YAML).unwrap();
        Objects::read(directory.path()).unwrap()
    }

    #[test]
    fn a_service_goes_to_each_ready_pod_of_its_own_namespace_and_family() {
        let rules = rules(&objects());
        let destinations: Vec<_> = rules
            .lines()
            .filter(|line| line.contains("dport"))
            .map(str::trim)
            .collect();
        assert_eq!(
            destinations,
            [
                "ip daddr 10.78.0.5 tcp dport 80 dnat ip to numgen random mod 2 map \
                 { 0 : 10.77.1.9 . 8080, 1 : 10.77.2.9 . 8081 } # shop/web",
                "ip6 daddr fd78::5 tcp dport 80 dnat ip6 to [fd77:0:0:1::9]:8080 # shop/web",
            ]
        );
        assert!(rules.contains("ct status dnat ip saddr 10.77.1.9 ip daddr 10.77.1.9 masquerade"));
    }

    #[test]
    fn a_hosts_file_has_the_bare_name_in_the_same_namespace_only() {
        let objects = objects();
        let inside = hosts(&objects, &objects.pods["shop/one"]);
        assert!(inside.contains("10.77.1.9 one\n"));
        assert!(inside.contains("10.78.0.5 web.shop.svc.cluster.local web.shop.svc web.shop web\n"));
        let outside = Pod {
            namespace: "other".into(),
            ..Pod::default()
        };
        assert!(hosts(&objects, &outside).contains("10.78.0.5 web.shop.svc.cluster.local web.shop.svc web.shop\n"));
    }
}
