//! The messages and the service of `proto/certificates.proto`, generated; client and server.
#![allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::or_fun_call,
    clippy::too_many_lines,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::wildcard_imports,
    reason = "generated code"
)]

tonic::include_proto!("istio.v1.auth");

/// Key of the request's metadata that names the identity asked for.
pub const IMPERSONATED_IDENTITY: &str = "ImpersonatedIdentity";
