//! Tokens signed again with the cluster's own key, for what the API server gives nobody: one that is expired.

use std::path::Path;

use act::process::Failure;
use jsonwebtoken::{Algorithm, EncodingKey, Header, decode_header, encode};
use serde_json::Value;

/// A token with its claims changed, signed by the key in a PEM file.
pub(super) fn again(token: &str, key: &Path, change: impl FnOnce(&mut Value)) -> Result<String, Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure(format!("the token cannot be signed again: {error}"));
    let header = decode_header(token).map_err(|error| failed(&error))?;
    let mut claims: Value = jsonwebtoken::dangerous::insecure_decode(token)
        .map(|token| token.claims)
        .map_err(|error| failed(&error))?;
    change(&mut claims);
    let pem = std::fs::read(key).map_err(|error| failed(&error))?;
    let key = match header.alg {
        Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(&pem),
        _ => EncodingKey::from_rsa_pem(&pem),
    };
    let header = Header {
        kid: header.kid,
        ..Header::new(header.alg)
    };
    encode(&header, &claims, &key.map_err(|error| failed(&error))?).map_err(|error| failed(&error))
}
