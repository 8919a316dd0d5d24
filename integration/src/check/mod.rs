//! `weft-demo --check`: every promise of the mesh, asserted on real programs without a person.

mod bad_input;
mod enablement;
mod identity;
mod load;
mod policy;
mod policy_churn;
mod rotation;
mod routing;
mod scrape;
mod third_party;
mod waypoint_down;
mod wire;
mod world;

mod bench;
mod row;
mod run;

pub use bench::Bench;
pub use row::{Point, Row};
pub(crate) use run::table;
pub use run::{Selection, run};
