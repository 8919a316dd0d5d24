//! `weft-demo --check`: every promise of the mesh, asserted on real programs without a person.

mod bad_input;
mod egress;
mod enablement;
mod identity;
mod load;
mod policy;
pub(crate) mod policy_churn;
mod prometheus;
mod rotation;
mod routing;
mod scrape;
mod third_party;
mod upgrade;
mod waypoint_down;
mod wire;
mod world;

mod bench;
mod row;
mod run;

pub use bench::Bench;
pub(crate) use bench::own_program;
pub(crate) use load::{Held, held};
pub use row::{Point, Row};
pub use run::{Selection, run};
pub(crate) use run::{copy_yaml, table};
