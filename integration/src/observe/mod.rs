//! Reads what the running mesh tells of itself: admin endpoints, metrics, access logs, and what crossed the link.

mod admin;
mod capture;
mod log;
mod metrics;
pub mod pcap;

pub use admin::admin;
pub use capture::{Capture, tcpdump};
pub use log::{Event, Log};
pub use metrics::{Sample, samples};
