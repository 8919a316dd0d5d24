//! A ztunnel that passes everything on: ZDS, listeners in the pod, sources kept. No policy, no TLS.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    os::fd::OwnedFd,
    path::Path,
    sync::{Arc, Mutex},
};

use act::net::{Acceptor, Dialer, Listen, Netns, SocketOptions, listen, original_destination};
use decide::model::{SO_MARK, ports};
use tokio::{net::TcpStream, task::JoinSet};
use ztunnel::zds::{Pod, Pods, Response, connect};

/// A pod's listeners, after the inode of the namespace they are in.
type Listeners = (u64, JoinSet<()>);

/// What it did, by lines such as `inbound 10.9.0.1 10.9.0.2:80`.
#[derive(Clone, Default)]
pub struct Passing {
    pub log: Arc<Mutex<Vec<String>>>,
    /// Of each pod, by UID.
    pods: Arc<Mutex<HashMap<Arc<str>, Listeners>>>,
}

impl Passing {
    /// Connects to the agent, for ever.
    pub fn start(path: &Path) -> Self {
        let passing = Self::default();
        let (mut pods, path) = (passing.clone(), path.to_owned());
        tokio::spawn(async move { connect(&path, &mut pods).await });
        passing
    }

    pub fn served(&self) -> Vec<String> {
        let mut served: Vec<String> = self.pods.lock().unwrap().keys().map(|uid| uid.to_string()).collect();
        served.sort();
        served
    }

    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }

    fn open(&self, netns: &Netns) -> JoinSet<()> {
        let dialer = Dialer {
            netns: netns.clone(),
            mark: Some(SO_MARK),
            options: SocketOptions::default(),
        };
        let mut listeners = JoinSet::new();
        for port in [ports::OUTBOUND, ports::INBOUND_PLAINTEXT, ports::HBONE] {
            let mut acceptor = Acceptor::new(listen(netns, Listen::everywhere(port)).unwrap()).unwrap();
            let (dialer, log) = (dialer.clone(), self.log.clone());
            listeners.spawn(async move {
                while let Ok((socket, from)) = acceptor.accept().await {
                    tokio::spawn(pass(socket, from, port, dialer.clone(), log.clone()));
                }
            });
        }
        listeners
    }
}

async fn pass(mut socket: TcpStream, from: SocketAddr, port: u16, dialer: Dialer, log: Arc<Mutex<Vec<String>>>) {
    let to = original_destination(&socket).unwrap();
    let direction = if port == ports::OUTBOUND { "outbound" } else { "inbound" };
    log.lock().unwrap().push(format!("{direction} {} {to}", from.ip()));
    let onward = match port {
        ports::OUTBOUND => dialer.connect(to).await,
        ports::INBOUND_PLAINTEXT => dialer.connect_from(from.ip(), to).await,
        _ => return,
    };
    if let Ok(mut onward) = onward {
        let _ = tokio::io::copy_bidirectional(&mut socket, &mut onward).await;
    }
}

impl Pods for Passing {
    async fn add(&mut self, pod: Pod, netns: OwnedFd) -> Response {
        let mut pods = self.pods.lock().unwrap();
        let inode = rustix::fs::fstat(&netns).unwrap().st_ino;
        if pods.get(&pod.uid).is_none_or(|(known, _)| *known != inode) {
            let listeners = self.open(&Netns::new(netns));
            pods.insert(pod.uid, (inode, listeners));
        }
        Ok(())
    }

    fn keep(&mut self, _: &str) -> Response {
        Ok(())
    }

    /// Listeners go at once; what was accepted lives on.
    fn release(&mut self, uid: &str) {
        self.pods.lock().unwrap().remove(uid);
    }

    fn told(&mut self, uids: &HashSet<Arc<str>>) {
        self.pods.lock().unwrap().retain(|uid, _| uids.contains(uid));
    }

    fn connected(&mut self, _: bool) {}
}
