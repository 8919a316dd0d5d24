//! What is wished of a pod's task from outside.

use tokio::sync::watch;

/// What is wished of a pod's task from outside.
#[derive(Clone)]
pub(super) struct Wishes {
    /// Whether the pod is to be served.
    pub(super) wanted: watch::Receiver<bool>,
    /// Whether a younger ztunnel accepts for it.
    pub(super) taken: watch::Receiver<bool>,
    /// Changes when tunnels towards the pod are to end: peers are asked to make no more streams in them.
    pub(super) turned: watch::Receiver<u64>,
}

/// Resolves when `wish` is this.
pub(super) async fn is(wish: &mut watch::Receiver<bool>, this: bool) {
    // whoever wishes anything is gone: then nothing changes any more
    if wish.wait_for(|wish| *wish == this).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Resolves when tunnels towards the pod are to end.
pub(super) async fn turns(turned: &mut watch::Receiver<u64>) {
    if turned.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
