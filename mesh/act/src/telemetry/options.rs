//! What is told of flows, and how much of it at most.

use std::{
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use super::{
    access::{AccessLog, Rate},
    labels::Dropped,
    metrics::Metrics,
};

/// Revision of a workload that names none, as Istio calls it.
const LATEST: &str = "latest";
const IDLE: Duration = Duration::from_secs(600);
/// Open connections touch their series every [`super::FLOW_TICK`]: this is several of them.
pub(super) const LEAST_IDLE: Duration = Duration::from_secs(60);

static IN_FORCE: OnceLock<Told> = OnceLock::new();

/// What is told of flows. Flags of every binary that carries traffic.
#[derive(Debug, Clone, clap::Args)]
pub struct FlowOptions {
    /// When a connection gets a line in the access log. A refused one gets its line unless this is `off`
    #[arg(long, env = "WEFT_ACCESS_LOG", value_enum, default_value_t)]
    pub access_log: AccessLog,
    /// Access log lines a second; more are dropped and counted. Lines of what was refused or cut have as many again
    #[arg(long, env = "WEFT_ACCESS_LOG_RATE", value_name = "LINES", default_value = "2000")]
    pub access_log_rate: NonZeroU32,
    /// Label sets kept apart in each family of metrics; flows beyond share one series, labelled `overflow`
    #[arg(long, env = "WEFT_METRIC_SERIES", value_name = "COUNT", default_value = "20000")]
    pub metric_series: NonZeroU32,
    /// How long nothing may change of a series before it leaves the metrics; at least a minute
    #[arg(long, env = "WEFT_METRIC_IDLE", value_name = "DURATION", default_value = "10m", value_parser = idle)]
    pub metric_idle: Duration,
    /// Labels left out of the flows' metrics, such as `source_principal,destination_version`
    #[arg(long, env = "WEFT_METRIC_LABELS_DROPPED", value_name = "LABELS", default_value_t, value_parser = Dropped::parse)]
    pub metric_labels_dropped: Dropped,
    /// Name of this cluster, in the labels `source_cluster` and `destination_cluster`
    #[arg(long, env = "WEFT_CLUSTER", value_name = "NAME", default_value = "Kubernetes")]
    pub cluster: String,
}

/// [`FlowOptions`] in force.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) access_log: AccessLog,
    /// Of what ended well.
    pub(super) rate: Rate,
    /// Of what was refused or cut: nobody hides its refusal behind many good connections.
    pub(super) refusal_rate: Rate,
    pub(super) series: usize,
    /// How long nothing may change of a series.
    pub(super) idle: Duration,
    pub(super) dropped: Dropped,
    pub(super) cluster: Arc<str>,
    pub(super) latest: Arc<str>,
}

impl FlowOptions {
    /// Installs the metrics' recorder, and puts these options in force. Once per process, before the first flow;
    /// a later call changes nothing.
    pub fn install(&self) -> Metrics {
        IN_FORCE.get_or_init(|| Told::new(self));
        Metrics::install()
    }
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self {
            access_log: AccessLog::default(),
            access_log_rate: const { NonZeroU32::new(2_000).expect("not zero") },
            metric_series: const { NonZeroU32::new(20_000).expect("not zero") },
            metric_idle: IDLE,
            metric_labels_dropped: Dropped::default(),
            cluster: "Kubernetes".into(),
        }
    }
}

impl Told {
    pub(super) fn new(options: &FlowOptions) -> Self {
        Self {
            access_log: options.access_log,
            rate: Rate::new(options.access_log_rate),
            refusal_rate: Rate::new(options.access_log_rate),
            series: options.metric_series.get() as usize,
            idle: options.metric_idle,
            dropped: options.metric_labels_dropped,
            cluster: options.cluster.as_str().into(),
            latest: LATEST.into(),
        }
    }

    /// Those in force: the defaults where none were installed.
    pub(super) fn in_force() -> &'static Self {
        IN_FORCE.get_or_init(|| Self::new(&FlowOptions::default()))
    }
}

fn idle(text: &str) -> Result<Duration, String> {
    let idle = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    match idle >= LEAST_IDLE {
        true => Ok(idle),
        false => Err("it must be at least 1m, for open connections touch their series every 15 s".into()),
    }
}
