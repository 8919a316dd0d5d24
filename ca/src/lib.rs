//! The CA: authenticates who asks, decides whether they are entitled, signs. Comes in: CSRs with bearer tokens
//! over gRPC (`istio.v1.auth.IstioCertificateService`). Goes out: leaves that live hours, and one audit line per
//! decision. Never: anything of a CSR but its key; a private key in a log.
//!
//! ```text
//! listen -> service: authenticate (token | review, proof) . entitle (lookup) . issue (csr, authority) . audit
//! store -> chain -> authority: root and intermediate, in a directory or a Secret, made on first start
//! bundle: the roots, where pods read them
//! ```
//!
//! What it asks of the API server stands at the head of `review`, `lookup`, `bundle` and `store::secret`.

pub mod audit;
pub mod authenticate;
pub mod authority;
pub mod bundle;
pub mod chain;
pub mod csr;
pub mod fetch;
pub mod host;
pub mod issuers;
pub mod keys;
pub mod listen;
pub mod lookup;
pub mod options;
pub mod proof;
pub mod rate;
pub mod review;
pub mod run;
pub mod service;
pub mod store;
pub mod token;
