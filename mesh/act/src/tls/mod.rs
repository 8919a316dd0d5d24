//! Mutual TLS 1.3 as the mesh speaks it: rustls around `decide::verify`. ALPN h2, no resumption, no early
//! data, X25519MLKEM768 first (design 9). A finished handshake is the proof that makes a [`Peer`].
//!
//! Comes in: a [`crate::certs::Leaf`] and a socket. Goes out: a stream and who is behind it. Never: TLS 1.2,
//! a peer without certificate, a session ticket.

mod configs;
pub mod fuzzing;
mod handshake;
mod peer;
mod records;
pub(crate) mod shape;
#[cfg(test)]
mod tests;
mod verifier;

pub use configs::provider;
pub use handshake::{Channel, TlsError, accept, connect};
pub use peer::Peer;
pub(crate) use records::Records;
