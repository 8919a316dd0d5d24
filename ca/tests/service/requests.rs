//! Who gets what.

use std::{
    cell::RefCell,
    sync::{Arc, Once},
    time::{Duration, SystemTime},
};

use act::authority::proto::istio_certificate_service_server::IstioCertificateService;
use decide::{model::Identity, snapshot::Snapshot};
use serde_json::json;
use tonic::Code;

use crate::stage::{Issuer, Stage, ask, identity, pod, pods, raw, refusal, request, seconds, signed, verified};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

#[tokio::test]
async fn a_nodes_token_gets_the_identities_of_its_pods_and_no_others() {
    let stage = Stage::new().await;
    let node = stage.client(&stage.issuer.node_token("node-1"));
    let leaf = ask(&node, &identity("web")).await.unwrap();
    assert_eq!(leaf.identity, identity("web"));
    let foreign = Identity::new("elsewhere", "shop", "web").unwrap();
    for (wanted, why) in [
        (identity("db"), "no enrolled running pod on node node-1"),
        (identity("ghost"), "no enrolled running pod"),
        (identity("waypoint"), "a waypoint's identity"),
        (foreign, "not of the trust domain"),
    ] {
        let refused = refusal(&node, &wanted).await;
        assert!(refused.contains(why), "{wanted}: {refused}");
    }
}

#[tokio::test]
async fn another_nodes_pod_is_refused_and_audited() {
    capture();
    let stage = Stage::new().await;
    let node = stage.client(&stage.issuer.node_token("node-2"));
    refusal(&node, &identity("web")).await;
    let leaf = ask(&node, &identity("db")).await.unwrap();
    let logged = logged();
    let audit: Vec<&str> = logged.lines().filter(|line| line.contains(" audit: ")).collect();
    assert_eq!(audit.len(), 2, "{audit:?}");
    for part in [
        "refused",
        "caller=\"node\"",
        "node=\"node-2\"",
        "pod=\"ztunnel-node-2\"",
        WEB,
        "no enrolled",
        "127.0.0.1",
    ] {
        assert!(audit[0].contains(part), "{part}: {}", audit[0]);
    }
    for part in ["issued", "node=\"node-2\"", "sa/db", &*leaf.serial] {
        assert!(audit[1].contains(part), "{part}: {}", audit[1]);
    }
    let token = stage.issuer.node_token("node-2");
    assert!(!logged.contains(token.rsplit('.').next().unwrap()), "no token in a log");
}

#[tokio::test]
async fn of_a_csr_only_the_key_is_believed() {
    let stage = Stage::new().await;
    let token = stage.issuer.node_token("node-1");
    let (key, csr) = request(&[
        "spiffe://cluster.local/ns/shop/sa/db",
        "spiffe://cluster.local/ns/kube-system/sa/root",
    ]);
    let answer = stage
        .service
        .create_certificate(raw(Some(&token), &csr, Some(WEB), 0))
        .await
        .unwrap();
    // `verified` takes no leaf that names anybody beside.
    verified(&identity("web"), &key, signed(answer));
    // Named nowhere else, the wish counts, if it is entitled.
    let (key, csr) = request(&[WEB]);
    let answer = stage
        .service
        .create_certificate(raw(Some(&token), &csr, None, 0))
        .await
        .unwrap();
    verified(&identity("web"), &key, signed(answer));
    let (_, csr) = request(&["spiffe://cluster.local/ns/shop/sa/db"]);
    let status = stage
        .service
        .create_certificate(raw(Some(&token), &csr, None, 0))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let (_, csr) = request(&[]);
    for wanted in [
        None,
        Some("web"),
        Some("spiffe://cluster.local/ns/shop/sa/web/x"),
        Some(""),
    ] {
        let status = stage
            .service
            .create_certificate(raw(Some(&token), &csr, wanted, 0))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{wanted:?}: {status}");
    }
}

#[tokio::test]
async fn a_waypoints_pod_gets_its_own_identity_and_no_other() {
    let stage = Stage::new().await;
    let token = stage.issuer.token("node-1", "shop", "waypoint", "waypoint-1");
    let (key, csr) = request(&["spiffe://cluster.local/ns/shop/sa/web"]);
    let answer = stage
        .service
        .create_certificate(raw(Some(&token), &csr, None, 0))
        .await
        .unwrap();
    verified(&identity("waypoint"), &key, signed(answer));
    let client = stage.client(&token);
    ask(&client, &identity("waypoint")).await.unwrap();
    refusal(&client, &identity("web")).await;
    // An ordinary pod's identity is its node's to hold.
    let ordinary = stage.client(&stage.issuer.token("node-1", "shop", "web", "web-1"));
    refusal(&ordinary, &identity("web")).await;
}

#[tokio::test]
async fn a_mapped_subject_gets_what_the_mapping_names() {
    let stage = Stage::new().await;
    let claims =
        |subject: &str| json!({"iss": "https://ci.test", "aud": "weft-ca", "sub": subject, "exp": seconds() + 60});
    let deployer = Identity::new("cluster.local", "ci", "deployer").unwrap();
    let client = stage.client(&stage.issuer.sign(&claims("deployer")));
    ask(&client, &deployer).await.unwrap();
    refusal(&client, &identity("web")).await;
    refusal(&stage.client(&stage.issuer.sign(&claims("intern"))), &deployer).await;
}

#[tokio::test]
async fn a_ztunnels_own_pod_must_fit_where_it_is_known() {
    let stage = Stage::with(tempfile::tempdir().unwrap(), Issuer::new("k"), |service, _| {
        service.terms.nodes.require_pod = true;
    })
    .await;
    let node = stage.client(&stage.issuer.node_token("node-1"));
    assert!(refusal(&node, &identity("web")).await.contains("is not known here"));
    let ztunnel = |node: &str| {
        let mut ztunnel = pod("ztunnel-node-1", "ztunnel", node);
        ztunnel.identity = Identity::new("cluster.local", "weft-system", "ztunnel").unwrap();
        let mut snapshot = pods();
        snapshot.put_workload(Arc::new(ztunnel));
        snapshot
    };
    (stage.publish)(ztunnel("node-2"));
    assert!(refusal(&node, &identity("web")).await.contains("runs on another node"));
    (stage.publish)(ztunnel("node-1"));
    ask(&node, &identity("web")).await.unwrap();
}

#[tokio::test]
async fn a_pod_that_becomes_known_a_moment_later_is_waited_for() {
    let stage = Stage::new().await;
    let node = stage.client(&stage.issuer.node_token("node-1"));
    let late = async {
        // An unrelated change first: it must not end the wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        (stage.publish)(pods());
        tokio::time::sleep(Duration::from_millis(50)).await;
        let mut snapshot = pods();
        snapshot.put_workload(Arc::new(pod("late-1", "late", "node-1")));
        (stage.publish)(snapshot);
    };
    let wanted = identity("late");
    let (leaf, ()) = tokio::join!(ask(&node, &wanted), late);
    assert_eq!(leaf.unwrap().identity, wanted);
}

#[tokio::test]
async fn nothing_is_signed_before_the_pods_are_known() {
    let stage = Stage::new().await;
    (stage.publish)(Snapshot::empty(Arc::default()));
    let (_, csr) = request(&[]);
    let token = stage.issuer.node_token("node-1");
    let status = stage
        .service
        .create_certificate(raw(Some(&token), &csr, Some(WEB), 0))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn lives_are_what_is_asked_for_within_the_limits() {
    let stage = Stage::with(tempfile::tempdir().unwrap(), Issuer::new("k"), |service, _| {
        service.terms.life = Duration::from_secs(600);
        service.terms.most_life = Duration::from_secs(3600);
    })
    .await;
    let token = stage.issuer.node_token("node-1");
    let cases = [
        (0, 600),
        (-5, 600),
        (60, 60),
        (1, 30),
        (86_400, 3600),
        (i64::MAX, 3600),
        (i64::MIN, 600),
    ];
    for (asked, given) in cases {
        let (key, csr) = request(&[]);
        let before = SystemTime::now();
        let answer = stage
            .service
            .create_certificate(raw(Some(&token), &csr, Some(WEB), asked))
            .await
            .unwrap();
        let leaf = verified(&identity("web"), &key, signed(answer));
        let life = leaf.not_after.duration_since(before).unwrap().as_secs_f64();
        assert!((life - f64::from(given)).abs() < 5.0, "{asked}: {life}");
        let back = before.duration_since(leaf.not_before).unwrap().as_secs_f64();
        assert!((back - 300.0).abs() < 5.0, "{back}");
    }
}

#[tokio::test]
async fn one_caller_cannot_keep_the_others_out() {
    let stage = Stage::with(tempfile::tempdir().unwrap(), Issuer::new("k"), |service, _| {
        service.rate = ca::rate::Rate::new(2, 1);
    })
    .await;
    let (_, csr) = request(&[]);
    let ask = async |node: &str, wanted: &str| {
        let token = stage.issuer.node_token(node);
        let answer = stage
            .service
            .create_certificate(raw(Some(&token), &csr, Some(wanted), 0))
            .await;
        answer.map(drop).map_err(|status| status.code())
    };
    for _ in 0..2 {
        ask("node-1", WEB).await.unwrap();
    }
    assert_eq!(ask("node-1", WEB).await.unwrap_err(), Code::ResourceExhausted);
    ask("node-2", "spiffe://cluster.local/ns/shop/sa/db").await.unwrap();
}

#[tokio::test]
async fn malformed_and_huge_requests_are_refused_and_the_next_is_served() {
    use act::certs::{Authority, CertError};
    let stage = Stage::new().await;
    let node = stage.client(&stage.issuer.node_token("node-1"));
    let (_, good) = request(&[]);
    for csr in [
        String::new(),
        "x".repeat(20_000),
        "x".repeat(1_000_000),
        good.replace('M', "A"),
    ] {
        let error = node.sign(&identity("web"), &csr).await.unwrap_err();
        assert!(matches!(error, CertError::Unavailable { .. }), "{error}");
    }
    ask(&node, &identity("web")).await.unwrap();
}

thread_local! {
    /// Everything logged by this thread, which is one test.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// One subscriber for all threads: callsites remember whether anybody listens, not who.
fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::fmt()
            .with_writer(|| ThisThread)
            .with_ansi(false)
            .with_max_level(tracing::Level::TRACE)
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

fn logged() -> String {
    LOGGED.with_borrow(|bytes| String::from_utf8(bytes.clone()).unwrap())
}

struct ThisThread;

impl std::io::Write for ThisThread {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
