//! The younger side: asks those that were there before.

use std::{
    io,
    net::{TcpListener, UdpSocket},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use decide::model::ports::DNS;
use socket2::{SockRef, Type};
use tokio::time::{Instant, timeout};

use super::{Answer, Malformed, Request};
use crate::zds::{Packets, Received};

/// How long an elder may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// How long an elder that did not answer is not asked again.
const SULK: Duration = Duration::from_secs(5);

/// The ztunnels of this node that were there before us and live. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Elders {
    living: Arc<Mutex<Vec<Arc<Elder>>>>,
}

#[derive(Debug)]
struct Elder {
    number: u64,
    path: PathBuf,
    packets: Packets,
    talk: tokio::sync::Mutex<Talk>,
}

#[derive(Debug, Default)]
struct Talk {
    asked: u32,
    silent_until: Option<Instant>,
}

/// A pod's sockets, handed over.
#[derive(Debug, Default)]
pub struct Handed {
    /// Those that listen, by port.
    pub listeners: Vec<(u16, TcpListener)>,
    /// Those that take its DNS queries.
    pub names: Vec<UdpSocket>,
}

/// Why an elder gave no answer.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error("it did not answer within {ANSWER:?}")]
    Silent,
    #[error("it is gone")]
    Gone,
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
    #[error("it broke the protocol: {0}")]
    Protocol(#[from] Malformed),
    #[error("it is another user's")]
    Stranger,
}

impl Elders {
    /// Greets the ztunnels at these sockets; `number` is ours. A socket of one that died is removed.
    pub async fn greet(number: u64, sockets: &[(u64, PathBuf)]) -> Self {
        let elders = Self::default();
        for (theirs, path) in sockets {
            match meet(number, *theirs, path).await {
                Ok(elder) => {
                    tracing::info!(elder = theirs, "another ztunnel serves this node: taking over from it");
                    elders.lock().push(Arc::new(elder));
                }
                Err(Trouble::Broken(why)) if why.kind() == io::ErrorKind::ConnectionRefused => {
                    let _ = std::fs::remove_file(path);
                }
                Err(why) => tracing::warn!(elder = theirs, %why, "a ztunnel that was there before hands nothing over"),
            }
        }
        elders
    }

    /// The sockets of a pod, of all elders that have some; each once.
    pub async fn want(&self, uid: &Arc<str>, netns: u64) -> Handed {
        let mut handed = Handed::default();
        let mut seen = Vec::new();
        for elder in self.living() {
            let request = Request::Want(uid.clone(), netns);
            let Some((Answer::Offer(ports), descriptors)) = self.ask(&elder, &request).await else {
                continue;
            };
            for (port, descriptor) in ports.into_iter().zip(descriptors) {
                match checked(port, &descriptor) {
                    Ok(inode) if seen.contains(&inode) => continue,
                    Ok(inode) => seen.push(inode),
                    Err(why) => {
                        tracing::warn!(port, %why, "what was handed over is no socket of ours");
                        continue;
                    }
                }
                match port {
                    DNS => handed.names.push(descriptor.into()),
                    _ => handed.listeners.push((port, descriptor.into())),
                }
            }
        }
        handed
    }

    /// Tells every elder that we accept for a pod, on these sockets. `false`: one has other listeners, which are to be
    /// asked for, or does not answer.
    pub async fn taken(&self, uid: &Arc<str>, sockets: &[u64]) -> bool {
        let mut all = true;
        for elder in self.living() {
            let request = Request::Taken(uid.clone(), sockets.to_vec());
            match self.ask(&elder, &request).await {
                Some((Answer::No(why), _)) => {
                    tracing::debug!(pod = %uid, why, "an elder goes on accepting");
                    all = false;
                }
                // one that says nothing may say something later
                None if self.lives(&elder) => all = false,
                Some(_) | None => {}
            }
        }
        all
    }

    /// Whether no elder that answers accepts for any pod any more.
    pub async fn done(&self) -> bool {
        let mut all = true;
        for elder in self.living() {
            if let Some((Answer::No(why), _)) = self.ask(&elder, &Request::Done).await {
                tracing::debug!(elder = elder.number, why, "not everything is taken over");
                all = false;
            }
        }
        all
    }

    /// Whether an elder goes on in our stead; it accepts for our pods when this returns. All are told, so that none
    /// takes us for one who still accepts.
    pub async fn leave(&self) -> bool {
        let mut goes_on = false;
        for elder in self.living() {
            goes_on |= matches!(self.ask(&elder, &Request::Leave).await, Some((Answer::Ok, _)));
        }
        goes_on
    }

    /// How many live, as far as we know.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// An answer; `None` when there is none. An elder that broke off or breaks the protocol is never asked again.
    async fn ask(&self, elder: &Arc<Elder>, request: &Request) -> Option<(Answer, Vec<OwnedFd>)> {
        match elder.ask(request).await {
            Ok(answered) => Some(answered),
            Err(Trouble::Silent) => None,
            Err(why) => {
                tracing::info!(elder = elder.number, %why, "an earlier ztunnel is left to itself");
                self.lock().retain(|other| !Arc::ptr_eq(other, elder));
                if matches!(why, Trouble::Gone | Trouble::Broken(_)) {
                    // one that was killed left it behind
                    let _ = std::fs::remove_file(&elder.path);
                }
                None
            }
        }
    }

    fn lives(&self, elder: &Arc<Elder>) -> bool {
        self.lock().iter().any(|other| Arc::ptr_eq(other, elder))
    }

    fn living(&self) -> Vec<Arc<Elder>> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Elder>>> {
        self.living.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Elder {
    /// One request at a time. An answer that comes after its time is skipped by the next.
    async fn ask(&self, request: &Request) -> Result<(Answer, Vec<OwnedFd>), Trouble> {
        let mut talk = self.talk.lock().await;
        if talk.silent_until.is_some_and(|until| Instant::now() < until) {
            return Err(Trouble::Silent);
        }
        talk.asked = talk.asked.wrapping_add(1);
        let id = talk.asked;
        let packet = request.encode(id)?;
        let asking = async {
            self.packets.send(&packet, None).await?;
            loop {
                let Received { packet, descriptors } = self.packets.receive().await?.ok_or(Trouble::Gone)?;
                let (to, answer) = Answer::decode(&packet, descriptors.len())?;
                if to == id {
                    return Ok((answer, descriptors));
                }
            }
        };
        let answered = timeout(ANSWER, asking).await;
        talk.silent_until = answered.is_err().then(|| Instant::now() + SULK);
        answered.unwrap_or(Err(Trouble::Silent))
    }
}

async fn meet(ours: u64, theirs: u64, path: &Path) -> Result<Elder, Trouble> {
    let packets = Packets::connect(path)?;
    if packets.peer()? != rustix::process::geteuid().as_raw() {
        return Err(Trouble::Stranger);
    }
    let elder = Elder {
        number: theirs,
        path: path.to_owned(),
        packets,
        talk: tokio::sync::Mutex::default(),
    };
    match elder.ask(&Request::Hello(ours)).await? {
        (Answer::Ok, _) => Ok(elder),
        _ => Err(Trouble::Gone),
    }
}

/// Which socket a descriptor is: one that listens on this port, or takes datagrams on the port for DNS.
fn checked(port: u16, descriptor: &OwnedFd) -> io::Result<u64> {
    let inode = rustix::fs::fstat(descriptor)?.st_ino;
    let socket = SockRef::from(descriptor);
    let fits = match port {
        DNS => socket.r#type()? == Type::DGRAM,
        _ => socket.is_listener()?,
    };
    if !fits {
        return Err(io::Error::other("it is of another kind"));
    }
    let local = socket.local_addr()?.as_socket().map(|local| local.port());
    if local != Some(port) {
        return Err(io::Error::other(format!("it is on port {local:?}")));
    }
    Ok(inode)
}
