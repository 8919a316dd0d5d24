//! Has a certificate signed by the CA, as any holder of a token can: `weft-demo sign`.

use std::{fs, path::PathBuf};

use act::{
    authority::{CaClient, CaOptions},
    certs::{Authority, pem},
    process::Failure,
};
use decide::model::Identity;
use rcgen::{CertificateParams, KeyPair};

/// What is to be signed, and by whom.
#[derive(Debug, Clone, clap::Args)]
pub struct SignOptions {
    /// The CA
    #[command(flatten)]
    pub ca: CaOptions,
    /// The identity wanted: `spiffe://<trust-domain>/ns/<namespace>/sa/<service-account>`
    #[arg(long)]
    pub identity: Identity,
    /// Where `tls.crt`, `tls.key` and `ca.crt` are put
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Asks, and writes what came.
///
/// # Errors
/// The CA's refusal, in its own words.
pub async fn run(options: &SignOptions) -> Result<(), Failure> {
    let failed = |error: &dyn std::fmt::Display| Failure(format!("no certificate for {}: {error}", options.identity));
    let key = KeyPair::generate().map_err(|error| failed(&error))?;
    let csr = CertificateParams::default()
        .serialize_request(&key)
        .and_then(|csr| csr.pem())
        .map_err(|error| failed(&error))?;
    let client = CaClient::new(&options.ca).map_err(Failure)?;
    let signed = client
        .sign(&options.identity, &csr)
        .await
        .map_err(|error| Failure(error.to_string()))?;
    let write = |name: &str, text: String| fs::write(options.out.join(name), text).map_err(|error| failed(&error));
    write("tls.key", key.serialize_pem())?;
    write("tls.crt", pem(&signed.chain))?;
    write("ca.crt", pem(&signed.roots))
}
