//! Whose tokens we believe, and what they are worth: the `--issuers` file.
//!
//! ```yaml
//! issuers:
//!   - issuer: https://kubernetes.default.svc
//!     jwks: { url: https://kubernetes.default.svc/openid/v1/jwks, ca: /…/ca.crt, token: /…/token }
//!     audiences: [weft-ca]
//!     kubernetes: true                   # tokens bound to pods, as the API server makes them
//!   - issuer: https://ci.example.com
//!     jwks: { file: ci.json }            # relative to this file
//!     audiences: [weft-ca]
//!     identities:                        # what each subject may hold
//!       deployer: [spiffe://cluster.local/ns/ci/sa/deployer]
//! ```

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

use decide::model::Identity;
use serde::Deserialize;

use crate::{
    fetch::Fetch,
    keys::{KeySet, Source},
};

const MOST_BYTES: u64 = 4 << 20;

/// Every issuer we believe, by the `iss` of its tokens.
#[derive(Debug, Default)]
pub struct Issuers(HashMap<String, Issuer>);

/// An issuer of tokens.
#[derive(Debug)]
pub struct Issuer {
    /// `iss` of its tokens.
    pub name: String,
    /// What verifies them.
    pub keys: KeySet,
    /// `aud` of those meant for us.
    pub audiences: Vec<String>,
    /// What they are worth.
    pub worth: Worth,
}

/// What an issuer's tokens are worth.
#[derive(Debug)]
pub enum Worth {
    /// They are bound to pods: the pods' nodes and service accounts decide.
    Kubernetes,
    /// What each subject may hold.
    Mapping(HashMap<String, Vec<Identity>>),
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct IssuersError {
    path: PathBuf,
    why: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping with the key issuers")]
struct Document {
    issuers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    issuer: String,
    jwks: Jwks,
    audiences: Vec<String>,
    #[serde(default)]
    kubernetes: bool,
    identities: Option<HashMap<String, Vec<String>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Jwks {
    file: Option<PathBuf>,
    url: Option<String>,
    ca: Option<PathBuf>,
    token: Option<PathBuf>,
}

impl Issuers {
    /// Reads the file. Keys are read when they are needed.
    ///
    /// # Errors
    /// [`IssuersError`], naming the file, the issuer and what to write instead.
    pub fn read(path: &Path) -> Result<Self, IssuersError> {
        let failed = |why: String| IssuersError {
            path: path.to_owned(),
            why,
        };
        let size = fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
        if size > MOST_BYTES {
            return Err(failed(format!("it is larger than {MOST_BYTES} bytes")));
        }
        let text = fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new("."))).map_err(failed)
    }

    fn parse(text: &str, beside: &Path) -> Result<Self, String> {
        let document: Document = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
        if document.issuers.is_empty() {
            return Err("it names no issuer, so that nobody could get a certificate".to_owned());
        }
        let mut issuers = HashMap::new();
        for entry in document.issuers {
            let name = entry.issuer.clone();
            let issuer = entry.issuer(beside).map_err(|why| format!("issuer {name:?}: {why}"))?;
            if issuers.insert(name.clone(), issuer).is_some() {
                return Err(format!("issuer {name:?} is there twice"));
            }
        }
        Ok(Self(issuers))
    }

    /// The issuer of this name, if we believe it.
    pub fn named(&self, name: &str) -> Option<&Issuer> {
        self.0.get(name)
    }
}

impl Entry {
    fn issuer(self, beside: &Path) -> Result<Issuer, String> {
        if self.issuer.is_empty() || self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return Err("issuer and audiences must not be empty".to_owned());
        }
        let worth = match (self.kubernetes, self.identities) {
            (true, None) => Worth::Kubernetes,
            (false, Some(identities)) => Worth::Mapping(mapping(identities)?),
            _ => return Err("write either kubernetes: true or identities".to_owned()),
        };
        Ok(Issuer {
            keys: KeySet::new(self.jwks.source(beside)?),
            name: self.issuer,
            audiences: self.audiences,
            worth,
        })
    }
}

impl Jwks {
    fn source(self, beside: &Path) -> Result<Source, String> {
        match (self.file, self.url) {
            (Some(file), None) if self.ca.is_none() && self.token.is_none() => Ok(Source::File(beside.join(file))),
            (None, Some(url)) => {
                let (ca, token) = (
                    self.ca.map(|ca| beside.join(ca)),
                    self.token.map(|token| beside.join(token)),
                );
                Fetch::new(&url, ca.as_deref(), token.as_deref()).map(Source::Url)
            }
            _ => Err("jwks is either file, or url with ca and token where needed".to_owned()),
        }
    }
}

fn mapping(identities: HashMap<String, Vec<String>>) -> Result<HashMap<String, Vec<Identity>>, String> {
    let parse = |uri: &String| {
        uri.parse()
            .map_err(|error: decide::model::NotAnIdentity| error.to_string())
    };
    identities
        .into_iter()
        .map(|(subject, uris)| Ok((subject, uris.iter().map(parse).collect::<Result<_, String>>()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Issuers, String> {
        Issuers::parse(text, Path::new("/etc/weft"))
    }

    #[test]
    fn both_kinds_of_issuers_are_read() {
        let issuers = parse(
            "issuers:
              - {issuer: k8s, jwks: {file: keys.json}, audiences: [weft-ca], kubernetes: true}
              - issuer: ci
                jwks: {url: 'https://ci.example.com/keys'}
                audiences: [weft-ca]
                identities: {deployer: ['spiffe://cluster.local/ns/ci/sa/deployer']}",
        )
        .unwrap();
        assert!(matches!(issuers.named("k8s").unwrap().worth, Worth::Kubernetes));
        let Worth::Mapping(mapping) = &issuers.named("ci").unwrap().worth else {
            panic!("a mapping");
        };
        assert_eq!(mapping["deployer"].len(), 1);
        assert!(issuers.named("other").is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_reason() {
        let cases = [
            ("", "missing field"),
            ("issuers: []", "names no issuer"),
            (
                "issuers: [{issuer: a, jwks: {file: f}, audiences: [x], kubernets: true}]",
                "kubernets",
            ),
            (
                "issuers: [{issuer: a, jwks: {file: f}, audiences: [x]}]",
                "either kubernetes",
            ),
            (
                "issuers: [{issuer: a, jwks: {file: f}, audiences: [], kubernetes: true}]",
                "must not be empty",
            ),
            (
                "issuers: [{issuer: a, jwks: {}, audiences: [x], kubernetes: true}]",
                "either file, or url",
            ),
            (
                "issuers: [{issuer: a, jwks: {file: f, url: u}, audiences: [x], kubernetes: true}]",
                "either file, or url",
            ),
            (
                "issuers: [{issuer: a, jwks: {url: 'http://ci.example.com/'}, audiences: [x], kubernetes: true}]",
                "neither an https",
            ),
            (
                "issuers: [{issuer: a, jwks: {file: f}, audiences: [x], identities: {s: [web]}}]",
                "is not of the form",
            ),
            (
                "issuers: [{issuer: a, jwks: {file: f}, audiences: [x], kubernetes: true}, {issuer: a, jwks: {file: f}, audiences: [x], kubernetes: true}]",
                "twice",
            ),
        ];
        for (text, why) in cases {
            let error = parse(text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
