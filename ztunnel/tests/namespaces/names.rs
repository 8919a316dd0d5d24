//! Names that only the mesh can answer, with real rules in a pod's namespace.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::Path,
    sync::mpsc,
    thread,
    time::Duration,
};

use tokio::{task::LocalSet, time::Instant};
use tokio_util::sync::CancellationToken;
use ztunnel::dns::{Inbox, Names, serve};

use crate::{
    node::{Node, ZDS, at, permissive},
    passing::Passing,
    payments::payments,
    world::{PodNet, alone, ipv6, until},
};

/// What the server says to everything: the query, turned around.
pub fn turned(query: &[u8]) -> Vec<u8> {
    query.iter().rev().copied().collect()
}

/// A name server that answers everything in its own way, some time after it was asked.
pub fn name_server(pod: &PodNet, address: IpAddr, after: Duration) {
    let socket = pod.netns.run(|| UdpSocket::bind((address, 53))).unwrap();
    let (tell, asked) = mpsc::channel::<(Instant, Vec<u8>, SocketAddr)>();
    let answering = socket.try_clone().unwrap();
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = tell.send((Instant::now() + after, turned(&buffer[..length]), from));
        }
    });
    thread::spawn(move || {
        while let Ok((due, answer, to)) = asked.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let _ = answering.send_to(&answer, to);
        }
    });
}

/// Asks a server from inside a pod, as a resolver does: only that server's own answer counts.
fn ask(pod: &PodNet, server: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut answer = Err(io::ErrorKind::TimedOut.into());
    for _ in 0..5 {
        answer = ask_once(pod, server, query, Duration::from_secs(2));
        if answer.is_ok() {
            break;
        }
    }
    answer
}

/// As [`ask`], without asking again.
pub fn ask_once(pod: &PodNet, server: SocketAddr, query: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let unspecified: IpAddr = match server.ip() {
        IpAddr::V4(_) => [0; 4].into(),
        IpAddr::V6(_) => [0; 16].into(),
    };
    let socket = pod.netns.run(|| UdpSocket::bind((unspecified, 0)))?;
    socket.connect(server)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(query)?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    Ok(buffer[..length].to_vec())
}

/// An A query for a name.
pub fn query(name: &str) -> Vec<u8> {
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    query
}

/// Answers a pod's names on a thread of their own, until dropped.
struct Answering(Option<tokio::sync::oneshot::Sender<()>>, Option<thread::JoinHandle<()>>);

impl Answering {
    fn start(names: Names) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            LocalSet::new().block_on(&runtime, async {
                tokio::select! {
                    () = serve(names, Inbox::default(), CancellationToken::new()) => {}
                    _ = stopped => {}
                }
            });
        });
        Self(Some(stop), Some(thread))
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        drop(self.0.take());
        self.1.take().unwrap().join().unwrap();
    }
}

/// Our name is answered, everything else reaches the server as it was sent, and many at a time each have their answer.
async fn answered_or_passed_on(client: &PodNet, to: SocketAddr) {
    let ours = query("payments.example");
    until("the name is answered by us", || {
        ask(client, to, &ours).is_ok_and(|answer| answer.ends_with(&[240, 0, 0, 7]))
    })
    .await;
    let update = [0x12, 0x34, 5 << 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 2, 3];
    let others = [
        query("web.shop.svc.cluster.local"),
        update.to_vec(),
        vec![7; 1400],
        vec![1],
    ];
    for other in &others {
        assert_eq!(ask(client, to, other).unwrap(), turned(other));
    }
    // many at a time, each with its own answer
    let many: Vec<_> = (0..50u8)
        .map(|number| {
            let client = client.clone();
            thread::spawn(move || ask(&client, to, &[number; 40]).unwrap() == vec![number; 40])
        })
        .collect();
    assert!(many.into_iter().all(|asked| asked.join().unwrap()));
}

#[test]
fn names_of_ours_are_answered_and_everything_else_goes_on_byte_for_byte() {
    alone(
        "names::names_of_ours_are_answered_and_everything_else_goes_on_byte_for_byte",
        async || {
            let (client, server) = (PodNet::new("client", 2), PodNet::new("server", 3));
            let mut servers = vec![server.v4];
            if ipv6() {
                servers.push(server.v6);
            }
            servers
                .iter()
                .for_each(|address| name_server(&server, *address, Duration::ZERO));
            let mut node = Node::start(Path::new(ZDS), &[permissive(&client)]);
            let _ztunnel = Passing::start(Path::new(ZDS));
            node.state("client", Some("Captured")).await;
            assert!(!client.nft().contains("tproxy"), "no name, no rule");

            node.put_external(payments());
            let names = Names {
                uid: client.uid.into(),
                reader: node.reader.clone(),
                netns: client.netns.clone(),
                queries: 100,
            };
            let answering = Answering::start(names.clone());
            until("the rules are there", || client.nft().contains("tproxy")).await;
            for address in &servers {
                answered_or_passed_on(&client, at(*address, 53)).await;
            }

            // with nobody there, queries pass as if there were no rule
            drop(answering);
            for address in &servers {
                let ours = query("payments.example");
                until("port 53 passes", || {
                    ask(&client, at(*address, 53), &ours).is_ok_and(|answer| answer == turned(&ours))
                })
                .await;
            }

            let _answering = Answering::start(names);
            until("a new ztunnel answers again", || {
                ask(&client, at(server.v4, 53), &query("payments.example"))
                    .is_ok_and(|answer| answer.ends_with(&[240, 0, 0, 7]))
            })
            .await;
            node.forget_external(&payments());
            until("the rules are gone with the last name", || {
                !client.nft().contains("tproxy")
            })
            .await;
            let ours = query("payments.example");
            assert_eq!(ask(&client, at(server.v4, 53), &ours).unwrap(), turned(&ours));
        },
    );
}
