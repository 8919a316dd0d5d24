//! A process' life: how it starts, says why it cannot, hears that it should end, and is asked whether it is ready.

mod life;
mod readiness;
mod workers;

pub use life::{Failure, main, shutdown};
pub use readiness::{Gate, Readiness};
pub use workers::Workers;
