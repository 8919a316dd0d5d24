//! The pods of a node, and what the ztunnel does for each: it holds their leaves, opens listeners inside their
//! network namespaces, hands what those accept to the workers, and lets a released pod run out (design 7 and 11).
//! Comes in: pods over ZDS. Goes out: sockets for `traffic`. Never: what becomes of a connection.
//!
//! ```text
//! pod announced . known in the snapshot . leaf held and there . listeners open . acknowledged
//! released      . listeners serve on (--drain) . closed, GOAWAY . the last connection ends
//! ```

mod bounds;
mod doors;
mod life;
mod neighbours;
mod options;
mod pods;
mod proof;
mod run;
mod settings;
mod share;
mod wishes;

pub use bounds::BoundOptions;
pub use life::PodState;
pub use options::Options;
pub use pods::NodePods;
pub use run::{LAST_WORDS, end, run};
pub use settings::Settings;
