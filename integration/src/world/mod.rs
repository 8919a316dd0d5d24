//! The world itself. Comes in: a directory of Kubernetes YAML. Goes out: nodes, pods, Services and the mesh's
//! own programs, running, and kept as the directory says while it is edited.

mod adopt;
mod command;
mod issuer;
mod mesh;
mod network;
pub mod objects;
mod pods;
mod processes;
mod run;
mod services;
mod state;

pub(crate) use command::finish;
pub use command::{Finished, first_line, run};
pub use issuer::Issuer;
pub use mesh::CA_NAME;
pub use network::{NODES, Node};
pub use processes::{Launch, Process};
pub use run::RunDirectory;
pub use state::{Settings, World};
