//! Every parser that a peer, a pod or a file feeds, each as a function of bytes that must not panic, take long or
//! take much memory. Comes in: inputs, of libFuzzer (`make fuzz`) or kept in `corpus`. Goes out: nothing. Never:
//! sockets, files, anything that outlives the call.

mod parsers;
mod target;

pub use target::{TARGETS, Target, named};
