use super::*;

/// `address:port` (with `!` where not ready) of what stands behind each port of a Service.
fn behind(translation: &Translation, name: &str) -> Vec<String> {
    let service = service(translation, name);
    let endpoints = service.endpoints.iter();
    endpoints
        .flat_map(|endpoint| {
            let ready = if endpoint.ready { "" } else { "!" };
            let ports = endpoint.ports.iter();
            ports.map(move |(port, target)| format!("{port}->{}:{target}{ready}", endpoint.address))
        })
        .collect()
}

const PODS: &str = "
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop, uid: a, labels: {app: web, tier: front}}
spec: {nodeName: node-1, containers: [{ports: [{name: main, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, namespace: shop, uid: b, labels: {app: web}}
spec: {nodeName: node-2, containers: [{ports: [{name: main, containerPort: 9090}]}]}
status: {phase: Running, podIP: 10.1.0.2, conditions: [{type: Ready, status: 'False'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: c, namespace: shop, uid: c, labels: {app: web}, deletionTimestamp: '2026-01-01T00:00:00Z'}
spec: {containers: [{ports: [{name: other, containerPort: 7}]}]}
status: {phase: Running, podIP: 10.1.0.3}
---
{apiVersion: v1, kind: Pod, metadata: {name: d, namespace: shop, labels: {app: web}}, status: {phase: Succeeded, podIP: 10.1.0.4}}
---
{apiVersion: v1, kind: Pod, metadata: {name: e, namespace: other, labels: {app: web}}, status: {phase: Running, podIP: 10.1.0.5}}
---
{apiVersion: v1, kind: Pod, metadata: {name: f, namespace: shop, uid: f, labels: {app: db}}, status: {phase: Running, podIP: 10.1.0.6}}
";

#[test]
fn endpoints_come_from_the_selector_where_no_slice_exists() {
    for (spec, expected) in [
        (
            "{clusterIP: 10.2.0.1, selector: {app: web}, ports: [{port: 80, targetPort: main}]}",
            vec!["80->10.1.0.1:8080", "80->10.1.0.2:9090!"],
        ),
        (
            "{clusterIP: 10.2.0.1, selector: {app: web}, ports: [{name: a, port: 80, targetPort: 81}, {name: b, port: 90}, {name: u, port: 53, protocol: UDP}]}",
            vec![
                "80->10.1.0.1:81",
                "90->10.1.0.1:90",
                "80->10.1.0.2:81!",
                "90->10.1.0.2:90!",
                "80->10.1.0.3:81!",
                "90->10.1.0.3:90!",
            ],
        ),
        (
            "{clusterIP: 10.2.0.1, selector: {app: web, tier: front}, ports: [{port: 80}]}",
            vec!["80->10.1.0.1:80"],
        ),
        (
            "{clusterIP: None, selector: {tier: front}, ports: [{port: 80}]}",
            vec!["80->10.1.0.1:80", "80->fd00::1:80"],
        ),
        (
            "{clusterIPs: ['fd01::1'], selector: {tier: front}, ports: [{port: 80}]}",
            vec!["80->fd00::1:80"],
        ),
        (
            "{clusterIP: None, ipFamilies: [IPv4], selector: {tier: front}, ports: [{port: 80}]}",
            vec!["80->10.1.0.1:80"],
        ),
        ("{clusterIP: 10.2.0.1, ports: [{port: 80}]}", vec![]),
        (
            "{clusterIP: 10.2.0.1, selector: {app: none}, ports: [{port: 80}]}",
            vec![],
        ),
    ] {
        let yaml = format!(
            "{PODS}---\n{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop}}, spec: {spec}}}\n"
        );
        assert_eq!(behind(&translation(&yaml), "shop/web"), expected, "{spec}");
    }
}

#[test]
fn endpoints_come_from_slices_once_there_is_one() {
    let slice = |spec: &str| {
        format!(
            "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: web-1, namespace: shop, \
             labels: {{kubernetes.io/service-name: web}}}}, {spec}}}\n"
        )
    };
    for (spec, expected) in [
        (
            "addressType: IPv4, ports: [{name: http-main, port: 8080}], endpoints: [{addresses: [10.9.0.1]}, \
             {addresses: [10.9.0.2], conditions: {ready: false}}, {addresses: [10.1.0.6], targetRef: {kind: Pod, name: f}}]",
            vec!["80->10.1.0.6:8080", "80->10.9.0.1:8080", "80->10.9.0.2:8080!"],
        ),
        (
            "addressType: IPv6, ports: [{name: http-main, port: 1}], endpoints: [{addresses: ['fd00::9']}]",
            vec!["80->fd00::9:1"],
        ),
        (
            "addressType: IPv4, ports: [{name: other, port: 8080}], endpoints: [{addresses: [10.9.0.1]}]",
            vec![],
        ),
        (
            "addressType: FQDN, ports: [{name: http-main, port: 1}], endpoints: [{addresses: [a.example]}]",
            vec![],
        ),
        ("endpoints: []", vec![]),
    ] {
        let mut translation = translation(&format!("{PODS}{WEB}"));
        assert_eq!(behind(&translation, "shop/web").len(), 3);
        add(&mut translation, &slice(spec));
        assert_eq!(behind(&translation, "shop/web"), expected, "{spec}");
        remove(&mut translation, "EndpointSlice", "shop", "web-1");
        assert_eq!(behind(&translation, "shop/web").len(), 3);
    }
}

#[test]
fn a_slice_knows_its_pods_by_reference_or_address_whichever_comes_first() {
    let slice = "
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http-main, port: 8080}]
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: a}}, {addresses: [10.1.0.6]}]
";
    for yaml in [format!("{PODS}{WEB}{slice}"), format!("{slice}{WEB}{PODS}")] {
        let mut translation = Translation::new(MeshSettings::default());
        for object in objects(&yaml) {
            translation.change(put(object));
            translation.settle();
        }
        let behind = service(&translation, "shop/web").endpoints.iter();
        let uids: Vec<_> = behind.map(|it| it.workload.as_deref().unwrap_or("")).collect();
        assert_eq!(uids, ["a", "f"]);
        assert_eq!(workload(&translation, "shop/f").services.len(), 1);
        assert!(workload(&translation, "shop/b").services.is_empty());
    }
}

#[test]
fn no_slice_binds_a_pod_of_another_namespace_to_policies_or_waypoints() {
    let attack = "
---
{apiVersion: v1, kind: Service, metadata: {name: trap, namespace: evil, labels: {weft.dev/use-waypoint: way}}, spec: {ports: [{port: 80}]}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: way, namespace: evil}
spec: {gatewayClassName: weft-waypoint, listeners: [{name: mesh, port: 15008, protocol: HBONE}]}
---
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: let-me-in, namespace: evil}
spec: {targetRefs: [{kind: Service, name: trap}], rules: [{}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: trap-1, namespace: evil, labels: {kubernetes.io/service-name: trap}}
ports: [{port: 80}]
endpoints: [{addresses: [10.1.0.1], targetRef: {kind: Pod, name: a, namespace: shop}}, {addresses: [10.1.0.6]}]
";
    let translation = translation(&format!("{PODS}{attack}"));
    assert_eq!(behind(&translation, "evil/trap").len(), 2);
    for victim in ["shop/a", "shop/f"] {
        let victim = workload(&translation, victim);
        assert!(applied(victim).is_empty() && bound(victim).is_empty() && victim.services.is_empty());
    }
}

#[test]
fn a_service_without_cluster_ip_has_no_address_and_an_external_one_does_not_exist() {
    let translation = translation(
        "---
{apiVersion: v1, kind: Service, metadata: {name: headless, namespace: shop}, spec: {clusterIP: None, ports: [{port: 80, appProtocol: HTTP2}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: outside, namespace: shop}, spec: {type: ExternalName, ports: [{port: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: dual, namespace: shop}, spec: {clusterIP: 10.2.0.1, clusterIPs: [10.2.0.1, 'fd01::1'], publishNotReadyAddresses: true, ports: [{name: grpc-web, port: 80}, {name: admin, port: 81}]}}
",
    );
    assert!(service(&translation, "shop/headless").addresses.is_empty());
    assert_eq!(
        service(&translation, "shop/headless").ports[0].app_protocol.as_deref(),
        Some("http2")
    );
    assert_eq!(translation.snapshot().services.len(), 2);
    let dual = service(&translation, "shop/dual");
    assert!(dual.publish_not_ready);
    let told_protocols: Vec<_> = dual.ports.iter().map(|port| port.app_protocol.as_deref()).collect();
    assert_eq!(told_protocols, [Some("grpc"), None]);
    for address in ["10.2.0.1", "fd01::1"] {
        assert_eq!(
            translation.snapshot().service_at(address.parse().unwrap()).unwrap().key,
            dual.key
        );
    }
    assert!(told(&translation).is_empty());
}

#[test]
fn of_two_services_with_one_address_the_older_owns_it() {
    let service = |name: &str, created: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: shop{created}}}, spec: {{clusterIP: 10.2.0.1, ports: [{{port: 80}}]}}}}\n"
        )
    };
    let owner = |translation: &Translation| {
        let owner = translation.snapshot().service_at("10.2.0.1".parse().unwrap());
        owner.map(|it| it.key.name.to_string())
    };
    let (a, b) = (
        service("a", ""),
        service("b", ", creationTimestamp: '2026-01-01T00:00:00Z'"),
    );
    for yaml in [format!("{a}{b}"), format!("{b}{a}")] {
        let mut translation = translation(&yaml);
        assert_eq!(owner(&translation).as_deref(), Some("b"));
        assert!(told(&translation)[0].starts_with("Service shop/a spec.clusterIP: "));
        remove(&mut translation, "Service", "shop", "b");
        assert_eq!(owner(&translation).as_deref(), Some("a"));
        assert!(told(&translation).is_empty());
    }
}

#[test]
fn a_headless_services_endpoints_outside_are_known_by_address_and_port() {
    let headless = |labels: &str, address: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: db, namespace: shop{labels}}}, \
             spec: {{clusterIP: {address}, ports: [{{port: 5432}}]}}}}\n"
        )
    };
    let slice = "---\n{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: db-1, namespace: shop, \
                 labels: {kubernetes.io/service-name: db}}, ports: [{port: 5433}], \
                 endpoints: [{addresses: [192.0.2.9]}, {addresses: [10.1.0.2]}]}\n";
    let known = |translation: &Translation| {
        let all = translation.snapshot().endpoints_outside.iter();
        let mut all: Vec<String> = all.map(|(at, key)| format!("{at} {key}")).collect();
        all.sort();
        all
    };
    let web = pod("shop", "web", "10.1.0.2", "");
    let mut translation = translation(&format!("{SHOP}{web}{}{slice}", headless("", "None")));
    assert_eq!(known(&translation), ["192.0.2.9:5433 shop/db"]);
    for other in [
        headless("", "10.2.0.7"),
        headless(", labels: {weft.dev/use-waypoint: way}", "None"),
    ] {
        add(&mut translation, &other);
        assert_eq!(known(&translation), Vec::<String>::new(), "{other}");
        add(&mut translation, &headless("", "None"));
        assert_eq!(known(&translation).len(), 1);
    }
    remove(&mut translation, "EndpointSlice", "shop", "db-1");
    assert_eq!(known(&translation), Vec::<String>::new());
}
