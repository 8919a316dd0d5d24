//! Weft's doing: what the decisions of `decide` need to be carried out. Async, full of IO, decides nothing.
//!
//! Floors, lowest first: [`net`], [`resolve`], [`telemetry`] and `courtesy`; [`certs`] and [`config`]; [`tls`]; [`hbone`] and
//! [`authority`]; [`admin`] and [`process`].

pub mod admin;
pub mod authority;
pub mod certs;
pub mod config;
mod courtesy;
pub mod hbone;
pub mod net;
pub mod process;
pub mod resolve;
pub mod telemetry;
pub mod tls;
