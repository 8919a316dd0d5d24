//! A real Kubernetes for tests, on this machine and without a container engine: etcd, the control plane and nodes with
//! containerd, CNI, kubelet and kube-proxy, each node a machine of its own in namespaces. In: a directory and options.
//! Out: a running cluster, reached through its own network namespace only. `integration/cluster/README.md` draws it.

mod check;
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
mod orders;
mod pki;
mod programs;
mod ready;
mod status;
mod template;
mod up;

pub use check::check;
pub use down::down;
pub use enter::{Place, enter};
pub use go::build;
pub use images::load;
pub use layout::{Layout, Node};
pub use machine::{Order, run as run_machine};
pub use orders::order;
pub use status::{environment, status};
pub use up::{UpOptions, up};
