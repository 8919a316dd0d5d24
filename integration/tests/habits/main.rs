//! The habits that hold the shape: floors, laws, manifests. What ARCHITECTURE.md draws is checked here.

mod floors;
mod laws;
mod metrics;
