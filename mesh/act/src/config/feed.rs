//! The one writer of snapshots.

use decide::model::{MeshSettings, ObjectRef, Problem};

use super::{Object, Origin, Reader, reader::Publisher, translate::Translation};

/// What a source tells. A batch of changes becomes one snapshot.
#[derive(Debug, Clone)]
pub enum Change {
    /// This object is there now, as told; replaces what had its name.
    Put(Box<Object>, Origin),
    /// This object is gone, and with it everything said about it.
    Delete(ObjectRef),
    /// Something stands in the source that is no object of ours, and why. The last good object stays, but only
    /// its rejections are told, because its fields stand nowhere any more. Those of one batch replace those of
    /// the batches before.
    Reject(Problem),
    /// The rejections of this object are over.
    Accept(ObjectRef),
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

    /// Applies a batch as one snapshot; publishes it only if it says something new. Costs what changed, not
    /// what exists.
    pub fn apply(&mut self, batch: Vec<Change>) {
        for change in batch {
            self.translation.change(change);
        }
        if let Some(snapshot) = self.translation.settle() {
            self.publisher.publish(snapshot);
        }
    }
}
