//! The chained CNI plugin: what a container runtime calls while it makes a pod's sandbox, and how the agent puts
//! it there. Comes in: calls of the runtime, the node's CNI configuration. Goes out: yes or no to a sandbox.
//!
//! ```text
//! runtime -> weft-cni (plugin) -> agent: not enrolled | captured | why it waits
//!                              -> without the agent: API server, else what the agent knew last
//! ```

pub mod conflist;
pub mod directory;
