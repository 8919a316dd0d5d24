//! The elder's side: answers younger ones.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Answer, Malformed, Place, Request};
use crate::zds::{Packets, Received};

/// Younger ztunnels at one time.
const MOST: usize = 8;
/// How long one may take to say who it is.
const HELLO: Duration = Duration::from_secs(5);

/// What there is to hand over.
pub trait Heritage: Clone + Send + Sync + 'static {
    /// A younger ztunnel has come.
    fn join(&self, heir: u64);

    /// The sockets of a pod in the network namespace with this inode, by their ports: fewer than [`crate::zds::ROOM`].
    ///
    /// # Errors
    /// Why there are none.
    fn offer(&self, uid: &Arc<str>, netns: u64) -> Result<Vec<(u16, OwnedFd)>, String>;

    /// A younger ztunnel accepts for a pod, on the sockets with these inodes: we do no more.
    ///
    /// # Errors
    /// Why we go on.
    fn take(&self, heir: u64, uid: &Arc<str>, sockets: &[u64]) -> Result<(), String>;

    /// Whether we accept for nothing that it has not taken.
    ///
    /// # Errors
    /// What it has not.
    fn finish(&self, heir: u64) -> Result<(), String>;

    /// It is gone: what nobody else has taken is ours again.
    fn leave(&self, heir: u64);

    /// Whether we go on when it leaves; not when we are asked to stop ourselves.
    fn stays(&self) -> bool;
}

/// Answers younger ztunnels at `place`, for ever.
pub async fn serve(place: Place, heritage: impl Heritage) {
    let mut sessions = JoinSet::new();
    let mut next = 0;
    loop {
        let accepted = tokio::select! {
            accepted = place.listener.accept(), if sessions.len() < MOST => accepted,
            Some(_) = sessions.join_next() => continue,
        };
        match accepted {
            Ok(packets) => {
                next += 1;
                let (session, number) = (Session::new(next, heritage.clone()), place.number);
                sessions.spawn(async move { session.run(&packets, number).await });
            }
            Err(why) => {
                tracing::warn!(%why, "could not accept a younger ztunnel");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// One younger ztunnel. When it is dropped, whyever, what it had taken is ours again.
struct Session<H: Heritage> {
    heir: u64,
    heritage: H,
    joined: bool,
}

impl<H: Heritage> Session<H> {
    fn new(heir: u64, heritage: H) -> Self {
        Self {
            heir,
            heritage,
            joined: false,
        }
    }

    async fn run(mut self, packets: &Packets, number: u64) {
        if packets.peer().ok() != Some(rustix::process::geteuid().as_raw()) {
            tracing::warn!("another user asks for listeners: refused");
            return;
        }
        match timeout(HELLO, receive(packets)).await {
            Ok(Ok(Some((id, Request::Hello(theirs))))) if theirs > number => {
                tracing::info!(heir = theirs, "a younger ztunnel takes over");
                self.heritage.join(self.heir);
                self.joined = true;
                if answer(packets, id, &Answer::Ok, &[]).await.is_err() {
                    return;
                }
            }
            told => {
                tracing::warn!(
                    ?told,
                    "whoever asks for listeners does not say that it is younger: refused"
                );
                return;
            }
        }
        loop {
            match receive(packets).await {
                Ok(Some((id, request))) => {
                    if self.serve(packets, id, request).await.is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(why) => {
                    tracing::warn!(%why, "a younger ztunnel broke the protocol");
                    return;
                }
            }
        }
    }

    async fn serve(&mut self, packets: &Packets, id: u32, request: Request) -> std::io::Result<()> {
        let told = |told: Result<(), String>| match told {
            Ok(()) => Answer::Ok,
            Err(why) => Answer::No(why),
        };
        let said = match request {
            Request::Hello(_) => Answer::No("you have said so".to_owned()),
            Request::Want(uid, netns) => match self.heritage.offer(&uid, netns) {
                Ok(sockets) => {
                    let ports = sockets.iter().map(|(port, _)| *port).collect();
                    let descriptors: Vec<_> = sockets.iter().map(|(_, socket)| socket.as_fd()).collect();
                    return answer(packets, id, &Answer::Offer(ports), &descriptors).await;
                }
                Err(why) => Answer::No(why),
            },
            Request::Taken(uid, sockets) => told(self.heritage.take(self.heir, &uid, &sockets)),
            Request::Done => told(self.heritage.finish(self.heir)),
            Request::Leave if self.heritage.stays() => {
                self.heritage.leave(self.heir);
                self.heritage.join(self.heir);
                Answer::Ok
            }
            Request::Leave => Answer::No("this ztunnel is asked to stop, too".to_owned()),
        };
        answer(packets, id, &said, &[]).await
    }
}

impl<H: Heritage> Drop for Session<H> {
    fn drop(&mut self) {
        if self.joined {
            self.heritage.leave(self.heir);
        }
    }
}

/// Why a request cannot be read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("{0}")]
    Broken(#[from] std::io::Error),
}

async fn receive(packets: &Packets) -> Result<Option<(u32, Request)>, Unread> {
    let Some(Received { packet, descriptors }) = packets.receive().await? else {
        return Ok(None);
    };
    Ok(Some(Request::decode(&packet, descriptors.len())?))
}

async fn answer(packets: &Packets, id: u32, answer: &Answer, beside: &[BorrowedFd<'_>]) -> std::io::Result<()> {
    let packet = answer.encode(id).map_err(std::io::Error::other)?;
    packets.send_with(&packet, beside).await
}
