//! Capturing pods: what the node agent `weft-cni` does to their network namespaces (design 7). Comes in: the
//! snapshot. Goes out: announcements to the ztunnel, nftables rules and policy routes in each pod.
//!
//! ```text
//! capture  namespace . announce . acknowledged (listeners and leaf) . rules
//! release  redirect rules away . withdraw . the last connection ends . table and routes away
//! ```

mod addresses;
mod agent;
mod host;
mod namespace;
mod options;
mod pod;
mod ports;
mod probes;
mod programs;
pub mod rules;
mod run;
mod script;
mod sockets;
mod tally;
mod wish;

pub use agent::Agent;
pub use host::{Host, MasqueradeMark, ProbeOptions};
pub use namespace::{NamespaceError, PodNamespace, Standing};
pub use options::{AgentOptions, Command, Options, RulesOptions};
pub use ports::{Guard, Ports};
pub use probes::{Probes, SourcePorts};
pub use programs::{ProgramError, check};
pub use run::run;
pub use sockets::Sockets;
pub use tally::{State, Tally};
pub use wish::{Wish, may_release, wishes};
