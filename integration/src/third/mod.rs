//! Outsiders: clients that are no part of the mesh, and speak to it.

pub mod bridge;
pub mod sign;
pub mod tunnel;
