//! Reads what the running mesh tells of itself: admin endpoints, metrics, access logs, and what crossed the link.

mod access;
mod admin;
mod capture;
mod metrics;
pub mod pcap;

pub use access::{Access, AccessLog};
pub use admin::admin;
pub use capture::Capture;
pub use metrics::{Sample, samples};
