//! The faults: the demo's world and its mesh come in, each thing that goes wrong in a cluster is done to it, and what
//! was lost goes out, row by row. What may be lost is said before; nothing else may be. Never: a fault that outlives
//! its time, or one outside the namespaces of the run.

mod crowd;
mod floods;
mod kills;
mod peers;
mod run;
mod surroundings;
mod watch;

pub use run::{FaultOptions, run};
