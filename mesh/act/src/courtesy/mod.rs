//! Letting other threads of a core go first. The kernel lets a thread that has begun go on for some milliseconds, and as long
//! would wait what somebody else has to do in some microseconds.

pub(crate) mod rest;
mod terms;

pub(crate) use terms::{Courtesy, Terms};
