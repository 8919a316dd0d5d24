//! The same objects through an API server and through a directory: what one takes the other takes, and they amount to
//! the same snapshot. In: an API server (KUBECONFIG) and the three files of `integration/source/`. Out: one row per
//! assertion. Needs an API server and nothing behind it: no controller, no node.

mod compare;
mod gateway_api;
mod objects;
mod run;
mod server;

pub use gateway_api::{VERSION, definitions};
pub use run::run;
