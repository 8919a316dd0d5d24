//! The listeners inside a pod: three, or more where a hand-over was missed once and two ztunnels opened them.

use std::{fs, io, net::TcpListener, sync::Arc};

use act::net::{Acceptor, Listen, Netns, listen};
use decide::model::ports::{HBONE, INBOUND_PLAINTEXT, OUTBOUND};
use tokio_util::sync::CancellationToken;

use super::share::Share;
use crate::zds::ROOM;

/// Listeners that are kept: what fits one packet when they are handed on, with two sockets for names beside them.
const MOST: usize = ROOM - 3;
/// Two ztunnels may each have opened three: an elder goes on accepting until the younger has all of its listeners.
const _: () = assert!(MOST >= 6, "what two ztunnels opened must fit one packet");

/// Open listeners of one pod. They stay open while a clone lives, whether anybody accepts on them or not.
#[derive(Debug, Clone)]
pub(super) struct Doors {
    listeners: Arc<Vec<(u16, TcpListener)>>,
}

impl Doors {
    /// Takes the listeners that were handed over; of 15001, 15006 and 15008 it opens inside the pod what is not among
    /// them.
    ///
    /// # Errors
    /// One plain sentence naming the port.
    pub(super) fn open(netns: &Netns, mut handed: Vec<(u16, TcpListener)>) -> io::Result<Self> {
        handed.truncate(MOST);
        for port in [OUTBOUND, INBOUND_PLAINTEXT, HBONE] {
            if !handed.iter().any(|(other, _)| *other == port) {
                handed.push((port, listen(netns, Listen::everywhere(port).shared())?));
            }
        }
        Ok(Self {
            listeners: Arc::new(handed),
        })
    }

    /// These and others, if any of the others is another socket and there is room.
    pub(super) fn with(&self, others: Vec<(u16, TcpListener)>) -> Option<Self> {
        let which = |listener: &TcpListener| rustix::fs::fstat(listener).map(|found| found.st_ino).ok();
        let mut all = self.copies().ok()?;
        let known = all.len();
        for (port, listener) in others {
            let is_known = all.iter().any(|(_, other)| which(other) == which(&listener));
            if !is_known && all.len() < MOST {
                all.push((port, listener));
            }
        }
        (all.len() > known).then(|| Self {
            listeners: Arc::new(all),
        })
    }

    /// Which sockets these are, to every process that holds one.
    pub(super) fn inodes(&self) -> Vec<u64> {
        let which = |(_, listener): &(u16, TcpListener)| Some(rustix::fs::fstat(listener).ok()?.st_ino);
        self.listeners.iter().filter_map(which).collect()
    }

    /// The same sockets once more.
    ///
    /// # Errors
    /// When descriptors run out.
    pub(super) fn copies(&self) -> io::Result<Vec<(u16, TcpListener)>> {
        let copy = |(port, listener): &(u16, TcpListener)| Ok((*port, listener.try_clone()?));
        self.listeners.iter().map(copy).collect()
    }

    /// Accepts on the pod's home worker until told to close.
    ///
    /// # Errors
    /// When descriptors run out, or the worker takes no more work: the process ends.
    pub(super) fn accept(&self, share: &Share, close: &CancellationToken) -> io::Result<()> {
        for (port, listener) in self.copies()? {
            let (share, close) = (share.clone(), close.clone());
            let home = share.home();
            let workers = share.workers().clone();
            let taken = workers.spawn(home, move || async move {
                tokio::select! {
                    biased;
                    () = close.cancelled() => {}
                    why = accept(port, listener, &share) => {
                        tracing::error!(port, %why, "a pod's listener is lost");
                    }
                }
            });
            taken.map_err(io::Error::other)?;
        }
        Ok(())
    }
}

async fn accept(port: u16, listener: TcpListener, share: &Share) -> io::Error {
    let mut acceptor = match Acceptor::new(listener) {
        Ok(acceptor) => acceptor,
        Err(why) => return why,
    };
    loop {
        match acceptor.accept().await {
            Ok((socket, from)) => share.give(port, socket, from),
            Err(why) => return why,
        }
    }
}

/// Whether a namespace has no interface but lo: its pod is gone, and what still lives in it reaches nobody.
pub(super) fn is_dead(netns: &Netns) -> bool {
    match netns.run(|| fs::read_to_string("/proc/thread-self/net/dev")) {
        Ok(interfaces) => !reaches_out(&interfaces),
        Err(_) => true,
    }
}

/// Two lines of heading, then one per interface: `  eth0: …`.
fn reaches_out(interfaces: &str) -> bool {
    let names = interfaces.lines().skip(2).filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim()).any(|name| name != "lo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_with_only_lo_is_dead() {
        let heading = "Inter-|   Receive\n face |bytes\n";
        assert!(!reaches_out(&format!("{heading}    lo: 0 0\n")));
        assert!(!reaches_out(heading) && !reaches_out(""));
        assert!(reaches_out(&format!("{heading}    lo: 0 0\n  eth0: 0 0\n")));
    }
}
