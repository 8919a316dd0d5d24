//! Who asks: tokens of configured issuers are verified by their keys, all others by the API server, where there
//! is one. Comes in: a bearer token. Goes out: what it proves.

use std::net::SocketAddr;

use crate::{
    issuers::Issuers,
    proof::Proof,
    review::Reviews,
    token::{self, TokenError, Unverified},
};

/// Whose tokens are believed.
#[derive(Debug, Default)]
pub struct Authentication {
    /// By their keys.
    pub issuers: Issuers,
    /// By asking the API server.
    pub reviews: Option<Reviews>,
}

impl Authentication {
    /// What a token proves. `from` sent it.
    ///
    /// # Errors
    /// [`TokenError`].
    pub async fn proof(&self, token: &str, from: Option<SocketAddr>) -> Result<Proof, TokenError> {
        let unverified = Unverified::of(token)?;
        match (self.issuers.named(&unverified.iss), &self.reviews) {
            (Some(issuer), _) => token::verify(issuer, token).await,
            (None, Some(reviews)) => reviews.proof(token, &unverified, from).await,
            (None, None) => Err(TokenError::Issuer(unverified.iss.chars().take(200).collect())),
        }
    }
}
