//! From what is kept to what signs: the root, the intermediate of the day, and what is missing made new. No IO
//! but the files that were given. Comes in: kept documents and the time. Goes out: a [`Chain`] and the documents
//! to keep from now on.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use act::certs::{Issued, Issuer, Leaf, Name, Signed, SigningError, Validity, pem};
use decide::model::Identity;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use crate::store::{self, Document, Kept, StateError, Store, unfit};

/// A day.
pub const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long an intermediate lives.
pub const INTERMEDIATE_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// The intermediate is replaced when less is left of it: far more than the longest leaf, so that none is cut short.
pub const INTERMEDIATE_REST: Duration = Duration::from_secs(90 * 86_400);
/// Clocks of proxies may be this much behind ours (design 20).
pub const BACK: Duration = Duration::from_secs(300);

const ROOT: Names = Names {
    certificate: "root.pem",
    key: "root.key",
};
const INTERMEDIATE: Names = Names {
    certificate: "intermediate.pem",
    key: "intermediate.key",
};

/// Names of a certificate's and its key's documents.
struct Names {
    certificate: &'static str,
    key: &'static str,
}

/// Certificates and keys given as files instead of made here.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// PEM: every root to trust; the first is the one that signs.
    pub root_certificate: Option<PathBuf>,
    /// The first root's key; without it the intermediate must be given too.
    pub root_key: Option<PathBuf>,
    /// The intermediate and what is between it and the root, and its key.
    pub intermediate: Option<Pair>,
}

/// A certificate file and its key file.
#[derive(Debug, Clone)]
pub struct Pair {
    /// PEM, the certificate of the key first.
    pub certificate: PathBuf,
    /// PKCS#8 in PEM.
    pub key: PathBuf,
}

/// All that signs at one time.
#[derive(Debug)]
pub struct Chain {
    /// What makes intermediates, where its key is here.
    root: Option<Issuer>,
    /// Every root to trust.
    pub bundle: Vec<CertificateDer<'static>>,
    issuer: Issuer,
    /// What stands between the intermediate and the root.
    above: Vec<CertificateDer<'static>>,
}

/// A signed leaf, with all that vouches for it.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The leaf.
    pub issued: Issued,
    /// Leaf and intermediates, and the roots.
    pub signed: Signed,
}

/// What a chain is made by.
pub struct Making<'a> {
    /// What is kept.
    pub kept: &'a Kept,
    /// Where, for messages.
    pub store: &'a dyn Store,
    /// What was given.
    pub given: &'a Given,
    /// Whose identities are signed.
    pub trust_domain: &'a str,
    /// The time.
    pub now: SystemTime,
}

/// A root: what makes intermediates, where its key is here, and every root to trust.
type Root = (Option<Issuer>, Vec<CertificateDer<'static>>);
/// An intermediate, and what is between it and the root.
type Intermediate = (Issuer, Vec<CertificateDer<'static>>);

impl Making<'_> {
    /// The chain, and what must be kept before it may sign.
    ///
    /// # Errors
    /// [`StateError`], one plain sentence with the remedy.
    pub fn chain(&self) -> Result<(Chain, Vec<Document>), StateError> {
        let mut new = Vec::new();
        let (root, bundle) = match &self.given.root_certificate {
            Some(certificate) => self.given_root(certificate, &mut new)?,
            None => self.own_root(&mut new)?,
        };
        let (issuer, above) = match &self.given.intermediate {
            Some(pair) => {
                let given = load(pair)?;
                let place = pair.certificate.display().to_string();
                self.proves(&given, &bundle).map_err(|why| unfit(&place, why))?;
                given
            }
            None => self.own_intermediate(root.as_ref(), &bundle, &mut new)?,
        };
        let chain = Chain {
            root,
            bundle,
            issuer,
            above,
        };
        Ok((chain, new))
    }

    /// A root from files; its key may stay elsewhere.
    fn given_root(&self, certificate: &Path, new: &mut Vec<Document>) -> Result<Root, StateError> {
        if self.kept.get(ROOT.key).is_some() {
            let why = "a root of its own is kept here; give the other root another --state or --state-secret";
            return Err(unfit(&self.store.place(ROOT.key), why.to_owned()));
        }
        let place = certificate.display().to_string();
        let bundle = store::certificates(&place, &store::read(certificate)?)?;
        let issuer = match &self.given.root_key {
            Some(key) => {
                let pair = Pair {
                    certificate: certificate.to_owned(),
                    key: key.clone(),
                };
                Some(load(&pair)?.0)
            }
            None => None,
        };
        let text = pem(&bundle).into_bytes();
        if self.kept.get(ROOT.certificate) != Some(&text) {
            new.push((ROOT.certificate.to_owned(), text));
        }
        Ok((issuer, bundle))
    }

    /// The root that is kept, made where there is none yet.
    fn own_root(&self, new: &mut Vec<Document>) -> Result<Root, StateError> {
        let place = self.store.place(ROOT.certificate);
        let signs_already = self.kept.get(INTERMEDIATE.certificate).is_some();
        match (self.kept.get(ROOT.certificate), self.kept.get(ROOT.key)) {
            (Some(certificate), Some(key)) => {
                let key = (&*self.store.place(ROOT.key), key);
                let (issuer, others) = store::issuer((&place, certificate), key)?;
                let mut bundle = vec![issuer.certificate().clone()];
                bundle.extend(others);
                Ok((Some(issuer), bundle))
            }
            // The key is kept elsewhere; what it signed suffices.
            (Some(certificate), None) if signs_already => Ok((None, store::certificates(&place, certificate)?)),
            (Some(_), None) => Err(unfit(
                &self.store.place(ROOT.key),
                "it is missing, and its certificate is there".to_owned(),
            )),
            (None, _) if signs_already => Err(unfit(&place, "it is missing, and an intermediate is there".to_owned())),
            // A key alone is of a first start that did not get further; nobody has its certificate.
            (None, _) => {
                let name = format!("Weft root of {}", self.trust_domain);
                let validity = Validity::around(self.now, DAY, ROOT_LIFE);
                let root = Issuer::root(&name, validity).map_err(|error| unfit(&place, error.to_string()))?;
                new.extend(documents(&ROOT, &root));
                let bundle = vec![root.certificate().clone()];
                Ok((Some(root), bundle))
            }
        }
    }

    /// The intermediate that is kept; made anew where the root's key is here and the kept one is missing, does
    /// not fit the root, or ends soon.
    fn own_intermediate(
        &self,
        root: Option<&Issuer>,
        bundle: &[CertificateDer<'static>],
        new: &mut Vec<Document>,
    ) -> Result<Intermediate, StateError> {
        match (self.kept_intermediate(bundle), root) {
            (Ok(kept), None) => Ok(kept),
            (Ok(kept), Some(_)) if rest(&kept.0, self.now) > INTERMEDIATE_REST => Ok(kept),
            (Ok(_), Some(root)) => self.new_intermediate(root, bundle, new),
            (Err(error), Some(root)) => {
                if self.kept.get(INTERMEDIATE.certificate).is_some() {
                    tracing::warn!(%error, "the intermediate is made anew");
                }
                self.new_intermediate(root, bundle, new)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn kept_intermediate(&self, bundle: &[CertificateDer<'static>]) -> Result<Intermediate, StateError> {
        let part = |name: &'static str| {
            let place = self.store.place(name);
            let bytes = self.kept.get(name);
            let bytes = bytes.ok_or_else(|| unfit(&place, "it is missing".to_owned()))?;
            Ok::<_, StateError>((place, bytes))
        };
        let (certificate, key) = (part(INTERMEDIATE.certificate)?, part(INTERMEDIATE.key)?);
        let kept = store::issuer((&certificate.0, certificate.1), (&key.0, key.1))?;
        self.proves(&kept, bundle).map_err(|why| unfit(&certificate.0, why))?;
        Ok(kept)
    }

    fn new_intermediate(
        &self,
        root: &Issuer,
        bundle: &[CertificateDer<'static>],
        new: &mut Vec<Document>,
    ) -> Result<Intermediate, StateError> {
        let place = self.store.place(INTERMEDIATE.certificate);
        let name = format!("Weft intermediate of {}", self.trust_domain);
        let issuer = root
            .intermediate(&name, Validity::around(self.now, DAY, INTERMEDIATE_LIFE))
            .map_err(|error| unfit(&place, error.to_string()))?;
        let made = (issuer, Vec::new());
        self.proves(&made, bundle)
            .map_err(|why| unfit(&self.store.place(ROOT.certificate), why))?;
        new.extend(documents(&INTERMEDIATE, &made.0));
        Ok(made)
    }

    /// Whether peers would accept what this intermediate signs.
    fn proves(&self, (issuer, above): &Intermediate, bundle: &[CertificateDer<'static>]) -> Result<(), String> {
        let probe = Identity::new(self.trust_domain, "probe", "probe").map_err(|error| error.to_string())?;
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let validity = Validity::around(self.now, BACK, DAY);
        let answer =
            sign(issuer, above, bundle, &key, &Name::Identity(&probe), validity).map_err(|error| error.to_string())?;
        Leaf::verified(&probe, key.serialize_der().into(), answer.signed, self.now)
            .map(|_| ())
            .map_err(|why| format!("what it signs does not hold under the root: {why}"))
    }
}

impl Chain {
    /// A leaf for this key and name.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(&self, key: &impl PublicKeyData, name: &Name<'_>, validity: Validity) -> Result<Answer, SigningError> {
        sign(&self.issuer, &self.above, &self.bundle, key, name, validity)
    }

    /// Whether the root's key is here, so that intermediates can be made.
    pub fn has_root_key(&self) -> bool {
        self.root.is_some()
    }

    /// When what signs ends.
    pub fn ends(&self) -> SystemTime {
        self.issuer.validity().not_after
    }

    /// How much is left of what signs.
    pub fn rest(&self, now: SystemTime) -> Duration {
        rest(&self.issuer, now)
    }
}

impl Pair {
    fn names(&self) -> (Arc<str>, Arc<str>) {
        let name = |path: &PathBuf| path.display().to_string().into();
        (name(&self.certificate), name(&self.key))
    }
}

fn load(pair: &Pair) -> Result<Intermediate, StateError> {
    let (certificate, key) = pair.names();
    store::issuer(
        (&certificate, &store::read(&pair.certificate)?),
        (&key, &store::read(&pair.key)?),
    )
}

/// The key first, so that a certificate is never without its key.
fn documents(names: &Names, issuer: &Issuer) -> [Document; 2] {
    let certificate = pem(std::slice::from_ref(issuer.certificate()));
    [
        (names.key.to_owned(), issuer.key_pem().into_bytes()),
        (names.certificate.to_owned(), certificate.into_bytes()),
    ]
}

fn rest(issuer: &Issuer, now: SystemTime) -> Duration {
    issuer.validity().not_after.duration_since(now).unwrap_or_default()
}

fn sign(
    issuer: &Issuer,
    above: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
    key: &impl PublicKeyData,
    name: &Name<'_>,
    validity: Validity,
) -> Result<Answer, SigningError> {
    let issued = issuer.leaf(key, name, validity)?;
    let mut chain = vec![issued.certificate.clone(), issuer.certificate().clone()];
    chain.extend(above.iter().cloned());
    Ok(Answer {
        issued,
        signed: Signed {
            chain,
            roots: roots.to_vec(),
        },
    })
}
