use super::*;

fn gateway(namespace: &str, name: &str, labels: &str, listener: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec: {{gatewayClassName: weft-waypoint, listeners: [{{name: mesh, port: 15008, protocol: HBONE{listener}}}]}}
"
    )
}

/// Namespace shop with Service web before pod web, each object with these labels.
fn shop(namespace: &str, service: &str, account: &str, pod: &str) -> String {
    format!(
        "---
{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{{namespace}}}}}}}
---
{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: web, namespace: shop, labels: {{{account}}}}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: web, namespace: shop, labels: {{{service}}}}}, spec: {{clusterIP: 10.2.0.1, selector: {{app: web}}, ports: [{{port: 80, targetPort: 8080}}]}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, uid: web, labels: {{app: web, {pod}}}}}
spec: {{serviceAccountName: web}}
status: {{phase: Running, podIP: 10.1.0.2}}
"
    )
}

fn to_service(translation: &Translation) -> String {
    let waypoint = &service(translation, "shop/web").waypoint;
    waypoint.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn to_pod(translation: &Translation) -> String {
    let waypoint = &workload(translation, "shop/web").waypoint;
    waypoint.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

#[test]
fn the_most_specific_label_binds() {
    let gateways: String = ["n", "s", "a", "p"]
        .iter()
        .map(|name| gateway("shop", name, "weft.dev/waypoint-for: all", ""))
        .collect();
    let label = |name: &str| match name {
        "" => String::new(),
        name => format!("weft.dev/use-waypoint: {name}"),
    };
    // (namespace, Service, account, pod) -> (Service-addressed, pod-addressed)
    for ((namespace, service, account, pod), expected) in [
        (("", "", "", ""), ("-", "-")),
        (("n", "", "", ""), ("shop/n", "shop/n")),
        (("n", "", "a", ""), ("shop/a", "shop/a")),
        (("n", "s", "a", ""), ("shop/s", "shop/a")),
        (("n", "s", "a", "p"), ("shop/s", "shop/p")),
        (("n", "", "", "p"), ("shop/n", "shop/p")),
        (("n", "none", "a", "none"), ("-", "-")),
        (("n", "", "none", ""), ("-", "-")),
        (("", "", "", "none"), ("-", "-")),
    ] {
        let yaml = format!(
            "{gateways}{}",
            shop(&label(namespace), &label(service), &label(account), &label(pod))
        );
        let translation = translation(&yaml);
        assert_eq!((&*to_service(&translation), &*to_pod(&translation)), expected, "{yaml}");
        assert!(told(&translation).is_empty());
    }
}

#[test]
fn a_service_account_binds_a_service_only_if_all_endpoints_share_it() {
    let mut translation = translation(&format!(
        "{}{}",
        gateway("shop", "way", "", ""),
        shop("", "", "weft.dev/use-waypoint: way", "")
    ));
    assert_eq!(to_service(&translation), "shop/way");
    add(
        &mut translation,
        "{apiVersion: v1, kind: Pod, metadata: {name: canary, namespace: shop, labels: {app: web}}, spec: {serviceAccountName: other}}",
    );
    assert_eq!(to_service(&translation), "-");
    remove(&mut translation, "Pod", "shop", "canary");
    assert_eq!(to_service(&translation), "shop/way");
    remove(&mut translation, "ServiceAccount", "shop", "web");
    assert_eq!(to_service(&translation), "-");
    add(
        &mut translation,
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop, labels: {weft.dev/use-waypoint: way}}}",
    );
    assert_eq!(to_service(&translation), "shop/way");
}

#[test]
fn a_waypoint_takes_the_traffic_its_label_says() {
    for (takes, expected) in [
        ("", ("shop/way", "-")),
        ("service", ("shop/way", "-")),
        ("workload", ("-", "shop/way")),
        ("all", ("shop/way", "shop/way")),
        ("none", ("-", "-")),
        ("servcie", ("shop/way", "shop/way")),
    ] {
        let label = if takes.is_empty() {
            String::new()
        } else {
            format!("weft.dev/waypoint-for: {takes}")
        };
        let translation = translation(&format!(
            "{}{}",
            gateway("shop", "way", &label, ""),
            shop("weft.dev/use-waypoint: way", "", "", "")
        ));
        assert_eq!(
            (&*to_service(&translation), &*to_pod(&translation)),
            expected,
            "{takes}"
        );
        assert_eq!(told(&translation).len(), usize::from(takes == "servcie"));
    }
}

#[test]
fn a_waypoint_that_is_absent_or_cannot_be_had_is_still_asked_for() {
    let foreign = "weft.dev/use-waypoint: way, weft.dev/use-waypoint-namespace: infra";
    for (label, gateways, expected) in [
        ("weft.dev/use-waypoint: way", String::new(), "shop/way"),
        (
            "weft.dev/use-waypoint: auto",
            gateway("shop", "auto", "", ""),
            "shop/auto (not provisioned yet)",
        ),
        (foreign, String::new(), "infra/way"),
        (
            foreign,
            gateway("infra", "way", "", ""),
            "infra/way (does not admit namespace shop)",
        ),
        (
            foreign,
            gateway(
                "infra",
                "way",
                "",
                ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: other}}}}",
            ),
            "infra/way (does not admit namespace shop)",
        ),
        (
            "weft.dev/use-waypoint: way",
            gateway("shop", "way", "", "").replace("weft-waypoint", "other"),
            "shop/way",
        ),
    ] {
        let translation = translation(&format!("{gateways}{}", shop("", label, "", "")));
        let service = service(&translation, "shop/web");
        let key = service.waypoint.as_ref().expect("a waypoint");
        assert_eq!(key.to_string(), expected);
        assert!(translation.snapshot().waypoints.get(key).is_none());
        assert!(bound(workload(&translation, "shop/web")).is_empty());
        let told = told(&translation);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(
            told[0].starts_with("Service shop/web metadata.labels[weft.dev/use-waypoint]: "),
            "{told:?}"
        );
    }
}

#[test]
fn a_waypoint_of_another_namespace_serves_those_its_listener_admits() {
    let label = "weft.dev/use-waypoint: way, weft.dev/use-waypoint-namespace: infra, team: a";
    for listener in [
        ", allowedRoutes: {namespaces: {from: All}}",
        ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}",
        ", allowedRoutes: {namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [a, b]}]}}}",
        ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: shop}}}}",
    ] {
        let mut translation = translation(&shop(label, "", "", ""));
        assert_eq!(to_service(&translation), "infra/way");
        add(&mut translation, &gateway("infra", "way", "", listener));
        assert!(told(&translation).is_empty(), "{:?}", told(&translation));
        assert_eq!(bound(workload(&translation, "shop/web")), ["infra/way [8080]"]);
        remove(&mut translation, "Gateway", "infra", "way");
        assert!(bound(workload(&translation, "shop/web")).is_empty());
        assert_eq!(told(&translation).len(), 1);
    }
}

#[test]
fn a_label_of_a_namespace_decides_what_a_foreign_waypoint_admits() {
    let label = "weft.dev/use-waypoint: way, weft.dev/use-waypoint-namespace: infra";
    let listener = ", allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}";
    let mut translation = translation(&format!(
        "{}{}",
        shop("", label, "", ""),
        gateway("infra", "way", "", listener)
    ));
    assert_eq!(told(&translation).len(), 1);
    add(
        &mut translation,
        "{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: a}}}",
    );
    assert_eq!(to_service(&translation), "infra/way");
    assert!(told(&translation).is_empty());
}

#[test]
fn the_pods_of_a_waypoint_are_those_that_run_as_its_account() {
    let mut translation = translation(&format!("{SHOP}{WAYPOINT}"));
    let waypoint = |translation: &Translation| translation.snapshot().waypoints.values().next().expect("one").clone();
    let way = waypoint(&translation);
    assert_eq!(way.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/way");
    assert_eq!(way.endpoints[0].address, "10.1.0.9:15008".parse().unwrap());
    assert_eq!(&*way.endpoints[0].node, "node-2");
    let pod = workload(&translation, "shop/way-1");
    assert_eq!(pod.capture, decide::model::Capture::Native);
    assert_eq!(pod.serves.as_ref(), Some(&way.key));
    add(
        &mut translation,
        "{apiVersion: v1, kind: Pod, metadata: {name: fake, namespace: shop, uid: fake, labels: {gateway.networking.k8s.io/gateway-name: way}},
          spec: {serviceAccountName: other}, status: {phase: Running, podIP: 10.1.0.8}}",
    );
    assert_eq!(waypoint(&translation).endpoints.len(), 1);
    assert_eq!(workload(&translation, "shop/fake").serves, None);
    assert!(
        told(&translation)[0].starts_with("Pod shop/fake metadata.labels[gateway.networking.k8s.io/gateway-name]: ")
    );
    remove(&mut translation, "Pod", "shop", "way-1");
    assert!(waypoint(&translation).endpoints.is_empty());
    remove(&mut translation, "Gateway", "shop", "way");
    assert!(translation.snapshot().waypoints.is_empty());
    assert!(told(&translation).is_empty());
}

#[test]
fn a_pod_that_is_not_ready_does_not_serve_its_waypoint_yet() {
    for status in [
        "{phase: Pending, podIP: 10.1.0.9}",
        "{phase: Running, podIP: 10.1.0.9, conditions: [{type: Ready, status: 'False'}]}",
        "{phase: Running}",
        "{phase: Failed, podIP: 10.1.0.9}",
    ] {
        let yaml = WAYPOINT.replace("{phase: Running, podIP: 10.1.0.9}", status);
        let translation = translation(&yaml);
        let way = translation.snapshot().waypoints.values().next().expect("one");
        assert!(way.endpoints.is_empty(), "{status}");
    }
}

#[test]
fn a_waypoint_stands_behind_no_waypoint() {
    let translation = translation(&format!(
        "{WAYPOINT}---
{{apiVersion: v1, kind: Namespace, metadata: {{name: shop, labels: {{weft.dev/use-waypoint: way}}}}}}
---
{{apiVersion: v1, kind: Service, metadata: {{name: way, namespace: shop}}, spec: {{clusterIP: 10.2.0.9, selector: {{gateway.networking.k8s.io/gateway-name: way}}, ports: [{{port: 15008}}]}}}}
"
    ));
    assert_eq!(service(&translation, "shop/way").waypoint, None);
    assert_eq!(workload(&translation, "shop/way-1").waypoint, None);
    assert!(bound(workload(&translation, "shop/way-1")).is_empty());
}

#[test]
fn a_gateway_without_an_hbone_listener_is_told() {
    let translation = translation(
        "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: way, namespace: shop},
          spec: {gatewayClassName: weft-waypoint, listeners: [{name: web, port: 80, protocol: HTTP}]}}",
    );
    assert!(told(&translation)[0].starts_with("Gateway shop/way spec.listeners: "));
}

#[test]
fn a_namespace_label_alone_is_told_as_well() {
    let translation = translation(
        "---
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {weft.dev/use-waypoint: way}}}
---
{apiVersion: v1, kind: ServiceAccount, metadata: {name: web, namespace: shop, labels: {weft.dev/use-waypoint-namespace: infra}}}
",
    );
    let told = told(&translation);
    assert!(
        told[0].starts_with("Namespace shop metadata.labels[weft.dev/use-waypoint]: "),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("ServiceAccount shop/web metadata.labels[weft.dev/use-waypoint-namespace]: "),
        "{told:?}"
    );
}
