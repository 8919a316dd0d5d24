use serde_json::json;

use super::*;

fn value(yaml: &str) -> Value {
    serde_yaml::from_str(yaml).expect("YAML")
}

fn parse(yaml: &str) -> Object {
    Object::parse(&value(yaml)).expect("readable").expect("a kind we read")
}

fn error(yaml: &str) -> FieldError {
    Object::parse(&value(yaml)).expect_err("unreadable")
}

#[test]
fn every_kind_we_read_is_read() {
    for Known(kind, group, versions, cluster_scoped) in KINDS {
        for version in *versions {
            let api_version = if group.is_empty() {
                (*version).to_owned()
            } else {
                format!("{group}/{version}")
            };
            let object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "it"}});
            let object = Object::parse(&object).expect("readable").expect("known");
            assert_eq!(object.kind(), *kind);
            let key = object.key();
            assert_eq!(&*key.namespace, if *cluster_scoped { "" } else { "default" });
            assert_eq!(Object::is_cluster_scoped(kind), Some(*cluster_scoped));
        }
    }
}

#[test]
fn a_kind_we_do_not_read_is_none_and_a_foreign_version_of_one_we_do_is_an_error() {
    let deployment = value("{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}");
    assert!(Object::parse(&deployment).expect("no error").is_none());
    for version in ["v2", "security.istio.io/v1", "weft.dev/v1", ""] {
        let policy = json!({"apiVersion": version, "kind": "AuthorizationPolicy", "metadata": {"name": "a"}});
        let error = Object::parse(&policy).expect_err("refused");
        assert_eq!(error.field, "apiVersion");
        assert!(error.remedy.contains("weft.dev/v1alpha1"), "{error}");
    }
}

#[test]
fn what_cannot_be_read_is_named_by_its_path() {
    for (yaml, field) in [
        ("{kind: Pod, apiVersion: v1}", "metadata.name"),
        ("{apiVersion: v1}", "kind"),
        (
            "{kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {hostNetwork: 7}}",
            "spec.hostNetwork",
        ),
        (
            "{kind: Pod, apiVersion: v1, metadata: {name: a, labels: {a: 1}}}",
            "metadata.labels.a",
        ),
        (
            "{kind: Pod, apiVersion: v1, metadata: {name: a}, status: {podIP: ten}}",
            "status.podIP",
        ),
        (
            "{kind: Pod, apiVersion: v1, metadata: {name: a}, status: {phase: Fine}}",
            "status.phase",
        ),
        (
            "{kind: Pod, apiVersion: v1, metadata: {name: a}, spec: {containers: [{ports: [{containerPort: 70000}]}]}}",
            "spec.containers[0].ports[0].containerPort",
        ),
        (
            "{kind: Pod, apiVersion: v1, metadata: {name: a, creationTimestamp: noon}}",
            "metadata.creationTimestamp",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: a}, spec: {clusterIP: here}}",
            "spec.clusterIP",
        ),
        (
            "{kind: Service, apiVersion: v1, metadata: {name: a}, spec: {clusterIPs: [10.0.0.1, x]}}",
            "spec.clusterIPs[1]",
        ),
        (
            "{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: a}, endpoints: [{addresses: [x]}]}",
            "endpoints[0].addresses[0]",
        ),
        (
            "{kind: EndpointSlice, apiVersion: discovery.k8s.io/v1, metadata: {name: a}, ports: [{port: -1}]}",
            "ports[0].port",
        ),
        (
            "{kind: AuthorizationPolicy, apiVersion: weft.dev/v1alpha1, metadata: {name: a}, spec: 7}",
            "spec",
        ),
    ] {
        assert_eq!(error(yaml).field, field, "{yaml}");
    }
}

#[test]
fn nulls_read_as_absent() {
    let object = parse(
        "{kind: Pod, apiVersion: v1, metadata: {name: a, namespace: null, labels: null, uid: null, creationTimestamp: null},
          spec: {containers: null, hostNetwork: null}, status: null}",
    );
    let Object::Pod(pod) = object else { panic!("a pod") };
    assert_eq!(&*pod.uid(), "default.a");
    assert_eq!(pod.service_account(), "default");
    assert!(!pod.is_ready());
}

#[test]
fn a_static_pod_is_known_by_the_hash_it_runs_by_and_no_annotation_names_another_pod() {
    let uid = |annotation: &str| {
        let object = parse(&format!(
            "{{kind: Pod, apiVersion: v1, metadata: {{name: a, uid: own, annotations: {{kubernetes.io/config.mirror: '{annotation}'}}}}}}"
        ));
        let Object::Pod(pod) = object else { panic!("a pod") };
        pod.uid().to_string()
    };
    let hash = "d41d8cd98f00b204e9800998ecf8427e";
    assert_eq!(uid(hash), hash);
    for no_hash in [
        "",
        "other",
        "0a1b2c3d-1111-2222-3333-444455556666",
        "D41D8CD98F00B204E9800998ECF8427E",
    ] {
        assert_eq!(uid(no_hash), "own", "{no_hash}");
    }
}

#[test]
fn a_pod_is_ready_by_its_condition_else_by_its_phase_else_by_its_address() {
    for (status, ready) in [
        (
            "{phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}",
            true,
        ),
        (
            "{phase: Running, podIP: 10.0.0.1, conditions: [{type: Ready, status: 'False'}]}",
            false,
        ),
        ("{phase: Running, podIP: 10.0.0.1}", true),
        ("{phase: Pending, podIP: 10.0.0.1}", false),
        ("{podIP: 10.0.0.1}", true),
        ("{}", false),
    ] {
        let object = parse(&format!(
            "{{kind: Pod, apiVersion: v1, metadata: {{name: a}}, status: {status}}}"
        ));
        let Object::Pod(pod) = object else { panic!("a pod") };
        assert_eq!(pod.is_ready(), ready, "{status}");
    }
}

#[test]
fn a_field_is_placed_at_the_nearest_line_known() {
    let origin = Origin {
        place: Some(Place {
            file: "shop.yaml".into(),
            line: 3,
        }),
        lines: [("spec.rules[0]".to_owned(), 9), ("spec".to_owned(), 7)]
            .into_iter()
            .collect(),
        problems: Vec::new(),
    };
    for (field, line) in [
        ("spec.rules[0].from[0].source", 9),
        ("spec.rules[1]", 7),
        ("metadata.labels[weft.dev/use-waypoint]", 3),
        ("", 3),
    ] {
        assert_eq!(origin.place_of(field).expect("a place").line, line, "{field}");
    }
    assert_eq!(Origin::default().place_of("spec"), None);
}
