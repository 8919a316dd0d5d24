//! `act`'s client and certificates against the service, through restarts.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use act::certs::{CertError, Certificates};
use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::stage::{Issuer, LONG, Stage, ask, client, identity};

#[tokio::test]
async fn certificates_of_two_nodes_make_a_handshake() {
    let stage = Stage::new().await;
    let node = |name: &str| Certificates::new(Arc::new(stage.client(&stage.issuer.node_token(name))));
    let (one, two) = (node("node-1"), node("node-2"));
    let _holds = (one.hold(&identity("web")), two.hold(&identity("db")));
    let (web, db) = (
        one.leaf(&identity("web")).await.unwrap(),
        two.leaf(&identity("db")).await.unwrap(),
    );
    let (near, far) = tokio::io::duplex(64 * 1024);
    let expected = identity("db");
    let (client, server) = tokio::join!(act::tls::connect(&web, near, &expected), act::tls::accept(&db, far));
    let ((_, to), (_, from)) = (client.unwrap(), server.unwrap());
    assert_eq!((to.identity(), from.identity()), (&identity("db"), &identity("web")));
    // What a node may not hold stays refused, and says so at once.
    let _hold = one.hold(&identity("db"));
    assert!(matches!(
        one.leaf(&identity("db")).await,
        Err(CertError::Refused { .. })
    ));
}

#[tokio::test]
async fn a_restart_keeps_the_root_and_clients_find_it_again() {
    let stage = Stage::new().await;
    let token = stage.token_file(&stage.issuer.node_token("node-1"));
    let roots = stage.path("state/root.pem");
    let before = fs::read(&roots).unwrap();
    let client = client(stage.address, &roots, &token, "24h");
    ask(&client, &identity("web")).await.unwrap();
    let address = stage.address;
    let (directory, issuer) = stage.stop().await;
    let error = ask(&client, &identity("web")).await.unwrap_err();
    assert!(matches!(error, CertError::Unavailable { .. }), "{error}");
    let again = Stage::with(directory, issuer, |_, _| {}).await;
    assert_eq!(fs::read(&roots).unwrap(), before);
    // The new one listens elsewhere: join the two by a port that stayed the same.
    relay(address, again.address).await;
    ask(&client, &identity("web")).await.unwrap();
}

/// Passes connections to `address` on to another.
async fn relay(address: SocketAddr, to: SocketAddr) {
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
}

#[tokio::test]
async fn token_and_roots_are_read_again_for_every_call() {
    let stage = Stage::new().await;
    let token = stage.token_file(&stage.issuer.node_token("node-2"));
    let roots = stage.path("roots.pem");
    fs::copy(stage.path("state/root.pem"), &roots).unwrap();
    let client = client(stage.address, &roots, &token, "24h");
    ask(&client, &identity("web")).await.unwrap_err();
    fs::write(&token, format!("{}\n", stage.issuer.node_token("node-1"))).unwrap();
    ask(&client, &identity("web")).await.unwrap();
    // Another mesh's root: the CA is not to be trusted any longer.
    let other = Stage::new().await;
    fs::copy(other.path("state/root.pem"), &roots).unwrap();
    let error = ask(&client, &identity("web")).await.unwrap_err().to_string();
    assert!(error.contains("not verified as ca.test"), "{error}");
    for (file, content) in [(&roots, ""), (&token, ""), (&token, "a\nb")] {
        let kept = fs::read(file).unwrap();
        fs::write(file, content).unwrap();
        assert!(matches!(
            ask(&client, &identity("web")).await,
            Err(CertError::Unavailable { .. })
        ));
        fs::write(file, kept).unwrap();
    }
    fs::copy(stage.path("state/root.pem"), &roots).unwrap();
    ask(&client, &identity("web")).await.unwrap();
}

#[tokio::test]
async fn connections_of_one_address_are_bounded_and_silent_ones_end() {
    let stage = Stage::with(tempfile::tempdir().unwrap(), Issuer::new("k"), |_, bounds| {
        bounds.per_address = 3;
        bounds.handshake = Duration::from_millis(300);
    })
    .await;
    let mut silent = Vec::new();
    for _ in 0..3 {
        silent.push(TcpStream::connect(stage.address).await.unwrap());
    }
    let ended = async |socket: &mut TcpStream| {
        let mut byte = [0];
        tokio::time::timeout(LONG, socket.read(&mut byte))
            .await
            .unwrap()
            .unwrap_or(0)
    };
    // The fourth is closed at once; the silent ones when their time is over; then there is room again.
    let mut fourth = TcpStream::connect(stage.address).await.unwrap();
    assert_eq!(ended(&mut fourth).await, 0);
    for socket in &mut silent {
        assert_eq!(ended(socket).await, 0);
    }
    let node = stage.client(&stage.issuer.node_token("node-1"));
    ask(&node, &identity("web")).await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_its_client_connects_again() {
    let stage = Stage::with(tempfile::tempdir().unwrap(), Issuer::new("k"), |_, bounds| {
        bounds.idle = Duration::from_millis(100);
        bounds.per_address = 1;
    })
    .await;
    // There is room for one connection: the second client is served once the first's has ended, and so on.
    let clients = [(); 2].map(|()| stage.client(&stage.issuer.node_token("node-1")));
    for turn in 0..4 {
        let served = async {
            while ask(&clients[turn % 2], &identity("web")).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, served).await.unwrap();
    }
    stage.stop().await;
}

/// What stands before replicas, as a Service does: each connection goes to the next of them, dead or alive.
async fn service(replicas: &Arc<Mutex<Vec<SocketAddr>>>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, replicas) = (listener.local_addr().unwrap(), replicas.clone());
    tokio::spawn(async move {
        for turn in 0.. {
            let Ok((mut near, _)) = listener.accept().await else {
                return;
            };
            let to = {
                let replicas = replicas.lock().unwrap();
                replicas[turn % replicas.len()]
            };
            tokio::spawn(async move {
                if let Ok(mut far) = TcpStream::connect(to).await {
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                }
            });
        }
    });
    address
}

/// Another replica: the same keys, the same issuer of tokens.
async fn replica(of: &Stage) -> Stage {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    for name in ["root.key", "root.pem", "intermediate.key", "intermediate.pem"] {
        let name = format!("state/{name}");
        fs::copy(of.path(&name), directory.path().join(&name)).unwrap();
    }
    let issuer = Issuer {
        key: of.issuer.key.clone(),
        id: of.issuer.id.clone(),
    };
    let linger = |bounds: &mut ca::listen::Bounds| bounds.linger = Duration::from_millis(200);
    Stage::with(directory, issuer, |_, bounds| linger(bounds)).await
}

#[tokio::test]
async fn a_rollout_of_replicas_fails_no_issuance() {
    let first = Stage::new().await;
    let mut running = [replica(&first).await, replica(&first).await];
    let replicas = Arc::new(Mutex::new(vec![running[0].address, running[1].address]));
    let (address, roots) = (service(&replicas).await, first.path("state/root.pem"));
    let token = first.token_file(&first.issuer.node_token("node-1"));
    let (done, signed) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let client = client(address, &roots, &token, "24h");
        let (done, signed) = (done.clone(), signed.clone());
        clients.spawn(async move {
            while !done.load(Ordering::SeqCst) {
                ask(&client, &identity("web")).await.unwrap();
                signed.fetch_add(1, Ordering::SeqCst);
            }
        });
    }
    let more = async |than: usize| {
        let until = async {
            while signed.load(Ordering::SeqCst) < than {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, until).await.unwrap();
    };
    for turn in 0..6 {
        more((turn + 1) * 20).await;
        let next = replica(&first).await;
        let (place, address) = (turn % 2, next.address);
        // Only some certificates after it was asked to stop nobody is sent to the old one any more.
        let told = async {
            more(signed.load(Ordering::SeqCst) + 4).await;
            replicas.lock().unwrap()[place] = address;
        };
        tokio::join!(std::mem::replace(&mut running[place], next).stop(), told);
    }
    done.store(true, Ordering::SeqCst);
    clients.join_all().await;
}

#[tokio::test]
async fn a_replica_that_is_gone_costs_no_certificate() {
    let stage = Stage::new().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let replicas = Arc::new(Mutex::new(vec![gone, stage.address]));
    let (address, roots) = (service(&replicas).await, stage.path("state/root.pem"));
    let token = stage.token_file(&stage.issuer.node_token("node-1"));
    for _ in 0..4 {
        ask(&client(address, &roots, &token, "24h"), &identity("web"))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_replica_that_says_nothing_costs_seconds_and_no_certificate() {
    let stage = Stage::new().await;
    // The kernel accepts for it; nobody ever reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let replicas = Arc::new(Mutex::new(vec![silent.local_addr().unwrap(), stage.address]));
    let (address, roots) = (service(&replicas).await, stage.path("state/root.pem"));
    let token = stage.token_file(&stage.issuer.node_token("node-1"));
    ask(&client(address, &roots, &token, "24h"), &identity("web"))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_token_and_roots_that_are_not_there_yet_are_waited_for_and_named() {
    let stage = Stage::new().await;
    let (roots, token) = (stage.path("late-root.pem"), stage.path("late-token"));
    let certificates = Certificates::new(Arc::new(client(stage.address, &roots, &token, "24h")));
    let _hold = certificates.hold(&identity("web"));
    let missing = certificates.leaf(&identity("web")).await.unwrap_err().to_string();
    assert!(missing.contains("late-token cannot be read"), "{missing}");
    fs::write(&token, stage.issuer.node_token("node-1")).unwrap();
    let until = async |there: bool| {
        let found = async {
            loop {
                match certificates.leaf(&identity("web")).await {
                    Ok(_) if there => return,
                    Err(error) if !there && error.to_string().contains("late-root.pem cannot be read") => return,
                    _ => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        };
        tokio::time::timeout(LONG, found).await.unwrap();
    };
    until(false).await;
    fs::copy(stage.path("state/root.pem"), &roots).unwrap();
    until(true).await;
}
