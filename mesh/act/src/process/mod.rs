//! A process' life: how it starts, says why it cannot, hears that it should end, is asked whether it is ready, and
//! the workers on which its connections live.

mod life;
mod readiness;
mod workers;

pub use life::{Failure, main, shutdown};
pub use readiness::{Gate, Readiness};
pub use workers::{NotTaken, Workers};
