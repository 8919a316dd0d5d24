//! Answers from running proxies, over their admin sockets.

use std::{path::Path, sync::Arc, time::Duration};

use act::{
    admin::{Admin, AdminOptions},
    certs::{Certificates, local::LocalAuthority},
    config::Reader,
    process::Readiness,
    telemetry::Metrics,
};
use decide::{
    model::{Capture, Fence, Identity, Labels, MeshSettings, Phase, Workload},
    snapshot::Snapshot,
};
use tokio_util::sync::CancellationToken;

use super::{Ran, weft};

fn snapshot() -> Snapshot {
    let pod = |name: &str, address: &str| Workload {
        uid: name.into(),
        name: name.into(),
        namespace: "shop".into(),
        node: "node-1".into(),
        identity: identity(name),
        addresses: vec![address.parse().expect("an address")],
        labels: Labels::default(),
        owner: name.into(),
        ports: Vec::new(),
        probed: Vec::new(),
        fence: Fence::default(),
        capture: Capture::Captured,
        phase: Phase::Ready,
        waypoint: None,
        serves: None,
        services: Vec::new(),
        policies: Arc::default(),
    };
    let mut snapshot = Snapshot::empty(MeshSettings::default().into());
    snapshot.complete = true;
    snapshot.put_workload(Arc::new(pod("client", "10.1.0.1")));
    snapshot.put_workload(Arc::new(pod("web", "10.1.0.2")));
    snapshot
}

fn identity(name: &str) -> Identity {
    Identity::new("cluster.local", "shop", name).expect("an identity")
}

async fn serve(folder: &Path, name: &str, configured: bool, certificates: Option<Certificates>) {
    let any = "127.0.0.1:0".parse().expect("an address");
    let options = AdminOptions {
        admin: any,
        admin_socket: Some(folder.join(format!("{name}.sock"))),
        metrics: any,
        ready: any,
    };
    let admin = Admin {
        process: ("ztunnel", name.to_owned()),
        reader: configured.then(|| Reader::new(snapshot()).1),
        certificates,
        metrics: Metrics::install(),
        logs: None,
        readiness: Readiness::new(),
        prover: None,
        parts: Vec::new(),
    };
    admin
        .serve(&options, &CancellationToken::new())
        .await
        .expect("it serves");
}

/// Runs `weft --run FOLDER` with these words.
async fn ask(folder: &Path, words: &str) -> Ran {
    let run = folder.to_str().expect("a path").to_owned();
    let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    let asking = tokio::task::spawn_blocking(move || {
        let words: Vec<_> = ["--run", &run]
            .into_iter()
            .chain(words.iter().map(String::as_str))
            .collect();
        weft(&words)
    });
    tokio::time::timeout(Duration::from_secs(30), asking)
        .await
        .expect("it ends")
        .expect("it runs")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_running_proxy_is_listed_and_one_that_is_gone_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    serve(folder.path(), "ztunnel-node-1", true, None).await;
    std::os::unix::net::UnixListener::bind(folder.path().join("waypoint.sock")).expect("a socket left behind");
    let ran = ask(folder.path(), "status").await;
    let lines: Vec<_> = ran.out.lines().collect();
    assert_eq!(ran.exit, 0);
    assert!(lines[0].starts_with("PROXY"), "{ran:?}");
    assert!(lines[1].contains("proxy waypoint cannot be reached"), "{ran:?}");
    assert!(
        lines[2].starts_with("ztunnel-node-1") && lines[2].contains(" yes "),
        "{ran:?}"
    );
    // The lists still answer from the proxy that lives.
    let ran = ask(folder.path(), "workloads").await;
    assert_eq!((ran.exit, ran.out.lines().count()), (0, 3), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn why_is_answered_by_a_proxy_that_knows_the_mesh() {
    let folder = tempfile::tempdir().expect("a folder");
    serve(folder.path(), "ca", false, None).await;
    serve(folder.path(), "ztunnel-node-1", true, None).await;
    let ran = ask(folder.path(), "why shop/client shop/web:80").await;
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.out.ends_with("(as ztunnel-node-1 knows it now)\n"), "{ran:?}");
    let ran = ask(folder.path(), "why shop/clinet shop/web:80").await;
    assert_eq!(
        (ran.exit, &*ran.err),
        (1, "weft: no pod shop/clinet; did you mean shop/client?\n")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_told_with_serial_end_and_life_or_why_missing() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Arc::new(LocalAuthority::new().expect("an authority"));
    let certificates = Certificates::new(authority);
    let held = certificates.hold(&identity("client"));
    let leaf = certificates.leaf(&identity("client")).await.expect("a leaf");
    serve(folder.path(), "ztunnel-node-1", true, Some(certificates)).await;
    let ran = ask(folder.path(), "certs").await;
    let line = ran.out.lines().nth(1).unwrap_or_default().to_owned();
    assert!(line.contains("spiffe://cluster.local/ns/shop/sa/client"), "{ran:?}");
    assert!(line.contains(&*leaf.serial) && line.contains("23h59m"), "{ran:?}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_proxies_one_sentence_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let ran = ask(folder.path(), "status").await;
    assert_eq!(ran.exit, 1);
    assert_eq!(ran.err.lines().count(), 1);
    assert!(ran.err.contains("weft demo") && ran.err.contains("--config"), "{ran:?}");
}
