//! Capturing pods: what the node agent `weft-cni` does to their network namespaces.

mod ports;
pub mod rules;

pub use ports::{Guard, Ports};
