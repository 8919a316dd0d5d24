//! The CA: authenticates who asks, decides whether they are entitled, signs. Comes in: CSRs with bearer tokens
//! over gRPC (`istio.v1.auth.IstioCertificateService`). Goes out: leaves that live hours, and one audit line per
//! decision. Never: anything of a CSR but its key; a private key in a log.
//!
//! ```text
//! listen -> service: authenticate (token, keys) . entitle . issue (csr, authority) . audit
//! state: root and intermediate on disk, made on first start
//! ```

pub mod audit;
pub mod authority;
pub mod csr;
pub mod fetch;
pub mod host;
pub mod issuers;
pub mod keys;
pub mod listen;
pub mod options;
pub mod rate;
pub mod run;
pub mod service;
pub mod state;
pub mod token;
