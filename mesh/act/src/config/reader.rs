//! The many readers of the one snapshot.

use std::sync::Arc;

use arc_swap::ArcSwap;
use decide::snapshot::Snapshot;
use tokio::sync::watch;

/// Looks at the current snapshot, and waits for the next. Cheap to clone; never blocks the writer.
#[derive(Debug, Clone)]
pub struct Reader {
    current: Arc<ArcSwap<Snapshot>>,
    version: watch::Receiver<u64>,
}

/// The other end of a [`Reader`].
#[derive(Debug)]
pub struct Publisher {
    current: Arc<ArcSwap<Snapshot>>,
    version: watch::Sender<u64>,
}

impl Reader {
    /// A reader and its publisher, starting with `first`.
    pub fn new(first: Snapshot) -> (Publisher, Self) {
        let current = Arc::new(ArcSwap::from_pointee(first));
        let (sender, receiver) = watch::channel(0);
        (
            Publisher {
                current: current.clone(),
                version: sender,
            },
            Self {
                current,
                version: receiver,
            },
        )
    }

    /// The snapshot now. Load it once per decision.
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Waits for a snapshot newer than the one this reader last waited for. For ever, once the publisher is gone.
    pub async fn changed(&mut self) -> Arc<Snapshot> {
        if self.version.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
        self.load()
    }

    /// Waits for the first snapshot of which this is true: the one now, or a later one.
    pub async fn wait_for(&mut self, mut is_so: impl FnMut(&Snapshot) -> bool) -> Arc<Snapshot> {
        loop {
            self.version.mark_unchanged();
            let snapshot = self.load();
            if is_so(&snapshot) {
                return snapshot;
            }
            self.changed().await;
        }
    }
}

impl Publisher {
    /// Whether there is a reader left.
    pub fn has_readers(&self) -> bool {
        self.version.receiver_count() > 0
    }

    /// Makes a snapshot the current one.
    pub fn publish(&self, snapshot: Snapshot) {
        let version = snapshot.version;
        self.current.store(Arc::new(snapshot));
        self.version.send_replace(version);
    }
}
