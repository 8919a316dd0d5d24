//! Every decision of the mesh, as synchronous functions from an immutable [`snapshot::Snapshot`] and a
//! small input to an enum. Comes in: the model, facts of one connection or request, time and randomness
//! as arguments. Goes out: what to do and which object decided it. Never: IO, clocks, globals.
//!
//! Floors, lowest first: [`model`], [`snapshot`], then the decisions, which use one another freely.

pub mod entitle;
pub mod forward;
pub mod hop;
pub mod model;
pub mod path;
pub mod pick;
pub mod route;
pub mod snapshot;
pub mod verdict;
pub mod verify;
pub mod why;
