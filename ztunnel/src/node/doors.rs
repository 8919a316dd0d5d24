//! The three listeners inside a pod.

use std::{fs, io, net::TcpListener};

use act::net::{Acceptor, Listen, Netns, listen};
use decide::model::ports::{HBONE, INBOUND_PLAINTEXT, OUTBOUND};
use tokio_util::sync::CancellationToken;

use super::share::Share;

/// Open listeners of one pod, not accepting yet.
#[derive(Debug)]
pub(super) struct Doors {
    listeners: Vec<(u16, TcpListener)>,
}

impl Doors {
    /// Opens 15001, 15006 and 15008 inside a pod.
    ///
    /// # Errors
    /// One plain sentence naming the port.
    pub(super) fn open(netns: &Netns) -> io::Result<Self> {
        let open = |port| Ok((port, listen(netns, Listen::everywhere(port))?));
        let listeners = [OUTBOUND, INBOUND_PLAINTEXT, HBONE].into_iter().map(open);
        Ok(Self {
            listeners: listeners.collect::<io::Result<_>>()?,
        })
    }

    /// Accepts on the pod's home worker until told to close.
    ///
    /// # Errors
    /// When the worker takes no more work: the process ends.
    pub(super) fn accept(self, share: &Share, close: &CancellationToken) -> Result<(), act::process::NotTaken> {
        for (port, listener) in self.listeners {
            let (share, close) = (share.clone(), close.clone());
            let home = share.home();
            let workers = share.workers().clone();
            workers.spawn(home, move || async move {
                tokio::select! {
                    () = close.cancelled() => {}
                    why = accept(port, listener, &share) => {
                        tracing::error!(port, %why, "a pod's listener is lost");
                    }
                }
            })?;
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
