//! A node's life in the mesh: which pods are here, how they are captured, how their connections travel.
//!
//! In: pods and their network namespaces over ZDS ([`zds`]), the snapshot. Out: listeners inside the pods and
//! rules that lead to them ([`capture`]), connections carried ([`traffic`]). Never: HTTP beyond CONNECT.

pub mod capture;
pub mod traffic;
pub mod zds;
