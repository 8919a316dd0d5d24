//! The chained CNI plugin: what a container runtime calls while it makes a pod's sandbox, and how the agent puts
//! it there. Comes in: calls of the runtime, the node's CNI configuration. Goes out: yes or no to a sandbox.
//!
//! ```text
//! runtime -> weft-cni (plugin) -> agent: not enrolled | captured | why it waits
//!                              -> without the agent: API server, else what the agent knew last
//! ```

mod access;
pub mod ask;
mod call;
pub mod conflist;
pub mod directory;
mod enabled;
mod files;
mod install;
mod known;
mod lookup;
mod options;
pub mod plugin;
mod remove;
mod server;

pub use access::Access;
pub use call::{Call, CniError, Config, Verb};
pub use enabled::keep;
pub use install::{Installer, Status, take_out};
pub use known::Known;
pub use options::CniOptions;
pub use remove::{RemoveOptions, remove};
pub use server::{CAPTURE, Server};
