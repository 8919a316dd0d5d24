//! Logs, metrics and the one record in which a flow ends. Labels are resolved once per flow; after that only
//! handles are touched (`crates.md` 4.2).

mod connection;
mod logs;
mod metrics;
mod request;

pub use connection::{Connection, FlowLabels, Outcome, Party, Reporter, Security};
pub use logs::{LogFormat, LogOptions, Logs};
pub use metrics::Metrics;
pub use request::RequestRecord;
