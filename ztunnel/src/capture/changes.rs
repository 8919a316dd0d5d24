//! When a pod's namespace may be another, or gone. Comes in: the end of a process, what the CNI plugin tells, the clock.
//! Goes out: a wake-up, after which the namespace is looked at.

use std::{os::fd::OwnedFd, sync::Arc, time::Duration};

use tokio::{
    io::{Interest, unix::AsyncFd},
    sync::watch,
    time::{Instant, sleep, sleep_until},
};

use super::Sandboxes;

/// How often a namespace is looked at that nothing tells of.
const LOOK: Duration = Duration::from_millis(500);
/// How often one is looked at all the same.
const FULL_LOOK: Duration = Duration::from_secs(30);

/// Tells when one pod's namespace may be another, or gone.
#[derive(Debug)]
pub(super) struct Changes(Option<OfSandbox>);

#[derive(Debug)]
struct OfSandbox {
    sandboxes: Arc<Sandboxes>,
    uid: Arc<str>,
    handed: watch::Receiver<u64>,
    /// The end of the process that the namespace is known by.
    end: Option<AsyncFd<OwnedFd>>,
    /// When it is looked at all the same.
    look: Instant,
}

impl Changes {
    /// Of a file, which is looked at.
    pub(super) fn looked_for() -> Self {
        Self(None)
    }

    /// Of a sandbox of the node: `handed` tells of sandboxes made and removed.
    pub(super) fn of_sandbox(sandboxes: Arc<Sandboxes>, uid: Arc<str>, handed: watch::Receiver<u64>) -> Self {
        Self(Some(OfSandbox {
            sandboxes,
            uid,
            handed,
            end: None,
            look: Instant::now() + FULL_LOOK,
        }))
    }

    /// Resolves when it is time to look. Nothing is missed between two calls.
    pub(super) async fn next(&mut self) {
        match &mut self.0 {
            None => sleep(LOOK).await,
            Some(sandbox) => sandbox.next().await,
        }
    }
}

impl OfSandbox {
    async fn next(&mut self) {
        if self.end.is_none() {
            self.end = self.sandboxes.end(&self.uid).and_then(registered);
        }
        // known from the plugin's call alone: its process is sought once that has grown old
        let look = match self.end {
            None if !self.sandboxes.is_new(&self.uid) => (Instant::now() + LOOK).min(self.look),
            _ => self.look,
        };
        let mut over = false;
        tokio::select! {
            // a broken sender would be the end of the sandboxes themselves
            _ = self.handed.changed() => {}
            () = ended(self.end.as_ref()) => over = true,
            () = sleep_until(look) => self.look = Instant::now() + FULL_LOOK,
        }
        if over {
            self.end = None;
        }
    }
}

/// Only its end is waited for.
#[expect(
    deprecated,
    reason = "an OwnedFd is the same open file until it is dropped; what replaces this call is unsafe, which is forbidden here"
)]
fn registered(end: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(end, Interest::READABLE).ok()
}

async fn ended(end: Option<&AsyncFd<OwnedFd>>) {
    match end {
        // an error is as good a reason to look
        Some(end) => drop(end.readable().await),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, process::Command};

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn the_end_of_a_pods_process_is_told_without_looking() {
        let mut process = Command::new("sleep").arg("600").spawn().unwrap();
        let (sandboxes, uid) = (Sandboxes::new(Path::new("/proc")), Arc::from("a"));
        sandboxes.see(&uid, process.id());
        let mut changes = sandboxes.changes(&uid);
        let early = timeout(2 * LOOK, changes.next()).await;
        process.kill().unwrap();
        process.wait().unwrap();
        assert!(early.is_err(), "it lives, and nobody looks");
        let told = timeout(FULL_LOOK - Duration::from_secs(5), changes.next()).await;
        assert!(told.is_ok());
    }
}
