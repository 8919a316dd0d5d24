//! A CA of the bench's own, and one identity for either end: what the peers of ours hold.

use std::{fs, path::Path};

use act::process::Failure;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, SanType,
};

/// Names in the certificates: what a mesh would give the two pods.
pub(super) const IDENTITIES: [(&str, &str); 2] = [
    ("client", "spiffe://cluster.local/ns/bench/sa/client"),
    ("server", "spiffe://cluster.local/ns/bench/sa/server"),
];

/// Writes `ca.crt`, and for either end `NAME.crt`, `NAME.key` and both in one as `NAME.pem`. P-256, as ours.
///
/// # Errors
/// When a key cannot be made or a file not written.
pub(super) fn write(directory: &Path) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure(format!("certificates cannot be made: {error}"));
    fs::create_dir_all(directory).map_err(|error| failed(&error))?;
    let put = |name: &str, text: &str| fs::write(directory.join(name), text).map_err(|error| failed(&error));
    let key = || KeyPair::generate().map_err(|error| failed(&error));
    let mut params = named("bench root");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, key()?).map_err(|error| failed(&error))?;
    put("ca.crt", &issuer.pem())?;
    for (name, identity) in IDENTITIES {
        let mut params = named(name);
        let uri = identity.try_into().map_err(|error: rcgen::Error| failed(&error))?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let own = key()?;
        let leaf = params.signed_by(&own, &issuer).map_err(|error| failed(&error))?;
        let (certificate, secret) = (leaf.pem(), own.serialize_pem());
        put(&format!("{name}.crt"), &certificate)?;
        put(&format!("{name}.key"), &secret)?;
        put(&format!("{name}.pem"), &format!("{certificate}{secret}"))?;
    }
    Ok(())
}

/// OpenSSL takes a certificate whose subject is its issuer's for a self-signed one: each has a name of its own.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}
