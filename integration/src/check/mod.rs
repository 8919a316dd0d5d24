//! `weft-demo --check`: every promise of the mesh, asserted on real programs without a person.

mod world;

mod bench;
mod row;
mod run;

pub use bench::Bench;
pub use row::{Point, Row};
pub use run::{Selection, run};
