//! A process' life: workers, signals, drain.

mod workers;

pub use workers::{NotTaken, Workers};
