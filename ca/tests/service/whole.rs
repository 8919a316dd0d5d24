//! `act`'s client and certificates against the service, through restarts.

use std::{fs, net::SocketAddr, sync::Arc, time::Duration};

use act::certs::{CertError, Certificates};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

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
    let ((mut client, to), (mut server, from)) = (client.unwrap(), server.unwrap());
    assert_eq!((to.identity(), from.identity()), (&identity("db"), &identity("web")));
    client.write_all(b"hello").await.unwrap();
    let mut bytes = [0; 5];
    server.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"hello");
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
