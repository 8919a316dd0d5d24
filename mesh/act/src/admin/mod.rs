//! Admin, metrics and readiness endpoints of a process: a `match` on hyper, on loopback and, if asked, on a
//! Unix socket that `weft` finds. Comes in: HTTP/1.1 requests of operators and scrapers. Goes out: what the
//! process knows, as JSON. Never: anything that changes traffic. `/proof` makes one connection of our own.

mod dump;
mod listen;
mod respond;
#[cfg(test)]
mod tests;

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    certs::Certificates,
    config::Reader,
    process::Readiness,
    telemetry::{Logs, Metrics},
};

/// Where a process can be asked. Flags that every binary shares.
#[derive(Debug, Clone, clap::Args)]
pub struct AdminOptions {
    /// Address of the admin endpoints; keep it on loopback, they tell everything
    #[arg(long, env = "WEFT_ADMIN", value_name = "ADDR", default_value = "127.0.0.1:15000")]
    pub admin: SocketAddr,
    /// Unix socket with the same endpoints, where `weft` finds this process
    #[arg(long, env = "WEFT_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,
    /// Address of Prometheus metrics (`/metrics`)
    #[arg(long, env = "WEFT_METRICS", value_name = "ADDR", default_value = "0.0.0.0:15020")]
    pub metrics: SocketAddr,
    /// Address of readiness (`/healthz/ready`)
    #[arg(long, env = "WEFT_READY", value_name = "ADDR", default_value = "0.0.0.0:15021")]
    pub ready: SocketAddr,
}

/// What a process answers with. `None` where it has no such thing.
#[derive(Clone)]
pub struct Admin {
    /// Which binary, and which instance: `ztunnel`, `node-1`.
    pub process: (&'static str, String),
    /// Its configuration.
    pub reader: Option<Reader>,
    /// Its certificates.
    pub certificates: Option<Certificates>,
    /// Its metrics.
    pub metrics: Metrics,
    /// Its logger.
    pub logs: Option<Logs>,
    /// Whether it is ready.
    pub readiness: Readiness,
    /// Further parts of `/config_dump`, by name.
    pub parts: Vec<(&'static str, Part)>,
    /// Proves the way from a pod of this node to another pod; `None` where no pod is served.
    pub prover: Option<Prover>,
}

/// What is to be proven: that what the one pod dials reaches the other's ztunnel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// UID of a pod that this process serves.
    pub from: String,
    /// UID of any captured pod.
    pub to: String,
}

/// Answers what a real connection showed, or one plain sentence why there is none.
pub type Prover = Arc<dyn Fn(Way) -> BoxFuture<'static, Result<Value, String>> + Send + Sync>;

/// A part of `/config_dump`, made when asked.
pub type Part = Arc<dyn Fn() -> Value + Send + Sync>;

impl Admin {
    /// Everything this process knows, as `/config_dump` tells it.
    pub fn dump(&self) -> Value {
        dump::everything(self)
    }

    /// The same in short, with counts where that has lists, as `/status` tells it.
    pub fn status(&self) -> Value {
        dump::summary(self)
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Admin")
            .field("process", &self.process)
            .finish_non_exhaustive()
    }
}
