//! A node's life in the mesh: which pods are here, how they are captured, how their connections travel.
//!
//! In: pods and their network namespaces over ZDS ([`zds`]), the snapshot. Out: rules that lead into the mesh
//! ([`capture`]), listeners inside the pods ([`node`], from a predecessor by [`handover`]), connections carried
//! ([`traffic`]), names that only the mesh knows answered ([`dns`]). Never: HTTP beyond
//! CONNECT.

pub mod capture;
pub mod cni;
pub mod dns;
pub mod handover;
pub mod node;
mod privileges;
pub mod traffic;
pub mod zds;
