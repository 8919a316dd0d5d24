//! The program itself: flags, a directory of pods, SIGKILL and SIGTERM.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::Stdio,
};

use act::certs::CertError;
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::stage::{ISSUER, Issuer, LONG, ask, client, identity, refusal};

const PODS: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weft.dev/dataplane-mode: ambient}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: web, namespace: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: shop}
spec: {nodeName: node-1, serviceAccountName: web, containers: [{name: web, image: web}]}
status: {phase: Running, podIP: 10.0.1.2, conditions: [{type: Ready, status: 'True'}]}
";

pub(crate) fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// A directory with all the program reads, and who signs its tokens.
fn prepared() -> (TempDir, Issuer) {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let issuer = Issuer::new("key-1");
    fs::create_dir(path("config")).unwrap();
    fs::write(path("config/pods.yaml"), PODS).unwrap();
    fs::write(path("jwks.json"), json!({"keys": [issuer.jwk()]}).to_string()).unwrap();
    let text =
        format!("issuers: [{{issuer: '{ISSUER}', jwks: {{file: jwks.json}}, audiences: [weft-ca], kubernetes: true}}]");
    fs::write(path("issuers.yaml"), text).unwrap();
    for node in ["node-1", "node-2"] {
        fs::write(path(node), issuer.node_token(node)).unwrap();
    }
    (directory, issuer)
}

fn program(directory: &Path, listen: SocketAddr) -> Child {
    Command::new(env!("CARGO_BIN_EXE_ca"))
        .args([
            "--listen",
            &listen.to_string(),
            "--name",
            "ca.test",
            "--leaf-life",
            "60s",
            "--linger",
            "0s",
        ])
        .arg("--state")
        .arg(directory.join("state"))
        .arg("--issuers")
        .arg(directory.join("issuers.yaml"))
        .arg("--config")
        .arg(directory.join("config"))
        .args([
            "--admin",
            &free().to_string(),
            "--metrics",
            &free().to_string(),
            "--ready",
            &free().to_string(),
        ])
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn the_program_signs_is_killed_and_comes_back_with_the_same_root() {
    let ((directory, _issuer), listen) = (prepared(), free());
    let path = |name: &str| directory.path().join(name);
    let roots = path("state/root.pem");
    let (one, two) = (
        client(listen, &roots, &path("node-1"), "24h"),
        client(listen, &roots, &path("node-2"), "24h"),
    );
    let served = async || {
        let until = async {
            while let Err(error) = ask(&one, &identity("web")).await {
                assert!(matches!(error, CertError::Unavailable { .. }), "{error}");
                tokio::task::yield_now().await;
            }
        };
        timeout(LONG, until).await.unwrap();
        fs::read(&roots).unwrap()
    };
    let mut first = program(directory.path(), listen);
    let root = served().await;
    assert!(
        refusal(&two, &identity("web"))
            .await
            .contains("no enrolled running pod on node node-2")
    );
    first.kill().await.unwrap();
    assert!(ask(&one, &identity("web")).await.is_err());
    let mut second = program(directory.path(), listen);
    assert_eq!(served().await, root);
    let term = terminate(second.id().unwrap());
    assert!(term.await);
    let ended = timeout(LONG, second.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(0));
}

/// Sends SIGTERM to a process of ours.
async fn terminate(pid: u32) -> bool {
    Command::new("kill")
        .arg(pid.to_string())
        .status()
        .await
        .unwrap()
        .success()
}

#[tokio::test]
async fn what_is_wrong_is_said_in_one_line() {
    let (directory, _issuer) = prepared();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    fs::write(directory.path().join("broken.yaml"), "issuers: [{issuer: a}]").unwrap();
    let cases: [(&[&str], &str); 4] = [
        (
            &["--listen", &taken.local_addr().unwrap().to_string()],
            "choose another address with --listen",
        ),
        (&["--issuers", "broken.yaml"], "missing field `jwks`"),
        (&["--config", "absent"], "absent"),
        (&["--state", "/proc/weft"], "/proc/weft"),
    ];
    for (flags, why) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ca"));
        command.current_dir(directory.path()).args(flags);
        let defaults = [
            ("--listen", free().to_string()),
            ("--state", "state".to_owned()),
            ("--issuers", "issuers.yaml".to_owned()),
            ("--config", "config".to_owned()),
        ];
        for (flag, value) in defaults {
            if !flags.contains(&flag) {
                command.args([flag, &value]);
            }
        }
        let output = timeout(LONG, command.output()).await.unwrap().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}: {said}");
        assert!(
            said.starts_with("ca: ") && said.contains(why) && said.lines().count() == 1,
            "{flags:?}: {said}"
        );
    }
}
