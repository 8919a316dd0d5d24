//! Configuration: sources make [`Change`]s of ordinary Kubernetes objects, the one [`Feed`] translates them
//! into snapshots, many [`Reader`]s look. A change takes effect as a whole or not at all.
//!
//! ```text
//! directory | kubernetes -> Change -> Feed (the one writer) -> translate -> Snapshot -> Readers
//! ```

pub mod admission;
mod background;
pub mod directory;
pub mod document;
mod feed;
mod few;
pub mod kubernetes;
pub mod objects;
mod options;
mod reader;
mod translate;

pub use feed::{Change, Feed};
pub use objects::{FieldError, MIRROR, Object, Origin, is_static_uid};
pub use options::{Source, SourceError, SourceOptions};
pub use reader::Reader;
pub use translate::{CAPTURE, EXCLUDED, MODE, is_enabled};
