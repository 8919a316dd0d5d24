//! Logs, metrics and the one record in which a flow ends. Labels are resolved once per label set; after that
//! only handles are touched (every event that resolves ten labels costs most of a microsecond).

mod access;
mod bound;
mod connection;
mod descriptions;
mod dry_run;
mod labels;
mod logs;
mod metrics;
mod options;
mod request;
mod transient;

pub use access::AccessLog;
pub use bound::{Beyond, Bound};
pub use connection::{Connection, FLOW_TICK, Outcome};
pub use labels::{Dropped, FlowLabels, Party, Reporter, Security};
pub use logs::{LogFormat, LogOptions, Logs};
pub use metrics::Metrics;
pub use options::FlowOptions;
pub use request::RequestRecord;
pub use transient::{Gauge, Transient};
