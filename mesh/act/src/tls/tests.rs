//! Handshakes of ours with ours over memory, and of ours with `openssl s_client` over loopback.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, SystemTime},
};

use decide::model::Identity;
use rcgen::KeyPair;
use rustls::{NamedGroup, ServerConfig, version::TLS13};
use tokio::{io::AsyncWriteExt, net::TcpListener, process::Command, time::timeout};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::certs::{Leaf, Validity, local::LocalAuthority};

const LONG: Duration = Duration::from_secs(60);

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

fn life_around(now: SystemTime) -> Validity {
    Validity::around(now, Duration::from_secs(300), Duration::from_secs(3600))
}

type Ends = (Result<Peer, TlsError>, Result<Peer, TlsError>);

/// What client and server say of each other; the negotiated group must be the post-quantum one.
async fn shake(client: &Leaf, server: &Leaf, expected: &Identity) -> Ends {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let connecting = async {
        let (stream, peer) = connect(client, near, expected).await?;
        assert_eq!(stream.group(), Some(NamedGroup::X25519MLKEM768));
        Ok((stream, peer))
    };
    let (client, server) = timeout(LONG, async { tokio::join!(connecting, accept(server, far)) })
        .await
        .unwrap();
    (client.map(|(_, peer)| peer), server.map(|(_, peer)| peer))
}

#[tokio::test]
async fn both_ends_prove_who_they_are() {
    let authority = LocalAuthority::new().unwrap();
    let (client, server) = (
        authority.leaf(&identity("web")).unwrap(),
        authority.leaf(&identity("db")).unwrap(),
    );
    for _ in 0..2 {
        let (of_client, of_server) = shake(&client, &server, &identity("db")).await;
        let (of_client, of_server) = (of_client.unwrap(), of_server.unwrap());
        assert_eq!(
            (of_client.identity(), of_client.serial()),
            (&identity("db"), &server.serial)
        );
        assert_eq!(
            (of_server.identity(), of_server.serial()),
            (&identity("web"), &client.serial)
        );
        assert_eq!(of_server.not_after(), client.not_after);
    }
}

#[tokio::test]
async fn another_identity_than_expected_is_refused_before_we_show_ourselves() {
    let authority = LocalAuthority::new().unwrap();
    let leaf = authority.leaf(&identity("web")).unwrap();
    let server = authority.leaf(&identity("db")).unwrap();
    // The client configuration is shared; whom it expects must not be.
    shake(&leaf, &server, &identity("db")).await.0.unwrap();
    let (client, server) = shake(&leaf, &server, &identity("cache")).await;
    let why = client.unwrap_err().to_string();
    assert!(
        why.contains("sa/db, not spiffe://cluster.local/ns/shop/sa/cache"),
        "{why}"
    );
    assert!(matches!(server.unwrap_err(), TlsError::Handshake(_)));
}

#[tokio::test]
async fn foreign_roots_are_refused_on_both_sides() {
    let (ours, theirs) = (LocalAuthority::new().unwrap(), LocalAuthority::new().unwrap());
    let (client, server) = (
        ours.leaf(&identity("web")).unwrap(),
        theirs.leaf(&identity("db")).unwrap(),
    );
    let (client, _) = shake(&client, &server, &identity("db")).await;
    assert!(client.unwrap_err().to_string().contains("chain does not hold"));

    // A server of ours, a client whose own bundle trusts us: only the server can refuse.
    let key = KeyPair::generate().unwrap();
    let certificate = theirs
        .issuer()
        .leaf(
            &key,
            &crate::certs::Name::Identity(&identity("web")),
            life_around(SystemTime::now()),
        )
        .unwrap();
    let both = crate::certs::Signed {
        chain: vec![certificate.certificate, theirs.issuer().certificate().clone()],
        roots: vec![theirs.root().clone(), ours.root().clone()],
    };
    let key = key.serialize_der().into();
    let client = Leaf::verified(&identity("web"), key, both, SystemTime::now()).unwrap();
    let (_, server) = shake(&client, &ours.leaf(&identity("db")).unwrap(), &identity("db")).await;
    assert!(server.unwrap_err().to_string().contains("chain does not hold"));
}

#[tokio::test]
async fn expired_leaves_are_refused_on_both_sides() {
    let authority = LocalAuthority::new().unwrap();
    let key = KeyPair::generate().unwrap();
    let past = Validity::around(
        SystemTime::now() - Duration::from_secs(30),
        LONG,
        Duration::from_secs(10),
    );
    let old = |account: &str| authority.leaf_of(&identity(account), &key, past).unwrap();
    let fresh = |account: &str| authority.leaf(&identity(account)).unwrap();
    let (client, _) = shake(&fresh("web"), &old("db"), &identity("db")).await;
    assert!(client.unwrap_err().to_string().contains("chain does not hold"));
    let (_, server) = shake(&old("web"), &fresh("db"), &identity("db")).await;
    assert!(server.unwrap_err().to_string().contains("chain does not hold"));
}

#[tokio::test]
async fn a_foreign_trust_domain_is_refused_on_both_sides_even_under_our_root() {
    let authority = LocalAuthority::new().unwrap();
    let foreign = Identity::new("elsewhere", "shop", "web").unwrap();
    let (ours, theirs) = (
        authority.leaf(&identity("db")).unwrap(),
        authority.leaf(&foreign).unwrap(),
    );
    let (client, _) = shake(&ours, &theirs, &foreign).await;
    assert!(client.unwrap_err().to_string().contains("foreign trust domain"));
    let (server, _) = openssl(&["-alpn", "h2"], Some(&foreign)).await;
    assert!(server.unwrap_err().to_string().contains("foreign trust domain"));
}

#[tokio::test]
async fn a_server_that_agrees_on_no_protocol_is_refused() {
    let authority = LocalAuthority::new().unwrap();
    let (client, server) = (
        authority.leaf(&identity("web")).unwrap(),
        authority.leaf(&identity("db")).unwrap(),
    );
    let single = rustls::sign::SingleCertAndKey::from(rustls::sign::CertifiedKey::clone(&server.certified));
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(single));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let db = identity("db");
    let (client, _) = tokio::join!(
        connect(&client, near, &db),
        TlsAcceptor::from(Arc::new(config)).accept(far)
    );
    assert_eq!(client.unwrap_err().to_string(), "the peer did not agree on ALPN h2");
}

#[test]
fn the_pod_of_a_captured_namespace_is_known_only_while_its_leaf_holds() {
    let authority = LocalAuthority::new().unwrap();
    let leaf = authority.leaf(&identity("web")).unwrap();
    let peer = Peer::captured_here(&leaf, SystemTime::now()).unwrap();
    assert_eq!((peer.identity(), peer.serial()), (&identity("web"), &leaf.serial));
    assert!(Peer::captured_here(&leaf, leaf.not_after).is_none());
}

/// Our server, and what it and `openssl s_client` with these arguments, as whom or nobody, say of one handshake.
async fn openssl(arguments: &[&str], who: Option<&Identity>) -> (Result<Peer, TlsError>, String) {
    let authority = LocalAuthority::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = authority
        .leaf_of(
            &who.cloned().unwrap_or_else(|| identity("web")),
            &key,
            life_around(SystemTime::now()),
        )
        .unwrap();
    let (key_file, chain_file) = (directory.path().join("key.pem"), directory.path().join("chain.pem"));
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::write(&chain_file, crate::certs::pem(&leaf.certified.cert)).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut command = Command::new("openssl");
    command.args(["s_client", "-ign_eof", "-msg", "-connect"]);
    command.arg(listener.local_addr().unwrap().to_string()).args(arguments);
    if who.is_some() {
        command
            .arg("-key")
            .arg(&key_file)
            .arg("-cert")
            .arg(&chain_file)
            .arg("-cert_chain")
            .arg(&chain_file);
    }
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let child = command.spawn().expect("openssl is needed: install the package openssl");

    let server = authority.leaf(&identity("db")).unwrap();
    let (socket, _) = timeout(LONG, listener.accept()).await.unwrap().unwrap();
    let result = match timeout(LONG, accept(&server, socket)).await.unwrap() {
        Ok((mut stream, peer)) => {
            let mut wire = stream.records.sealed(b"hello from the mesh\n");
            stream.records.close(&mut wire).unwrap();
            stream.socket.write_all(&wire).await.unwrap();
            stream.socket.shutdown().await.unwrap();
            Ok(peer)
        }
        Err(error) => Err(error),
    };
    let output = timeout(LONG, child.wait_with_output()).await.unwrap().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (result, String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn openssl_connects_by_either_classic_group_and_gets_no_ticket() {
    for group in ["X25519", "P-256"] {
        let (server, client) = openssl(&["-alpn", "h2", "-groups", group], Some(&identity("web"))).await;
        assert_eq!(server.unwrap().identity(), &identity("web"));
        assert!(client.contains("hello from the mesh"), "{client}");
        assert!(client.contains("Finished"), "handshake messages are shown: {client}");
        assert!(!client.contains("NewSessionTicket"), "{client}");
        assert!(client.contains("TLS_AES_256_GCM_SHA384"), "{client}");
    }
}

#[tokio::test]
async fn openssl_is_refused_without_certificate_with_other_protocols_and_versions() {
    let cases: [(&[&str], bool, &str); 5] = [
        (&["-alpn", "h2"], false, "no certificate was presented"),
        (&["-alpn", "http/1.1"], true, "the peer does not offer ALPN h2"),
        (&[], true, "the client offers no ALPN"),
        (&["-alpn", "h2", "-tls1_2"], true, "the peer does not speak TLS 1.3"),
        (
            &["-alpn", "h2", "-ciphersuites", "TLS_CHACHA20_POLY1305_SHA256"],
            true,
            "NoCipherSuitesInCommon",
        ),
    ];
    let web = identity("web");
    for (arguments, with_leaf, why) in cases {
        let (server, client) = openssl(arguments, with_leaf.then_some(&web)).await;
        let error = server.unwrap_err().to_string();
        assert!(error.contains(why), "{arguments:?}: {error}\n{client}");
        assert!(!client.contains("hello from the mesh"));
    }
}
