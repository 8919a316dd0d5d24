//! The one writer of snapshots.

use std::sync::Arc;

use decide::model::{MeshSettings, ObjectRef, Problem};

use super::{Object, Origin, Reader, background::give_way, reader::Publisher, translate::Translation};

/// What a source tells. A batch of changes becomes one snapshot.
#[derive(Debug, Clone)]
pub enum Change {
    /// This object is there now, as told; replaces what had its name.
    Put(Box<Object>, Arc<Origin>),
    /// This object is gone, and with it everything said about it.
    Delete(ObjectRef),
    /// Something stands in the source that is no object of ours, and why. The last good object stays, but only
    /// its rejections are told, because its fields stand nowhere any more. Those of one batch replace those of
    /// the batches before.
    Reject(Problem),
    /// The rejections of this object are over.
    Accept(ObjectRef),
    /// Whether every NetworkPolicy there is was told; until one says so, they count as unread.
    Fences(bool),
    /// The first list of every kind is complete.
    Complete,
}

/// The one writer: applies batches, publishes snapshots.
#[derive(Debug)]
pub struct Feed {
    translation: Translation,
    publisher: Publisher,
}

impl Feed {
    /// A feed with the settings that hold until a MeshConfig says otherwise, and its first reader.
    pub fn new(defaults: MeshSettings) -> (Self, Reader) {
        let translation = Translation::new(defaults);
        let (publisher, reader) = Reader::new(translation.snapshot().clone());
        (Self { translation, publisher }, reader)
    }

    /// Whether anybody reads what it writes.
    pub fn has_readers(&self) -> bool {
        self.publisher.has_readers()
    }

    /// Applies a batch as one snapshot; publishes it only if it says something new. Costs what changed, not
    /// what exists.
    pub fn apply(&mut self, batch: Vec<Change>) {
        for change in batch {
            give_way();
            self.translation.change(change);
        }
        if let Some(snapshot) = self.translation.settle() {
            self.publisher.publish(snapshot);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn pod(name: &str) -> Change {
        let value =
            serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "shop"}});
        let object = Object::parse(&value).expect("readable").expect("known");
        Change::Put(Box::new(object), Arc::default())
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_one_snapshot_and_what_says_nothing_new_is_none() {
        let (mut feed, mut reader) = Feed::new(MeshSettings::default());
        assert!(!reader.load().complete);
        feed.apply(vec![pod("a"), pod("b"), Change::Complete]);
        let first = reader.changed().await;
        assert_eq!((first.version, first.complete, first.workloads.len()), (1, true, 2));
        feed.apply(vec![pod("a"), Change::Complete]);
        let waited = tokio::time::timeout(Duration::from_secs(60), reader.changed()).await;
        assert!(waited.is_err(), "nothing new was published");
        assert!(Arc::ptr_eq(&first, &reader.load()));
        feed.apply(vec![pod("c")]);
        assert_eq!(reader.changed().await.version, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_ends_with_the_snapshot_that_is_so_now_or_later() {
        let (mut feed, mut reader) = Feed::new(MeshSettings::default());
        let mut other = reader.clone();
        let waiting =
            tokio::spawn(async move { other.wait_for(|snapshot| snapshot.workloads.len() == 2).await.version });
        for name in ["a", "b"] {
            tokio::task::yield_now().await;
            feed.apply(vec![pod(name)]);
        }
        assert_eq!(waiting.await.expect("no panic"), 2);
        assert_eq!(
            reader.wait_for(|snapshot| snapshot.workloads.len() == 2).await.version,
            2
        );
    }
}
