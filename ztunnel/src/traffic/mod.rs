//! What happens to the connections of one captured pod, on one worker. Comes in: sockets freshly accepted inside
//! the pod's network namespace. Goes out: the same bytes, judged and told of. Never: listening, configuration.
//!
//! ```text
//! outbound  accept . origin . hop . tunnel . relay . record
//! inbound   accept . peer . track . verdict . connect . relay . record
//! ```

mod arrival;
mod courtesy;
mod hold;
mod inbound;
mod leg;
mod live;
mod loads;
mod options;
mod outbound;
mod plaintext;
mod pod;
mod proof;
mod retry;

pub use live::{Direction, LiveConnection};
pub use options::TrafficOptions;
pub use pod::{Origin, Pod, Traffic};
pub use proof::{Unproven, prove};
