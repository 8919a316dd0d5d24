//! What runs on a node: the L4 proxy `ztunnel`, and `weft-cni`, the agent that captures its pods.
//!
//! [`zds`] is the protocol between the two.

pub mod zds;
