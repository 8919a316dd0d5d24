//! The client of `ca`: `istio.v1.auth.IstioCertificateService` over TLS, with a bearer token that is read
//! again for every call (`wire.md` §1.7).
