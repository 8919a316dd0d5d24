//! What every pod of this node shares.

use std::{sync::Arc, time::Duration};

use act::{certs::Certificates, config::Reader, process::Workers};
use tokio_util::sync::CancellationToken;

use crate::{handover::Elders, traffic::TrafficOptions};

/// What every pod of this node shares.
#[derive(Clone)]
pub struct Settings {
    /// The name of this node.
    pub node: Arc<str>,
    /// What should be.
    pub reader: Reader,
    /// Who we are.
    pub certificates: Certificates,
    /// Where connections live.
    pub workers: Workers,
    /// Bounds and timers of connections; those of a pod in all are [`TrafficOptions::connections`].
    pub traffic: Arc<TrafficOptions>,
    /// How long the listeners of a released pod serve on.
    pub drain: Duration,
    /// The ztunnels that were here before, whose listeners we take over.
    pub elders: Elders,
    /// Cancelled when the process is to end: it goes on until another has taken over, or nothing is left.
    pub stopping: CancellationToken,
    /// Cancelled when an elder goes on in our stead: listeners close, connections run out.
    pub leaving: CancellationToken,
}
