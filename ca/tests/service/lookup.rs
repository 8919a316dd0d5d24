//! Pods that the ca's own watch does not know (yet), found by a live look.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use act::authority::proto::istio_certificate_service_server::IstioCertificateService;
use act::config::Object;
use ca::lookup::{Finder, Lookup, Sought};
use serde_json::{Value, json};
use tonic::Code;

use crate::stage::{Issuer, Stage, ask, identity, raw, refusal, request};

/// The API server's objects at this moment; `None`: it is away.
#[derive(Clone)]
struct Cluster {
    objects: Arc<Mutex<Option<Vec<Value>>>>,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Finder for Cluster {
    async fn find(&self, sought: Sought<'_>) -> Result<Vec<Object>, String> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let objects = self.objects.lock().unwrap().clone().ok_or("connection refused")?;
        let fits = |object: &Value| match sought {
            Sought::Pod { name, .. } => object["metadata"]["name"] == name,
            Sought::OnNode { node, identity } => {
                object["spec"]["nodeName"] == node && object["spec"]["serviceAccountName"] == identity.service_account()
            }
        };
        let found = objects.iter().filter(|object| object["kind"] != "Pod" || fits(object));
        Ok(found.map(|object| Object::parse(object).unwrap().unwrap()).collect())
    }
}

impl Cluster {
    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn pod(namespace: &str, name: &str, account: &str, node: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": name},
        "spec": {"nodeName": node, "serviceAccountName": account, "containers": []},
        "status": {"phase": "Pending"},
    })
}

fn namespace(mode: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"weft.dev/dataplane-mode": mode}},
    })
}

fn gateway(name: &str) -> Value {
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "Gateway",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"gatewayClassName": "weft-waypoint",
            "listeners": [{"name": "mesh", "port": 15008, "protocol": "HBONE"}]},
    })
}

fn with(mut pod: Value, pointer: &str, value: Value) -> Value {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

async fn stage(objects: Vec<Value>) -> (Stage, Cluster) {
    let cluster = Cluster {
        objects: Arc::new(Mutex::new(Some(objects))),
        asked: Arc::default(),
    };
    let finder = Box::new(cluster.clone());
    let stage = Stage::with(tempfile::tempdir().unwrap(), Issuer::new("k"), |service, _| {
        service.lookup = Some(Lookup::new(finder));
        service.terms.nodes.require_pod = true;
    });
    (stage.await, cluster)
}

fn ztunnel(node: &str) -> Value {
    pod("weft-system", &format!("ztunnel-{node}"), "ztunnel", node)
}

#[tokio::test]
async fn a_pod_unknown_here_is_looked_up_once_before_the_refusal() {
    let host = with(
        pod("shop", "host-1", "host", "node-1"),
        "/spec/hostNetwork",
        json!(true),
    );
    let gone = with(
        pod("shop", "gone-1", "gone", "node-1"),
        "/status/phase",
        json!("Failed"),
    );
    let objects = vec![
        ztunnel("node-1"),
        namespace("ambient"),
        pod("shop", "late-1", "late", "node-1"),
        pod("shop", "far-1", "far", "node-2"),
        host,
        gone,
    ];
    let (stage, cluster) = stage(objects).await;
    let node = stage.client(&stage.issuer.node_token("node-1"));
    let leaf = ask(&node, &identity("late")).await.unwrap();
    assert_eq!(leaf.identity, identity("late"));
    for (account, why) in [
        ("far", "no enrolled running pod on node node-1"),
        ("gone", "no enrolled running pod on node node-1"),
        ("host", "uses its node's network"),
    ] {
        let before = cluster.asked();
        let refused = refusal(&node, &identity(account)).await;
        assert!(refused.contains(why), "{account}: {refused}");
        assert_eq!(cluster.asked() - before, 2, "ztunnel's pod and the other, once each");
    }
    // Of a namespace without the label nobody is enrolled.
    *cluster.objects.lock().unwrap() = Some(vec![
        ztunnel("node-1"),
        namespace("none"),
        pod("shop", "late-1", "late", "node-1"),
    ]);
    refusal(&node, &identity("late")).await;
}

#[tokio::test]
async fn a_waypoint_unknown_here_is_looked_up_too_and_stays_out_of_a_nodes_reach() {
    let labels = json!({"gateway.networking.k8s.io/gateway-name": "way"});
    let way = with(pod("shop", "way-1", "way", "node-1"), "/metadata/labels", labels);
    let (stage, _) = stage(vec![
        ztunnel("node-1"),
        namespace("ambient"),
        gateway("way"),
        way,
        // A pod that only runs as the waypoint's account.
        pod("shop", "thief-1", "way", "node-1"),
    ])
    .await;
    let own = stage.client(&stage.issuer.token("node-1", "shop", "way", "way-1"));
    ask(&own, &identity("way")).await.unwrap();
    let thief = stage.client(&stage.issuer.token("node-1", "shop", "way", "thief-1"));
    assert!(refusal(&thief, &identity("way")).await.contains("only as a waypoint"));
    let node = stage.client(&stage.issuer.node_token("node-1"));
    assert!(refusal(&node, &identity("way")).await.contains("a waypoint's identity"));
}

#[tokio::test]
async fn a_ztunnels_own_pod_is_found_as_it_is_now() {
    let (stage, cluster) = stage(vec![ztunnel("node-1"), namespace("ambient")]).await;
    let node = stage.client(&stage.issuer.node_token("node-1"));
    ask(&node, &identity("web")).await.unwrap();
    for (pods, why) in [
        (vec![], "is not known here"),
        // The name is another pod's by now.
        (
            vec![with(ztunnel("node-1"), "/metadata/uid", json!("u-2"))],
            "is not known here",
        ),
        (
            vec![with(ztunnel("node-1"), "/spec/nodeName", json!("node-2"))],
            "runs on another node",
        ),
        (
            vec![with(ztunnel("node-1"), "/spec/serviceAccountName", json!("other"))],
            "has another service account",
        ),
        (
            vec![with(ztunnel("node-1"), "/status/phase", json!("Succeeded"))],
            "has finished",
        ),
    ] {
        *cluster.objects.lock().unwrap() = Some(pods);
        let refused = refusal(&node, &identity("web")).await;
        assert!(refused.contains(why), "{refused}");
    }
}

#[tokio::test]
async fn an_api_server_that_is_away_is_no_refusal_for_good() {
    let (stage, cluster) = stage(vec![]).await;
    *cluster.objects.lock().unwrap() = None;
    let (_, csr) = request(&[]);
    let token = stage.issuer.node_token("node-1");
    let asked = raw(Some(&token), &csr, Some("spiffe://cluster.local/ns/shop/sa/web"), 0);
    let status = stage.service.create_certificate(asked).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("connection refused"), "{status}");
}

#[tokio::test]
async fn a_caller_cannot_make_us_look_without_end() {
    let (stage, cluster) = stage(vec![namespace("ambient")]).await;
    let (_, csr) = request(&[]);
    let token = stage.issuer.token("node-1", "shop", "waypoint", "nobody");
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let (service, asked) = (stage.service.clone(), raw(Some(&token), &csr, None, 0));
        asking.spawn(async move { service.create_certificate(asked).await.unwrap_err().code() });
    }
    let codes = asking.join_all().await;
    let of = |code| codes.iter().filter(|it| **it == code).count();
    assert_eq!(of(Code::PermissionDenied) + of(Code::ResourceExhausted), 200);
    assert_eq!(of(Code::PermissionDenied), cluster.asked());
    assert!(cluster.asked() < 150, "{}", cluster.asked());
}
