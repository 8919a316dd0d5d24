use super::*;

fn service_yaml(namespace: &str, name: &str, ports: &str) -> String {
    format!(
        "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{clusterIP: None, ports: [{ports}]}}}}\n"
    )
}

fn route(namespace: &str, name: &str, parent: &str, rules: &str) -> String {
    format!(
        "---\n{{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {{name: {name}, namespace: {namespace}}}, \
         spec: {{parentRefs: [{{group: '', kind: Service, {parent}}}], rules: [{rules}]}}}}\n"
    )
}

fn shop() -> String {
    format!(
        "{}{}{}",
        service_yaml("shop", "web", "{name: http, port: 80}, {name: admin, port: 81}"),
        service_yaml("shop", "v2", "{port: 80}"),
        service_yaml("other", "web", "{port: 80}"),
    )
}

/// `name[:port] (rule: backend:port*weight[!] …)` of every route of a Service.
fn routes(translation: &Translation, name: &str) -> Vec<String> {
    let describe = |rule: &decide::model::RouteRule| {
        let backends = rule.backends.iter();
        let backends: Vec<String> = backends
            .map(|it| {
                format!(
                    "{}:{}*{}{}",
                    it.service,
                    it.port,
                    it.weight,
                    if it.broken.is_some() { "!" } else { "" }
                )
            })
            .collect();
        format!(
            "{}{}",
            backends.join(" "),
            if rule.broken.is_some() { " broken" } else { "" }
        )
    };
    let all = service(translation, name).routes.iter();
    all.map(|route| {
        let port = route.parent_port.map(|port| format!(":{port}")).unwrap_or_default();
        let kind = if route.consumer { " consumer" } else { "" };
        let rules: Vec<String> = route.rules.iter().map(describe).collect();
        format!("{}{port}{kind} ({})", route.object.name, rules.join("; "))
    })
    .collect()
}

#[test]
fn a_route_is_attached_to_its_parents_with_its_backends() {
    for (parent, rules, expected) in [
        (
            "name: web, port: 80",
            "{backendRefs: [{name: v2, port: 80, weight: 9}, {name: web, port: 81}]}",
            "r:80 (shop/v2:80*9 shop/web:81*1)",
        ),
        (
            "name: web",
            "{backendRefs: [{name: v2, port: 80, weight: 0}]}",
            "r (shop/v2:80*0)",
        ),
        (
            "name: web, sectionName: admin",
            "{backendRefs: [{name: v2, port: 80}]}",
            "r:81 (shop/v2:80*1)",
        ),
        ("name: web, port: 80", "{name: plain}", "r:80 (shop/web:80*1)"),
    ] {
        let translation = translation(&format!("{}{}", shop(), route("shop", "r", parent, rules)));
        assert_eq!(routes(&translation, "shop/web"), [expected]);
        assert!(told(&translation).is_empty(), "{:?}", told(&translation));
    }
}

#[test]
fn a_rule_without_backends_goes_to_the_port_it_came_for() {
    let translation = translation(&format!("{}{}", shop(), route("shop", "r", "name: web", "{}")));
    assert_eq!(
        routes(&translation, "shop/web"),
        ["r:80 (shop/web:80*1)", "r:81 (shop/web:81*1)"]
    );
}

#[test]
fn references_wait_for_what_is_absent_and_are_told() {
    let backend = |backend: &str| route("shop", "r", "name: web", &format!("{{backendRefs: [{backend}]}}"));
    for (yaml, late, field, waiting, arrived) in [
        (backend("{name: late, port: 80}"), service_yaml("shop", "late", "{port: 80}"), "spec.rules[0].backendRefs[0]", "r (shop/late:80*1!)", "r (shop/late:80*1)"),
        (backend("{name: v2, port: 90}"), service_yaml("shop", "v2", "{port: 90}"), "spec.rules[0].backendRefs[0]", "r (shop/v2:90*1!)", "r (shop/v2:90*1)"),
        (
            backend("{name: web, namespace: other, port: 80}"),
            "{apiVersion: gateway.networking.k8s.io/v1, kind: ReferenceGrant, metadata: {name: g, namespace: other}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}], to: [{group: '', kind: Service, name: web}]}}".to_owned(),
            "spec.rules[0].backendRefs[0]",
            "r (other/web:80*1!)",
            "r (other/web:80*1)",
        ),
    ] {
        let mut translation = translation(&format!("{}{yaml}", shop()));
        assert_eq!(routes(&translation, "shop/web"), [waiting]);
        assert!(told(&translation)[0].starts_with(&format!("HTTPRoute shop/r {field}: ")), "{:?}", told(&translation));
        add(&mut translation, &late);
        assert_eq!(routes(&translation, "shop/web"), [arrived]);
        assert!(told(&translation).is_empty(), "{:?}", told(&translation));
    }
    for (parent, late) in [
        ("name: late", service_yaml("shop", "late", "{port: 80}")),
        ("name: late, port: 80", service_yaml("shop", "late", "{port: 80}")),
        (
            "name: late, sectionName: x",
            service_yaml("shop", "late", "{port: 80, name: x}"),
        ),
    ] {
        let mut translation = translation(&route("shop", "r", parent, "{backendRefs: [{name: late, port: 80}]}"));
        assert!(
            told(&translation)[0].starts_with("HTTPRoute shop/r spec.parentRefs[0]: "),
            "{:?}",
            told(&translation)
        );
        add(&mut translation, &late);
        assert_eq!(routes(&translation, "shop/late").len(), 1);
        assert!(told(&translation).is_empty(), "{:?}", told(&translation));
        remove(&mut translation, "Service", "shop", "late");
        assert_eq!(told(&translation).len(), 2);
    }
}

#[test]
fn a_route_of_another_namespace_is_a_consumer_route_and_may_send_to_its_parent() {
    let translation = translation(&format!(
        "{}{}",
        shop(),
        route(
            "shop",
            "r",
            "name: web, namespace: other",
            "{backendRefs: [{name: web, namespace: other, port: 80}]}"
        )
    ));
    assert_eq!(routes(&translation, "other/web"), ["r consumer (other/web:80*1)"]);
    assert!(told(&translation).is_empty());
}

#[test]
fn routes_stand_oldest_first() {
    let old = route("shop", "z", "name: web, port: 80", "{}")
        .replace("name: z,", "name: z, creationTimestamp: '2025-01-01T00:00:00Z',");
    let new = route("shop", "y", "name: web, port: 80", "{}")
        .replace("name: y,", "name: y, creationTimestamp: '2026-01-01T00:00:00Z',");
    let (a, b) = (
        route("shop", "b", "name: web, port: 80", "{}"),
        route("shop", "a", "name: web, port: 80", "{}"),
    );
    let translation = translation(&format!("{}{new}{a}{old}{b}", shop()));
    let names: Vec<_> = service(&translation, "shop/web")
        .routes
        .iter()
        .map(|it| it.object.name.to_string())
        .collect();
    assert_eq!(names, ["z", "y", "a", "b"]);
}

#[test]
fn parents_that_are_no_services_are_other_peoples() {
    let gateway = route("shop", "r", "name: web", "{}").replace("group: '', kind: Service", "kind: Gateway");
    assert!(told(&translation(&format!("{}{gateway}", shop()))).is_empty());
    let group = route("shop", "r", "name: web", "{}").replace("group: '', ", "");
    let translation = translation(&format!("{}{group}", shop()));
    assert!(routes(&translation, "shop/web").is_empty());
    assert!(told(&translation)[0].contains("not of the core group"));
}
