//! What happens to the connections of one captured pod, on one worker. Comes in: sockets freshly accepted inside
//! the pod's network namespace. Goes out: the same bytes, judged and told of. Never: listening, configuration.
//!
//! ```text
//! outbound  accept . origin . hop . tunnel . relay . record
//! inbound   accept . peer . track . verdict . connect . relay . record
//! near      outbound as far as hop . the other pod's inbound from track on . relay . record twice
//! ```

mod arrival;
pub mod bounds;
mod courtesy;
mod failures;
mod handshakes;
mod hold;
mod inbound;
mod leg;
mod live;
mod loads;
mod near;
mod options;
mod outbound;
mod plaintext;
mod pod;
mod proof;
mod retry;

pub use handshakes::Handshakes;
pub use live::{Direction, LiveConnection};
pub use near::{Neighbour, Neighbours};
pub use options::TrafficOptions;
pub use pod::{Origin, Pod, Traffic};
pub use proof::{Unproven, prove};
