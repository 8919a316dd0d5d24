//! The whole service on loopback: TLS, gRPC, tokens, pods, signing; and `act`'s client and certificates against it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod keys;
mod lookup;
mod program;
mod requests;
mod stage;
mod tokens;
mod whole;
