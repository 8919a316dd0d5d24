//! The host's side of probes (design 18): on the node itself, connections of the kubelet to captured pods leave
//! from source ports that nobody else's can have. Comes in: the addresses of captured pods. Goes out: the table
//! `inet weft_host` in the host's network namespace, and what pods let through.

mod keep;
mod kubelet;
mod options;
mod rules;

pub use keep::Host;
pub use options::{MasqueradeMark, ProbeOptions};
