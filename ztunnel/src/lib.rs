//! What runs on a node: the L4 proxy `ztunnel`, and `weft-cni`, the agent that captures its pods.
//!
//! [`zds`] is the protocol between the two; [`traffic`] is what happens to a captured pod's connections.

pub mod traffic;
pub mod zds;
