//! The ztunnel's side: connects, reconnects, and hands every request to [`Pods`].

use std::{
    collections::HashSet,
    future::Future,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::time::sleep;

use super::{
    Malformed, Packets, Pod, Received, Request, Response,
    message::{encode_hello, encode_response},
};

/// Waits between attempts to reach the agent: the first, and the longest. A pod that ran uncaptured is captured no sooner
/// than an agent that starts is reached, and to find no socket there costs microseconds.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(100));

/// Who serves the pods that the agent announces.
pub trait Pods: Send {
    /// Serves a pod. Answered when its listeners are open and its leaf is there, or with the reason why not; the
    /// agent asks again. A pod served already, or being released, goes on without losing anything.
    fn add(&mut self, pod: Pod, netns: OwnedFd) -> impl Future<Output = Response> + Send;

    /// Goes on serving a pod announced on an earlier connection.
    fn keep(&mut self, uid: &str) -> Response;

    /// Releases a pod. One that is not known is released already.
    fn release(&mut self, uid: &str);

    /// Every pod of the node has been told on this connection: those served but not told are to be released.
    fn told(&mut self, uids: &HashSet<Arc<str>>);

    /// Which of this node's ztunnels we are: higher the later we started, 0 where nobody numbers them.
    fn number(&self) -> u64 {
        0
    }

    /// The connection to the agent was made or lost. What is served goes on.
    fn connected(&mut self, connected: bool);
}

/// Why a connection to the agent ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the agent does not listen at {0}: {1}")]
    Unreachable(PathBuf, io::Error),
    #[error("the agent closed the connection")]
    Closed,
    #[error("the connection to the agent broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the agent broke the protocol: {0}")]
    Protocol(#[from] Malformed),
    #[error("the agent broke the protocol: KeepWorkload after SnapshotSent")]
    LateKeep,
}

/// Talks to the agent at `path` for ever: connects, answers, and connects again when the connection ends.
pub async fn connect(path: &Path, pods: &mut impl Pods) {
    let (first, longest) = BACKOFF;
    let mut wait = first;
    let mut said = String::new();
    loop {
        let ended = session(path, pods, &mut wait).await;
        pods.connected(false);
        let why = ended.to_string();
        // an agent that stays away is said once, not at every attempt
        if why != said {
            tracing::warn!(why, "no agent gives us pods; those we have are served on");
            said = why;
        }
        sleep(wait.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
        wait = (wait * 2).min(longest);
    }
}

/// One connection, to its end.
async fn session(path: &Path, pods: &mut impl Pods, wait: &mut Duration) -> Ended {
    let packets = match Packets::connect(path) {
        Ok(packets) => packets,
        Err(why) => return Ended::Unreachable(path.to_owned(), why),
    };
    if let Err(why) = packets.send(&encode_hello(pods.number()), None).await {
        return Ended::Broken(why);
    }
    pods.connected(true);
    tracing::info!(path = %path.display(), "connected to the agent");
    let mut told = Some(HashSet::new());
    loop {
        match exchange(&packets, pods, &mut told).await {
            Ok(()) => *wait = BACKOFF.0,
            Err(ended) => return ended,
        }
    }
}

/// One request and its answer. `told` holds the pods of the snapshot until it is complete.
async fn exchange(packets: &Packets, pods: &mut impl Pods, told: &mut Option<HashSet<Arc<str>>>) -> Result<(), Ended> {
    let Received { packet, descriptors } = packets.receive().await?.ok_or(Ended::Closed)?;
    let request = match Request::decode(&packet, descriptors.len()) {
        Ok(Request::Keep(_)) if told.is_none() => return refuse(packets, Ended::LateKeep).await,
        Ok(request) => request,
        Err(malformed) => return refuse(packets, malformed.into()).await,
    };
    let response = match request {
        Request::Add(pod) => {
            let Some(netns) = descriptors.into_iter().next() else {
                return refuse(packets, Malformed::Descriptors { got: 0, wanted: 1 }.into()).await;
            };
            told.as_mut().map(|told| told.insert(pod.uid.clone()));
            pods.add(pod, netns).await
        }
        Request::Keep(uid) => {
            told.as_mut().map(|told| told.insert(uid.clone()));
            pods.keep(&uid)
        }
        Request::Del(uid) => {
            told.as_mut().map(|told| told.remove(&uid));
            pods.release(&uid);
            Ok(())
        }
        Request::SnapshotSent => {
            if let Some(told) = told.take() {
                pods.told(&told);
            }
            Ok(())
        }
    };
    Ok(packets.send(&encode_response(&response), None).await?)
}

/// Tells the agent what is wrong with its packet; the connection then ends.
async fn refuse(packets: &Packets, ended: Ended) -> Result<(), Ended> {
    packets.send(&encode_response(&Err(ended.to_string())), None).await?;
    Err(ended)
}
