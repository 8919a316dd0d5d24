//! The endpoints over a real Unix socket.

use std::{path::Path, sync::Arc};

use decide::{model::MeshSettings, snapshot::Snapshot};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use super::{Admin, AdminOptions, Prover, Way};
use crate::{config::Reader, process::Readiness, telemetry::Metrics};

async fn ask(socket: &Path, method: Method, path: &str, body: &str) -> (u16, String) {
    let stream = UnixStream::connect(socket).await.expect("the admin socket is there");
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("it speaks HTTP");
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "admin");
    let request = request
        .body(Full::new(Bytes::from(body.to_owned())))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    (status, String::from_utf8_lossy(&body).into_owned())
}

fn admin(readiness: Readiness) -> Admin {
    let (_, reader) = Reader::new(Snapshot::empty(MeshSettings::default().into()));
    Admin {
        process: ("ztunnel", "node-1".into()),
        reader: Some(reader),
        certificates: None,
        metrics: Metrics::install(),
        logs: None,
        readiness,
        prover: None,
        parts: vec![("pods", Arc::new(|| serde_json::json!(["a"])))],
    }
}

fn options(socket: &Path) -> AdminOptions {
    let any = "127.0.0.1:0".parse().expect("an address");
    AdminOptions {
        admin: any,
        admin_socket: Some(socket.to_owned()),
        metrics: any,
        ready: any,
    }
}

#[tokio::test]
async fn readiness_says_what_is_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("a.sock");
    let readiness = Readiness::new();
    let gate = readiness.gate("its first snapshot");
    admin(readiness)
        .serve(&options(&socket), &CancellationToken::new())
        .await
        .expect("serves");
    let answer = ask(&socket, Method::GET, "/healthz/ready", "").await;
    assert_eq!(answer, (503, "waits for its first snapshot\n".into()));
    // Who waits is alive: nobody may end it for that.
    assert_eq!(ask(&socket, Method::GET, "/healthz/live", "").await.0, 200);
    gate.set(true);
    assert_eq!(ask(&socket, Method::GET, "/healthz/ready", "").await.0, 200);
}

#[tokio::test]
async fn the_dump_tells_what_the_process_knows() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("a.sock");
    admin(Readiness::new())
        .serve(&options(&socket), &CancellationToken::new())
        .await
        .expect("serves");
    let (status, body) = ask(&socket, Method::GET, "/config_dump", "").await;
    let dump: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    assert_eq!(dump["instance"], "node-1");
    assert_eq!(dump["snapshot"]["complete"], false);
    assert_eq!(dump["pods"][0], "a");
    let (status, body) = ask(&socket, Method::GET, "/status", "").await;
    let summary: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status, 200);
    assert_eq!((&summary["workloads"], &summary["problems"]), (&0.into(), &0.into()));
    assert!(summary["time"].as_u64() > Some(1_700_000_000), "{summary}");
    assert_eq!(summary["pods"], dump["pods"]);
}

#[tokio::test]
async fn a_bad_question_is_refused_and_the_process_lives_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("a.sock");
    admin(Readiness::new())
        .serve(&options(&socket), &CancellationToken::new())
        .await
        .expect("serves");
    assert_eq!(ask(&socket, Method::POST, "/why", "{").await.0, 400);
    assert_eq!(ask(&socket, Method::POST, "/why", &"x".repeat(100_000)).await.0, 400);
    assert_eq!(ask(&socket, Method::DELETE, "/config_dump", "").await.0, 404);
    assert_eq!(ask(&socket, Method::GET, "/metrics", "").await.0, 200);
}

#[tokio::test]
async fn a_socket_left_by_a_dead_process_is_replaced_but_a_file_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (socket, file) = (folder.path().join("a.sock"), folder.path().join("file"));
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("binds"));
    admin(Readiness::new())
        .serve(&options(&socket), &CancellationToken::new())
        .await
        .expect("replaces it");
    std::fs::write(&file, "precious").expect("writes");
    let failure = admin(Readiness::new())
        .serve(&options(&file), &CancellationToken::new())
        .await
        .expect_err("taken");
    assert!(failure.to_string().contains("--admin-socket"), "{failure}");
    assert_eq!(std::fs::read_to_string(&file).expect("still there"), "precious");
}

#[tokio::test]
async fn a_proof_is_made_only_where_pods_are_served_and_only_for_a_whole_question() {
    let folder = tempfile::tempdir().expect("a folder");
    let (without, with) = (folder.path().join("a.sock"), folder.path().join("b.sock"));
    let shutdown = CancellationToken::new();
    let served = admin(Readiness::new()).serve(&options(&without), &shutdown).await;
    served.expect("serves");
    let prover: Prover = Arc::new(|way: Way| {
        Box::pin(async move {
            match &*way.to {
                "there" => Ok(serde_json::json!({ "identity": way.from })),
                _ => Err("a NetworkPolicy is in the way".to_owned()),
            }
        })
    });
    let proving = Admin {
        prover: Some(prover),
        ..admin(Readiness::new())
    };
    proving.serve(&options(&with), &shutdown).await.expect("serves");

    let question = |to: &str| serde_json::json!({ "from": "a", "to": to }).to_string();
    assert_eq!(ask(&without, Method::POST, "/proof", &question("there")).await.0, 404);
    assert_eq!(ask(&with, Method::POST, "/proof", "{}").await.0, 400);
    assert_eq!(ask(&with, Method::GET, "/proof", "").await.0, 404);
    let (status, shown) = ask(&with, Method::POST, "/proof", &question("there")).await;
    assert!(status == 200 && shown.contains("identity"), "{shown}");
    let refused = ask(&with, Method::POST, "/proof", &question("nowhere")).await;
    assert_eq!(refused, (422, "a NetworkPolicy is in the way\n".to_owned()));
    shutdown.cancel();
}
