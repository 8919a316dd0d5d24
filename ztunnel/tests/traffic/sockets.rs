//! What every socket of ours is set to, and what happens when there are no more of them.

use std::{
    fs, io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use act::net::reset;
use decide::model::{Fence, Workload};
use rustix::process::{
    PidfdFlags, PidfdGetfdFlags, Resource, Rlimit, getpid, getrlimit, pidfd_getfd, pidfd_open, setrlimit,
};
use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{sleep, timeout},
};

use super::{
    accepted, application, configure, is_reset,
    mesh::{CLIENT, LONG, Mesh, OUTSIDE, SERVER, inside, pod},
    talk,
};

const TO: &str = "10.77.0.2:8080";

/// Descriptors of this process that are connected TCP sockets, with both addresses.
fn sockets() -> Vec<(OwnedFd, SocketAddr, SocketAddr)> {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).expect("this process");
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc/self/fd").expect("proc").flatten() {
        let Ok(number) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let Ok(copy) = pidfd_getfd(this.as_fd(), number, PidfdGetfdFlags::empty()) else {
            continue;
        };
        let socket = SockRef::from(&copy);
        let ends = (socket.local_addr(), socket.peer_addr());
        if let (Ok(local), Ok(peer)) = ends
            && let (Some(local), Some(peer)) = (local.as_socket(), peer.as_socket())
        {
            found.push((copy, local, peer));
        }
    }
    found
}

#[test]
fn every_socket_is_tuned_whichever_way_it_came_to_be() {
    inside("sockets::every_socket_is_tuned_whichever_way_it_came_to_be", || async {
        let mut mesh = Mesh::new();
        configure(&mut mesh, &[pod("client", CLIENT), pod("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        let server = mesh.capture_and_listen("server", SERVER);
        let (near, far) = (application(TO).await, application("10.99.0.1:443").await);
        let mut open = Vec::new();
        // One after the other: which of two would arrive first, nobody says.
        for way in 0..3 {
            let (mut ours, listener) = match way {
                0 => (client.connect(TO).await, &near),
                1 => (server.plaintext_from(OUTSIDE, 8080).await, &near),
                _ => (client.connect("10.99.0.1:443").await, &far),
            };
            let mut theirs = accepted(listener).await;
            talk(&mut ours, &mut theirs).await;
            open.push((ours, theirs));
        }
        // Which of our sockets: its own port, or the one it leads to; and whether its other end is in the same pod.
        for (what, ours, is_local) in [
            ("accepted from the application", (15001, 0), true),
            ("dialled for HBONE", (0, 15008), false),
            ("accepted for HBONE", (15008, 0), false),
            ("accepted as plaintext", (15006, 0), false),
            ("dialled to the application", (0, 8080), true),
            ("dialled out of the mesh", (0, 443), false),
        ] {
            let mut found = 0;
            for (socket, local, peer) in sockets() {
                if (ours.0 == 0 || local.port() == ours.0) && (ours.1 == 0 || peer.port() == ours.1) {
                    found += 1;
                    let socket = SockRef::from(&socket);
                    assert!(socket.tcp_nodelay().expect("asks"), "{what}: TCP_NODELAY");
                    assert!(socket.keepalive().expect("asks"), "{what}: keepalive");
                    let timeout = socket.tcp_user_timeout().expect("asks");
                    assert_eq!(timeout, Some(Duration::from_secs(60)), "{what}: TCP_USER_TIMEOUT");
                    let congestion = socket.tcp_congestion().expect("asks");
                    if is_local && has_cubic() {
                        assert!(congestion.starts_with(b"cubic"), "{what}: congestion control");
                    }
                }
            }
            assert!(found > 0, "{what}: there is none");
        }
    });
}

fn has_cubic() -> bool {
    let known = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control");
    known.is_ok_and(|known| known.contains("cubic"))
}

#[test]
fn a_client_that_resets_is_dialled_for_no_longer_and_one_that_only_finishes_is_served() {
    inside(
        "sockets::a_client_that_resets_is_dialled_for_no_longer_and_one_that_only_finishes_is_served",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let _server = mesh.capture_and_listen("server", SERVER);
            let application = application(TO).await;
            // The server is not known yet, so both wait.
            let mut finished = client.connect(TO).await;
            finished.shutdown().await.expect("ends");
            let gone = client.connect(TO).await;
            while client.traffic.live().len() < 2 {
                sleep(Duration::from_millis(5)).await;
            }
            reset(gone);
            let left = async {
                while client.traffic.live().len() > 1 {
                    sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(3), left)
                .await
                .expect("gone before the hold is over");
            configure(&mut mesh, &[pod("server", SERVER)]);
            let mut theirs = accepted(&application).await;
            assert_eq!(theirs.read(&mut [0]).await.expect("its end came along"), 0);
            theirs.write_all(b"answer").await.expect("writes");
            drop(theirs);
            let mut answer = String::new();
            finished.read_to_string(&mut answer).await.expect("reads");
            assert_eq!(answer, "answer");
            let second = timeout(Duration::from_millis(100), application.accept()).await;
            assert!(second.is_err(), "nobody was dialled for who is gone");
        },
    );
}

/// No further descriptor for this process, until dropped.
struct Exhausted(Rlimit);

impl Exhausted {
    fn new() -> io::Result<Self> {
        let before = getrlimit(Resource::Nofile);
        let numbers = fs::read_dir("/proc/self/fd")?.flatten();
        let mut numbers: Vec<u64> = numbers
            .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
            .collect();
        // The one that listed them is closed by now.
        numbers.retain(|number| fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
        // The lowest number that is free: none at all may be had.
        let free = (0..).find(|number| !numbers.contains(number)).unwrap_or_default();
        let limit = Rlimit {
            current: Some(free),
            ..before
        };
        setrlimit(Resource::Nofile, limit)?;
        Ok(Self(before))
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

#[test]
fn without_descriptors_a_dial_is_refused_and_the_next_one_works() {
    inside(
        "sockets::without_descriptors_a_dial_is_refused_and_the_next_one_works",
        || async {
            let mut mesh = Mesh::new();
            configure(&mut mesh, &[pod("client", CLIENT)]);
            let client = mesh.capture_and_listen("client", CLIENT);
            let _server = mesh.capture_and_listen("server", SERVER);
            let application = application(TO).await;
            let mut ours = client.connect(TO).await;
            while client.traffic.live().is_empty() {
                sleep(Duration::from_millis(5)).await;
            }
            let exhausted = Exhausted::new().expect("limits");
            configure(&mut mesh, &[pod("server", SERVER)]);
            assert!(is_reset(&mut ours).await);
            drop(exhausted);
            let mut ours = client.connect(TO).await;
            talk(&mut ours, &mut accepted(&application).await).await;
        },
    );
}

#[test]
fn without_descriptors_for_pipes_bulk_is_copied() {
    inside("sockets::without_descriptors_for_pipes_bulk_is_copied", || async {
        let mut mesh = Mesh::new();
        let open = |name: &str, address: &str| Workload {
            fence: Fence::Absent,
            ..pod(name, address)
        };
        configure(&mut mesh, &[open("client", CLIENT), open("server", SERVER)]);
        let client = mesh.capture_and_listen("client", CLIENT);
        let _server = mesh.capture_and_listen("server", SERVER);
        let application = application(TO).await;
        let mut ours = client.connect(TO).await;
        let mut theirs = accepted(&application).await;
        let _exhausted = Exhausted::new().expect("limits");
        let sent = vec![5; 8 << 20];
        let mut got = vec![0; sent.len()];
        let both = async { tokio::join!(ours.write_all(&sent), theirs.read_exact(&mut got)) };
        let (wrote, read) = timeout(LONG, both).await.expect("in time");
        wrote.expect("writes");
        read.expect("reads");
        assert!(got == sent);
    });
}
