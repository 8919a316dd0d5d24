//! Token issuers: the API server's stand-in, whose tokens are bound to pods and nodes as Kubernetes makes them,
//! and any other.

use std::{fs, path::Path, time::SystemTime};

use act::process::Failure;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode, jwk::Jwk};
use serde_json::{Value, json};

use super::objects::Pod;

/// Who the CA's tokens are for.
const AUDIENCE: &str = "weft-ca";
/// How long a token lives: the least that Kubernetes allows.
pub(super) const TOKEN_LIFE_SECONDS: u64 = 600;

/// An issuer of tokens with an ES256 key made when it starts.
pub struct Issuer {
    name: String,
    key: EncodingKey,
}

impl Issuer {
    /// A new issuer. Its public key is written to `jwks`.
    ///
    /// # Errors
    /// When the key cannot be made or the file not written.
    pub fn new(name: &str, jwks: &Path) -> Result<Self, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("the token issuer {name} cannot start: {error}"));
        let pair = rcgen::KeyPair::generate().map_err(|error| failed(&error))?;
        let key = EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes()).map_err(|error| failed(&error))?;
        let mut public = Jwk::from_encoding_key(&key, Algorithm::ES256).map_err(|error| failed(&error))?;
        public.common.key_id = Some(name.to_owned());
        let set = json!({ "keys": [public] }).to_string();
        fs::write(jwks, set).map_err(|error| failed(&error))?;
        Ok(Self {
            name: name.to_owned(),
            key,
        })
    }

    /// Its name (`iss`).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A token of a pod's service account, bound to the pod and its node (projected token volume).
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn pod_token(&self, pod: &Pod) -> Result<String, Failure> {
        let Pod {
            namespace,
            account,
            name,
            uid,
            node,
            ..
        } = pod;
        self.token(&json!({
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "kubernetes.io": {
                "namespace": namespace,
                "node": { "name": node, "uid": format!("{node}-uid") },
                "pod": { "name": name, "uid": uid },
                "serviceaccount": { "name": account, "uid": format!("{namespace}.{account}") },
            },
        }))
    }

    /// A token with these claims, beside issuer, audience and times.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn token(&self, claims: &Value) -> Result<String, Failure> {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let mut all = json!({
            "iss": self.name,
            "aud": [AUDIENCE],
            "iat": now,
            "nbf": now,
            "exp": now + TOKEN_LIFE_SECONDS,
        });
        if let (Some(all), Some(claims)) = (all.as_object_mut(), claims.as_object()) {
            all.extend(claims.clone());
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.name.clone());
        encode(&header, &all, &self.key).map_err(|error| Failure(format!("a token cannot be signed: {error}")))
    }
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Issuer")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Writes a file as a whole, so that a reader never sees half of it.
///
/// # Errors
/// When it cannot be written.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("new");
    fs::write(&new, text)
        .and_then(|()| fs::rename(&new, path))
        .map_err(|error| Failure(format!("{} cannot be written: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{DecodingKey, Validation, decode, jwk::JwkSet};

    use super::*;

    #[test]
    fn a_pods_token_verifies_against_the_published_key_and_names_pod_and_node() {
        let directory = tempfile::tempdir().unwrap();
        let jwks = directory.path().join("jwks.json");
        let issuer = Issuer::new("https://api", &jwks).unwrap();
        let pod = Pod {
            namespace: "shop".into(),
            name: "web".into(),
            uid: "u-1".into(),
            node: "node-1".into(),
            account: "web".into(),
            ..Pod::default()
        };
        let set: JwkSet = serde_json::from_str(&fs::read_to_string(jwks).unwrap()).unwrap();
        let key = DecodingKey::from_jwk(set.find("https://api").unwrap()).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[AUDIENCE]);
        let token = decode::<Value>(issuer.pod_token(&pod).unwrap(), &key, &validation).unwrap();
        assert_eq!(token.claims["sub"], "system:serviceaccount:shop:web");
        assert_eq!(token.claims["kubernetes.io"]["node"]["name"], "node-1");
        assert_eq!(token.claims["kubernetes.io"]["pod"]["uid"], "u-1");
    }
}
