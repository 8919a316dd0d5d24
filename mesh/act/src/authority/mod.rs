//! The client of `ca`: `istio.v1.auth.IstioCertificateService` over TLS, with a bearer token that is read
//! again for every call (`wire.md` §1.7). Comes in: CSRs. Goes out: what the CA signed. Never: a private key.

mod channel;
mod client;
mod options;
pub mod proto;

pub use client::CaClient;
pub use options::{CaAddress, CaOptions, NotAnAddress, leaf_life};
