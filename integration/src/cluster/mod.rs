//! A real Kubernetes for tests, on this machine and without a container engine: etcd, the control plane and nodes with
//! containerd, CNI, kubelet and kube-proxy, each node a machine of its own in namespaces. In: a directory and options.
//! Out: a running cluster, reached through its own network namespace only. `integration/cluster/README.md` draws it.

mod components;
mod dns;
mod down;
mod enter;
mod files;
mod go;
mod images;
mod kubeconfig;
mod layout;
mod machine;
mod pki;
mod programs;
mod ready;
mod status;
mod template;
mod up;

pub use down::down;
pub use enter::{Place, enter, machine};
pub use go::build;
pub use images::load;
pub use layout::{Layout, Node};
pub use machine::{Machine, Order, State, Status, run as run_machine};
pub use status::{environment, status};
pub use up::{UpOptions, up};
