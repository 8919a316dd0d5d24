//! Capturing pods: what the node agent `weft-cni` does to their network namespaces (design 7). Comes in: the
//! snapshot, the processes of the node, namespaces from the CNI plugin. Goes out: announcements to the ztunnel,
//! nftables rules and policy routes in each pod, the status annotation.
//!
//! ```text
//! capture  namespace . announce . acknowledged (listeners and leaf) . rules . annotation
//! release  annotation away . redirect rules away . withdraw . the last connection ends . table and routes away
//! ```

mod addresses;
mod agent;
mod cgroup;
mod changes;
mod cluster;
mod host;
mod migrate;
mod namespace;
mod namespaces;
mod options;
mod pod;
mod ports;
mod probes;
mod programs;
pub mod rules;
mod run;
mod sandboxes;
mod script;
mod sockets;
mod tally;
mod wish;

pub use agent::Agent;
pub use cluster::{Cluster, TellError};
pub use host::{Host, MasqueradeMark, ProbeOptions};
pub use namespace::{NamespaceError, PodNamespace, Standing, Terms};
pub use namespaces::Namespaces;
pub use options::{AgentOptions, Command, Options, RulesOptions};
pub use ports::{Guard, Ports};
pub use probes::{Probes, SourcePorts};
pub use programs::{ProgramError, check};
pub use run::run;
pub use sandboxes::Sandboxes;
pub use sockets::Sockets;
pub use tally::{Progress, State, Tally};
pub use wish::{Wish, announced, is_wanted, may_release, wishes};

#[cfg(test)]
pub(crate) mod testing {
    pub(crate) use super::wish::tests::workload;
}
