//! A machine of the cluster: namespaces of its own and a first process in them that runs its components, starts again
//! what ends unasked, buries the dead, and does what it is told over a Unix socket. When the first process ends, so
//! does everything else in the machine.

mod cgroup;
mod control;
mod first;
mod node;
mod spec;

pub(super) use cgroup::{remove as remove_cgroup, unified};
pub use control::Order;
pub(super) use control::{Machine, State, Status};
pub use first::run;
pub(super) use spec::{Component, NodeSpec, Spec};
