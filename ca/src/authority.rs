//! Who signs: the intermediate of the day under the root, made when there is none and anew before it ends.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use act::certs::{Issued, Issuer, Leaf, Name, Signed, SigningError, Validity, pem};
use decide::model::Identity;
use rcgen::{KeyPair, PublicKeyData};
use rustls::pki_types::CertificateDer;

use crate::state::{Pair, State, StateError, read_certificates, unfit};

const DAY: Duration = Duration::from_secs(86_400);
const ROOT_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
const INTERMEDIATE_LIFE: Duration = Duration::from_secs(365 * 86_400);
/// The intermediate is replaced when less is left of it: far more than the longest leaf, so that none is cut short.
const INTERMEDIATE_REST: Duration = Duration::from_secs(90 * 86_400);
/// Clocks of proxies may be this much behind ours (design 20).
const BACK: Duration = Duration::from_secs(300);

const ROOT: &str = "root";
const INTERMEDIATE: &str = "intermediate";

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

/// Signs leaves.
#[derive(Debug)]
pub struct SigningAuthority {
    root: Root,
    /// The intermediate was given: not ours to replace.
    given: bool,
    current: Mutex<Arc<Intermediate>>,
}

/// The root, and where what is below it is kept.
#[derive(Debug)]
struct Root {
    state: State,
    trust_domain: Arc<str>,
    /// What makes intermediates, where its key is here.
    issuer: Option<Issuer>,
    /// Every root to trust.
    bundle: Vec<CertificateDer<'static>>,
}

/// What signs.
#[derive(Debug)]
struct Intermediate {
    issuer: Issuer,
    /// What stands between it and the root.
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

impl SigningAuthority {
    /// Loads what the state directory and the given files hold, and makes what is missing. The public roots are
    /// in the state directory's `root.pem` afterwards.
    ///
    /// # Errors
    /// [`StateError`], one plain sentence with the remedy.
    pub fn open(state: State, given: &Given, trust_domain: &str, now: SystemTime) -> Result<Self, StateError> {
        let root = match &given.root_certificate {
            Some(certificate) => Root::given(state, certificate, given.root_key.as_ref(), trust_domain)?,
            None => Root::own(state, trust_domain, now)?,
        };
        let intermediate = match &given.intermediate {
            Some(pair) => root.given_intermediate(pair, now)?,
            None => root.own_intermediate(now)?,
        };
        Ok(Self {
            root,
            given: given.intermediate.is_some(),
            current: Mutex::new(Arc::new(intermediate)),
        })
    }

    /// A leaf for this key and name that lives `life` from now, or to the end of what signs it.
    ///
    /// # Errors
    /// [`SigningError`].
    pub fn sign(
        &self,
        key: &impl PublicKeyData,
        name: &Name<'_>,
        life: Duration,
        now: SystemTime,
    ) -> Result<Answer, SigningError> {
        self.current()
            .sign(key, name, Validity::around(now, BACK, life), &self.root.bundle)
    }

    /// Makes a new intermediate if little is left of this one; says whether it did.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be made or stored; the old one stays.
    pub fn renew(&self, now: SystemTime) -> Result<bool, StateError> {
        if self.given || self.current().rest(now) > INTERMEDIATE_REST {
            return Ok(false);
        }
        let Some(root) = &self.root.issuer else {
            return Ok(false);
        };
        let next = self.root.new_intermediate(root, now)?;
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(true)
    }

    /// Every root to trust.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.root.bundle
    }

    /// When what signs ends.
    pub fn ends(&self) -> SystemTime {
        self.current().issuer.validity().not_after
    }

    fn current(&self) -> Arc<Intermediate> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Root {
    /// A root from files; its key may stay elsewhere.
    fn given(state: State, certificate: &Path, key: Option<&PathBuf>, trust_domain: &str) -> Result<Self, StateError> {
        let own = state.pair(ROOT);
        if own.key.exists() {
            let why = "this state directory has a root of its own; give the other root another --state";
            return Err(unfit(&own.key, why.to_owned()));
        }
        let bundle = read_certificates(certificate)?;
        let issuer = match key {
            Some(key) => {
                let pair = Pair {
                    certificate: certificate.to_owned(),
                    key: key.clone(),
                };
                Some(pair.load()?.0)
            }
            None => None,
        };
        state.write(&own.certificate, pem(&bundle).as_bytes())?;
        Ok(Self {
            state,
            trust_domain: trust_domain.into(),
            issuer,
            bundle,
        })
    }

    /// The state directory's root, made where there is none yet.
    fn own(state: State, trust_domain: &str, now: SystemTime) -> Result<Self, StateError> {
        let pair = state.pair(ROOT);
        let signs_already = state.pair(INTERMEDIATE).certificate.exists();
        let (issuer, bundle) = match (pair.certificate.exists(), pair.key.exists()) {
            (true, true) => {
                let (issuer, others) = pair.load()?;
                let mut bundle = vec![issuer.certificate().clone()];
                bundle.extend(others);
                (Some(issuer), bundle)
            }
            // The key is kept elsewhere; what it signed suffices.
            (true, false) if signs_already => (None, read_certificates(&pair.certificate)?),
            (true, false) => {
                return Err(unfit(
                    &pair.key,
                    "it is missing, and its certificate is there".to_owned(),
                ));
            }
            (false, _) if signs_already => {
                return Err(unfit(
                    &pair.certificate,
                    "it is missing, and an intermediate is there".to_owned(),
                ));
            }
            // A key alone is of a first start that did not get further; nobody has its certificate.
            (false, _) => {
                let name = format!("Weft root of {trust_domain}");
                let validity = Validity::around(now, DAY, ROOT_LIFE);
                let root =
                    Issuer::root(&name, validity).map_err(|error| unfit(&pair.certificate, error.to_string()))?;
                state.store(ROOT, &root)?;
                tracing::info!(file = %pair.certificate.display(), "made a new root");
                let bundle = vec![root.certificate().clone()];
                (Some(root), bundle)
            }
        };
        Ok(Self {
            state,
            trust_domain: trust_domain.into(),
            issuer,
            bundle,
        })
    }

    fn given_intermediate(&self, pair: &Pair, now: SystemTime) -> Result<Intermediate, StateError> {
        let (issuer, above) = pair.load()?;
        let intermediate = Intermediate { issuer, above };
        self.proves(&intermediate, now)
            .map_err(|why| unfit(&pair.certificate, why))?;
        Ok(intermediate)
    }

    /// The state directory's intermediate; made anew where the root's key is here and the stored one is
    /// missing, does not fit the root, or ends soon.
    fn own_intermediate(&self, now: SystemTime) -> Result<Intermediate, StateError> {
        let pair = self.state.pair(INTERMEDIATE);
        let stored = pair.load().and_then(|(issuer, above)| {
            let stored = Intermediate { issuer, above };
            self.proves(&stored, now).map_err(|why| unfit(&pair.certificate, why))?;
            Ok(stored)
        });
        match (stored, &self.issuer) {
            (Ok(stored), None) => Ok(stored),
            (Ok(stored), Some(_)) if stored.rest(now) > INTERMEDIATE_REST => Ok(stored),
            (Ok(_), Some(root)) => self.new_intermediate(root, now),
            (Err(error), Some(root)) => {
                if pair.certificate.exists() {
                    tracing::warn!(%error, "the intermediate is made anew");
                }
                self.new_intermediate(root, now)
            }
            (Err(error), None) => Err(error),
        }
    }

    fn new_intermediate(&self, root: &Issuer, now: SystemTime) -> Result<Intermediate, StateError> {
        let pair = self.state.pair(INTERMEDIATE);
        let name = format!("Weft intermediate of {}", self.trust_domain);
        let issuer = root
            .intermediate(&name, Validity::around(now, DAY, INTERMEDIATE_LIFE))
            .map_err(|error| unfit(&pair.certificate, error.to_string()))?;
        let made = Intermediate {
            issuer,
            above: Vec::new(),
        };
        self.proves(&made, now)
            .map_err(|why| unfit(&self.state.pair(ROOT).certificate, why))?;
        self.state.store(INTERMEDIATE, &made.issuer)?;
        tracing::info!(file = %pair.certificate.display(), "made a new intermediate");
        Ok(made)
    }

    /// Whether peers would accept what this intermediate signs.
    fn proves(&self, intermediate: &Intermediate, now: SystemTime) -> Result<(), String> {
        let probe = Identity::new(&self.trust_domain, "probe", "probe").map_err(|error| error.to_string())?;
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let answer = intermediate
            .sign(
                &key,
                &Name::Identity(&probe),
                Validity::around(now, BACK, DAY),
                &self.bundle,
            )
            .map_err(|error| error.to_string())?;
        Leaf::verified(&probe, key.serialize_der().into(), answer.signed, now)
            .map(|_| ())
            .map_err(|why| format!("what it signs does not hold under the root: {why}"))
    }
}

impl Intermediate {
    fn sign(
        &self,
        key: &impl PublicKeyData,
        name: &Name<'_>,
        validity: Validity,
        roots: &[CertificateDer<'static>],
    ) -> Result<Answer, SigningError> {
        let issued = self.issuer.leaf(key, name, validity)?;
        let mut chain = vec![issued.certificate.clone(), self.issuer.certificate().clone()];
        chain.extend(self.above.iter().cloned());
        Ok(Answer {
            issued,
            signed: Signed {
                chain,
                roots: roots.to_vec(),
            },
        })
    }

    fn rest(&self, now: SystemTime) -> Duration {
        self.issuer.validity().not_after.duration_since(now).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    const MESH: &str = "cluster.local";

    fn open(directory: &Path, given: &Given) -> Result<SigningAuthority, StateError> {
        SigningAuthority::open(State::open(directory)?, given, MESH, SystemTime::now())
    }

    fn made() -> (TempDir, Vec<CertificateDer<'static>>) {
        let directory = tempfile::tempdir().unwrap();
        let roots = open(directory.path(), &Given::default()).unwrap().roots().to_vec();
        (directory, roots)
    }

    fn web() -> Identity {
        Identity::new(MESH, "shop", "web").unwrap()
    }

    /// What it signs holds under these roots.
    fn signs_under(authority: &SigningAuthority, roots: &[CertificateDer<'static>]) {
        signs_under_at(authority, roots, SystemTime::now());
    }

    fn signs_under_at(authority: &SigningAuthority, roots: &[CertificateDer<'static>], now: SystemTime) {
        let key = KeyPair::generate().unwrap();
        let mut answer = authority.sign(&key, &Name::Identity(&web()), DAY, now).unwrap();
        answer.signed.roots = roots.to_vec();
        Leaf::verified(&web(), key.serialize_der().into(), answer.signed, now).unwrap();
    }

    #[test]
    fn a_second_start_has_the_same_root_and_keys_only_the_owner_reads() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, roots) = made();
        let again = open(directory.path(), &Given::default()).unwrap();
        signs_under(&again, &roots);
        let published = fs::read(directory.path().join("root.pem")).unwrap();
        assert_eq!(act::certs::certificates_of(&published).unwrap(), roots);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(directory.path()), 0o700);
        for key in ["root.key", "intermediate.key"] {
            assert_eq!(mode(&directory.path().join(key)), 0o600);
        }
    }

    #[test]
    fn two_cas_never_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), &Given::default()).unwrap();
        let error = open(directory.path(), &Given::default()).unwrap_err();
        assert!(matches!(error, StateError::InUse(_)), "{error}");
        drop(first);
        open(directory.path(), &Given::default()).unwrap();
    }

    #[test]
    fn a_start_that_was_cut_short_is_repaired() {
        // After the root's key: nothing was ever signed, all is made anew.
        let (directory, _) = made();
        for gone in ["root.pem", "intermediate.pem", "intermediate.key"] {
            fs::remove_file(directory.path().join(gone)).unwrap();
        }
        let authority = open(directory.path(), &Given::default()).unwrap();
        signs_under(&authority, authority.roots());
        // Within the intermediate, or with one of another root: the root stays.
        for (file, text) in [
            ("intermediate.key", None),
            ("intermediate.pem", None),
            ("intermediate.pem", Some("x")),
        ] {
            let (directory, roots) = made();
            let file = directory.path().join(file);
            match text {
                Some(text) => fs::write(file, text).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            signs_under(&open(directory.path(), &Given::default()).unwrap(), &roots);
        }
        let ((directory, roots), (other, _)) = (made(), made());
        for file in ["intermediate.key", "intermediate.pem"] {
            fs::copy(other.path().join(file), directory.path().join(file)).unwrap();
        }
        signs_under(&open(directory.path(), &Given::default()).unwrap(), &roots);
    }

    #[test]
    fn a_root_that_lost_a_part_is_never_replaced_silently() {
        let cases: [(&str, Option<&str>); 4] = [
            ("root.pem", None),
            (
                "root.pem",
                Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
            ),
            ("root.key", Some("not a key")),
            ("root.pem", Some("")),
        ];
        for (file, text) in cases {
            let (directory, _) = made();
            let file = directory.path().join(file);
            match text {
                Some(text) => fs::write(&file, text).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let error = open(directory.path(), &Given::default()).unwrap_err();
            assert!(matches!(error, StateError::Unfit { .. }), "{error}");
            assert!(error.to_string().contains("root."), "{error}");
        }
    }

    #[test]
    fn the_roots_key_may_be_kept_elsewhere() {
        let (directory, roots) = made();
        let key = directory.path().join("root.key");
        let kept = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let authority = open(directory.path(), &Given::default()).unwrap();
        signs_under(&authority, &roots);
        assert!(!authority.renew(SystemTime::now() + INTERMEDIATE_LIFE).unwrap());
        drop(authority);
        fs::remove_file(directory.path().join("intermediate.key")).unwrap();
        open(directory.path(), &Given::default()).unwrap_err();
        fs::write(&key, kept).unwrap();
        signs_under(&open(directory.path(), &Given::default()).unwrap(), &roots);
    }

    #[test]
    fn given_files_are_used_and_checked() {
        let ((source, roots), (other, _), state) = (made(), made(), tempfile::tempdir().unwrap());
        let file = |directory: &TempDir, name: &str| directory.path().join(name);
        let pair = |directory: &TempDir| Pair {
            certificate: file(directory, "intermediate.pem"),
            key: file(directory, "intermediate.key"),
        };
        let mut given = Given {
            root_certificate: Some(file(&source, "root.pem")),
            root_key: None,
            intermediate: Some(pair(&source)),
        };
        signs_under(&open(state.path(), &given).unwrap(), &roots);
        given.intermediate = Some(pair(&other));
        let error = open(state.path(), &given).unwrap_err();
        assert!(error.to_string().contains("does not hold under the root"), "{error}");
        given.intermediate = None;
        given.root_key = Some(file(&source, "root.key"));
        signs_under(&open(state.path(), &given).unwrap(), &roots);
        let error = open(other.path(), &given).unwrap_err();
        assert!(error.to_string().contains("root of its own"), "{error}");
        given.root_key = Some(file(&other, "root.key"));
        open(tempfile::tempdir().unwrap().path(), &given).unwrap_err();
    }

    #[test]
    fn the_intermediate_is_renewed_before_it_ends_and_leaves_never_outlive_it() {
        let directory = tempfile::tempdir().unwrap();
        let authority = open(directory.path(), &Given::default()).unwrap();
        let (now, first) = (SystemTime::now(), authority.ends());
        assert!(!authority.renew(now + DAY * 270).unwrap());
        let late = first - DAY;
        let key = KeyPair::generate().unwrap();
        let cut = authority.sign(&key, &Name::Identity(&web()), DAY * 7, late).unwrap();
        assert_eq!(cut.issued.validity.not_after, first);
        assert!(authority.renew(late).unwrap());
        assert!(authority.ends() > first);
        signs_under_at(&authority, authority.roots(), late);
    }
}
