//! What runs on a node: the L4 proxy `ztunnel`, and `weft-cni`, the agent that captures its pods.
//!
//! [`zds`] is the protocol between the two, [`capture`] the agent's side of it.

pub mod capture;
pub mod zds;
