use decide::model::{Capture, Datagrams, Fence, Phase};

use super::*;

#[test]
fn a_pod_becomes_a_workload() {
    let translation = translation(&format!(
        "{SHOP}{WEB}---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  uid: 1234
  labels: {{app: web, pod-template-hash: 5d8f7}}
  ownerReferences: [{{kind: ReplicaSet, name: web-5d8f7, controller: true}}]
spec:
  nodeName: node-1
  serviceAccountName: web
  containers: [{{ports: [{{name: http, containerPort: 8080}}, {{containerPort: 9090}}, {{name: dns, containerPort: 53, protocol: UDP}}]}}]
status: {{phase: Running, podIP: 10.1.0.2, podIPs: [{{ip: 10.1.0.2}}, {{ip: 'fd00::2'}}], conditions: [{{type: Ready, status: 'True'}}]}}
"
    ).replace("uid: 1234", "uid: '1234'"));
    let web = workload(&translation, "shop/web-1");
    assert_eq!(&*web.uid, "1234");
    assert_eq!(web.identity.to_string(), "spiffe://cluster.local/ns/shop/sa/web");
    assert_eq!(
        web.addresses,
        ["10.1.0.2".parse::<IpAddr>().unwrap(), "fd00::2".parse().unwrap()]
    );
    assert_eq!(&*web.owner, "web");
    assert_eq!(&*web.node, "node-1");
    assert_eq!((web.capture, web.phase), (Capture::Captured, Phase::Ready));
    assert_eq!(
        web.ports.iter().map(|it| (&*it.name, it.port)).collect::<Vec<_>>(),
        [("http", 8080)]
    );
    assert_eq!(
        web.services.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["shop/web"]
    );
    for address in &web.addresses {
        assert_eq!(translation.snapshot().workload_at(*address).unwrap().uid, web.uid);
    }
    assert!(told(&translation).is_empty(), "{:?}", told(&translation));
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn whether_a_pod_is_captured() {
    use Capture::{Captured, HostNetwork, Native, Outside};
    // (namespace, its label, the pod's labels, annotations, spec, phase) -> capture
    let table = [
        ("shop", "ambient", "", "", "", "Running", Captured),
        ("shop", "none", "", "", "", "Running", Outside),
        ("shop", "", "", "", "", "Running", Outside),
        ("shop", "ambiant", "", "", "", "Running", Outside),
        ("shop", "", "ambient", "", "", "Running", Captured),
        ("shop", "ambient", "none", "", "", "Running", Outside),
        ("shop", "ambient", "nope", "", "", "Running", Captured),
        ("shop", "ambient", "", "", "hostNetwork: true", "Running", HostNetwork),
        (
            "shop",
            "ambient",
            "",
            "hbone",
            "hostNetwork: true",
            "Running",
            HostNetwork,
        ),
        ("shop", "ambient", "", "", "", "Succeeded", Outside),
        ("shop", "ambient", "", "", "", "Failed", Outside),
        ("shop", "ambient", "", "", "", "Pending", Captured),
        ("shop", "", "", "hbone", "", "Running", Native),
        ("shop", "", "", "vpn", "", "Running", Outside),
        ("weft-system", "ambient", "ambient", "", "", "Running", Outside),
        ("kube-system", "ambient", "ambient", "", "", "Running", Outside),
    ];
    for (namespace, of_namespace, of_pod, annotation, spec, phase, expected) in table {
        let label = |value: &str| match value {
            "" => "{}".to_owned(),
            value => format!("{{weft.dev/dataplane-mode: {value}}}"),
        };
        let annotations = match annotation {
            "" => "{}".to_owned(),
            value => format!("{{weft.dev/tunnel: {value}}}"),
        };
        let yaml = format!(
            "---
{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}, labels: {}}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: {namespace}, labels: {}, annotations: {annotations}}}
spec: {{{spec}}}
status: {{phase: {phase}, podIP: 10.1.0.2}}
",
            label(of_namespace),
            label(of_pod)
        );
        let translation = translation(&yaml);
        let web = workload(&translation, &format!("{namespace}/web"));
        assert_eq!(web.capture, expected, "{yaml}");
        assert_eq!(&*web.uid, format!("{namespace}.web"));
        let mistaken = matches!(
            (of_namespace, of_pod, annotation),
            ("ambiant", ..) | (_, "nope", _) | (.., "vpn")
        );
        assert_eq!(
            told(&translation).len(),
            usize::from(mistaken),
            "{:?}",
            told(&translation)
        );
        let owns = translation
            .snapshot()
            .workload_at("10.1.0.2".parse().unwrap())
            .is_some();
        assert_eq!(
            owns,
            expected != HostNetwork && !matches!(phase, "Succeeded" | "Failed")
        );
    }
}

#[test]
fn the_owner_is_the_deployment_else_the_controller_else_a_label_else_the_pod() {
    for (metadata, owner) in [
        (
            "labels: {pod-template-hash: abc}, ownerReferences: [{kind: ReplicaSet, name: web-abc, controller: true}]",
            "web",
        ),
        (
            "labels: {pod-template-hash: abc}, ownerReferences: [{kind: ReplicaSet, name: web-xyz, controller: true}]",
            "web-xyz",
        ),
        (
            "labels: {pod-template-hash: abc}, ownerReferences: [{kind: ReplicaSet, name: '-abc', controller: true}]",
            "-abc",
        ),
        ("ownerReferences: [{kind: ReplicaSet, name: web-abc}]", "web-abc"),
        (
            "ownerReferences: [{kind: Other, name: x}, {kind: StatefulSet, name: db, controller: true}]",
            "db",
        ),
        ("labels: {app: shop, app.kubernetes.io/name: other}", "shop"),
        ("labels: {app.kubernetes.io/name: other}", "other"),
        ("labels: {app: ''}", "web-1"),
        ("labels: {}", "web-1"),
    ] {
        let translation = translation(&format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: web-1, namespace: shop, {metadata}}}}}"
        ));
        assert_eq!(&*workload(&translation, "shop/web-1").owner, owner, "{metadata}");
    }
}

#[test]
fn of_two_pods_with_one_address_the_one_that_stays_and_is_younger_owns_it_and_the_other_is_told() {
    let pod = |name: &str, more: &str| {
        format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, uid: {name}, {more}}}, status: {{phase: Running, podIP: 10.1.0.2}}}}\n"
        )
    };
    let older = pod("a", "creationTimestamp: '2026-01-01T00:00:00Z'");
    let younger = pod("b", "creationTimestamp: '2026-01-02T00:00:00Z'");
    let gone = pod(
        "b",
        "creationTimestamp: '2026-01-02T00:00:00Z', deletionTimestamp: '2026-01-03T00:00:00Z'",
    );
    for yaml in [format!("{older}{younger}"), format!("{younger}{older}")] {
        let mut translation = translation(&yaml);
        let owner = |translation: &Translation| {
            let address = "10.1.0.2".parse().unwrap();
            translation.snapshot().workload_at(address).map(|it| it.uid.to_string())
        };
        assert_eq!(owner(&translation).as_deref(), Some("b"));
        assert!(
            told(&translation)[0].starts_with("Pod shop/a status.podIP:"),
            "{:?}",
            told(&translation)
        );
        add(&mut translation, &gone);
        assert_eq!(owner(&translation).as_deref(), Some("a"));
        assert!(told(&translation)[0].starts_with("Pod shop/b status.podIP:"));
        remove(&mut translation, "Pod", "shop", "a");
        assert_eq!(owner(&translation).as_deref(), Some("b"));
        assert!(told(&translation).is_empty());
    }
}

#[test]
fn of_two_pods_with_one_uid_one_counts_and_the_other_is_told() {
    let pod = |name: &str| {
        format!("---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: shop, uid: same}}}}\n")
    };
    let mut translation = translation(&format!("{}{}", pod("b"), pod("a")));
    assert_eq!(translation.snapshot().workloads.len(), 1);
    assert_eq!(&*translation.snapshot().workload("same").unwrap().name, "a");
    assert!(told(&translation)[0].starts_with("Pod shop/b metadata.uid:"));
    remove(&mut translation, "Pod", "shop", "a");
    assert_eq!(&*translation.snapshot().workload("same").unwrap().name, "b");
    assert!(told(&translation).is_empty());
    add(&mut translation, &pod("b").replace("same", "other"));
    assert!(translation.snapshot().workload("same").is_none());
    assert!(translation.snapshot().workload("other").is_some());
}

#[test]
fn a_pod_without_an_identity_is_no_workload_and_told() {
    let translation = translation(
        "{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop}, spec: {serviceAccountName: 'a/b'}, status: {podIP: 10.1.0.2}}",
    );
    assert!(translation.snapshot().workloads.is_empty());
    assert!(translation.snapshot().workload_addresses.is_empty());
    assert!(told(&translation)[0].starts_with("Pod shop/web spec.serviceAccountName:"));
}

#[test]
fn the_mesh_config_overrides_the_defaults_and_an_invalid_one_keeps_the_last_good() {
    let mesh = |name: &str, spec: &str| {
        format!("---\n{{apiVersion: weft.dev/v1alpha1, kind: MeshConfig, metadata: {{name: {name}}}, spec: {spec}}}\n")
    };
    let mut translation = translation(&format!("{SHOP}{}", pod("shop", "web", "10.1.0.2", "")));
    let domain = |translation: &Translation| workload(translation, "shop/web").identity.trust_domain().to_owned();
    add(
        &mut translation,
        &mesh(
            "default",
            "{trustDomain: example.org, sameNode: Wire, outbound: RegistryOnly, podCidrs: [10.1.0.0/16], datagrams: Allow}",
        ),
    );
    assert_eq!(domain(&translation), "example.org");
    assert_eq!(translation.snapshot().mesh.pod_ranges, ["10.1.0.0/16".parse().unwrap()]);
    assert_eq!(translation.snapshot().mesh.datagrams, Datagrams::Allow);
    for (bad, field) in [
        ("{trustDomain: Not.Lower}", "spec.trustDomain"),
        ("{trustDomain: 7}", "spec.trustDomain"),
        ("{trustDomian: a.b}", "spec.trustDomian"),
        ("{outbound: Sometimes}", "spec.outbound"),
        ("{sameNode: auto}", "spec.sameNode"),
        ("{datagrams: allow}", "spec.datagrams"),
        ("{podCidrs: [ten]}", "spec.podCidrs"),
        ("{serviceCidrs: 10.0.0.0/8}", "spec.serviceCidrs"),
        ("{rootNamespace: ''}", "spec.rootNamespace"),
    ] {
        add(&mut translation, &mesh("default", bad));
        assert_eq!(domain(&translation), "example.org", "{bad}");
        assert!(
            told(&translation)[0].starts_with(&format!("MeshConfig default {field}: ")),
            "{:?}",
            told(&translation)
        );
    }
    add(&mut translation, &mesh("other", "{trustDomain: other.org}"));
    assert_eq!(domain(&translation), "example.org");
    assert!(
        told(&translation)
            .iter()
            .any(|it| it.starts_with("MeshConfig other metadata.name: "))
    );
    remove(&mut translation, "MeshConfig", "", "default");
    assert_eq!(domain(&translation), "cluster.local");
}

#[test]
fn a_network_policy_fences_the_pods_it_selects_as_soon_as_all_are_known() {
    let policy = |name: &str, selector: &str| {
        format!(
            "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
             metadata: {{name: {name}, namespace: shop}}\nspec: {{podSelector: {selector}}}\n"
        )
    };
    let mut translation = translation(&format!(
        "{SHOP}{}{}{}",
        pod("shop", "web", "10.1.0.2", ""),
        pod("shop", "db", "10.1.0.3", ""),
        pod("other", "page", "10.1.0.4", ""),
    ));
    let fence = |translation: &Translation, name: &str| workload(translation, name).fence.clone();
    let by = |name: &str| Fence::By(name.into());
    assert_eq!(fence(&translation, "shop/web"), Fence::Unread);
    let tell = |translation: &mut Translation, read| {
        translation.change(Change::Fences(read));
        translation.settle();
    };
    tell(&mut translation, true);
    for name in ["shop/web", "shop/db", "other/page"] {
        assert_eq!(fence(&translation, name), Fence::Absent, "{name}");
    }
    let policies = workload(&translation, "shop/web").policies.clone();
    add(&mut translation, &policy("web-only", "{matchLabels: {app: web}}"));
    assert_eq!(fence(&translation, "shop/web"), by("web-only"));
    assert_eq!(fence(&translation, "shop/db"), Fence::Absent);
    assert_eq!(fence(&translation, "other/page"), Fence::Absent);
    assert!(Arc::ptr_eq(&policies, &workload(&translation, "shop/web").policies));
    assert_eq!(translation.work.workloads, 1, "nobody else is looked at");
    add(&mut translation, &policy("all", "{}"));
    assert_eq!(fence(&translation, "shop/db"), by("all"));
    assert_eq!(fence(&translation, "other/page"), Fence::Absent);
    remove(&mut translation, "NetworkPolicy", "shop", "all");
    remove(&mut translation, "NetworkPolicy", "shop", "web-only");
    assert_eq!(fence(&translation, "shop/web"), Fence::Absent);
    tell(&mut translation, false);
    assert_eq!(fence(&translation, "shop/web"), Fence::Unread);
}
