//! Logs, metrics and the one record in which a flow ends. Labels are resolved once per label set; after that
//! only handles are touched (every event that resolves ten labels costs most of a microsecond).

mod connection;
mod labels;
mod logs;
mod metrics;
mod request;

pub use connection::{Connection, Outcome};
pub use labels::{FlowLabels, Party, Reporter, Security};
pub use logs::{LogFormat, LogOptions, Logs};
pub use metrics::Metrics;
pub use request::RequestRecord;
