//! Who signs: the intermediate of the day under the root, made when there is none and anew before it ends, and
//! taken over when another replica made it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use act::certs::{Name, SigningError, Validity};
use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;

use crate::{
    chain::{Answer, BACK, Chain, Given, INTERMEDIATE_REST, Making},
    store::{Document, Kept, Saved, StateError, Store},
};

/// Others that write at the same moment are given way so often.
const MOST_TRIES: usize = 8;

/// Signs leaves.
#[derive(Debug)]
pub struct SigningAuthority {
    store: Box<dyn Store>,
    given: Given,
    trust_domain: Arc<str>,
    current: Mutex<Arc<Current>>,
}

/// What signs, and what it was loaded from.
#[derive(Debug)]
struct Current {
    chain: Chain,
    kept: Kept,
}

impl SigningAuthority {
    /// Loads what is kept and the given files, and makes what is missing. The public roots are kept as
    /// `root.pem` afterwards.
    ///
    /// # Errors
    /// [`StateError`], one plain sentence with the remedy.
    pub async fn open(
        store: Box<dyn Store>,
        given: &Given,
        trust_domain: &str,
        now: SystemTime,
    ) -> Result<Self, StateError> {
        let current = settle(&*store, given, trust_domain, None, now).await?;
        Ok(Self {
            store,
            given: given.clone(),
            trust_domain: trust_domain.into(),
            current: Mutex::new(Arc::new(current)),
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
        self.current().chain.sign(key, name, Validity::around(now, BACK, life))
    }

    /// Makes a new intermediate if little is left of this one, or takes over what another replica made; says
    /// whether something else signs now.
    ///
    /// # Errors
    /// [`StateError`] when it cannot be loaded, made or stored; the old one stays.
    pub async fn renew(&self, now: SystemTime) -> Result<bool, StateError> {
        let current = self.current();
        let due = current.chain.rest(now) <= INTERMEDIATE_REST;
        let ours = self.given.intermediate.is_none() && current.chain.has_root_key();
        let may_differ = self.store.is_shared() || (due && ours);
        if !may_differ {
            return Ok(false);
        }
        let next = settle(&*self.store, &self.given, &self.trust_domain, Some(&current), now).await?;
        if next.kept.documents() == current.kept.documents() {
            return Ok(false);
        }
        if next.chain.bundle != current.chain.bundle {
            tracing::error!("the root kept is another than before: certificates of the two do not verify each other");
        }
        tracing::info!(ends = %humantime::format_rfc3339_seconds(next.chain.ends()), "another intermediate signs now");
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(true)
    }

    /// Every root to trust.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.current().chain.bundle.clone()
    }

    /// When what signs ends.
    pub fn ends(&self) -> SystemTime {
        self.current().chain.ends()
    }

    fn current(&self) -> Arc<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Loads, makes what is missing, and keeps that, until nobody else wrote in between. What was kept before and is
/// gone is put back, so that a Secret deleted by mistake does not end in a new root.
async fn settle(
    store: &dyn Store,
    given: &Given,
    trust_domain: &str,
    before: Option<&Current>,
    now: SystemTime,
) -> Result<Current, StateError> {
    for _ in 0..MOST_TRIES {
        let mut kept = store.load().await?;
        let mut new: Vec<Document> = Vec::new();
        if let Some(before) = before.filter(|_| kept.is_empty()) {
            tracing::error!(
                place = store.place("root.pem"),
                "the CA's keys are gone and put back from memory"
            );
            new.extend(before.kept.documents().clone());
        }
        let making = Making {
            kept: &kept.with(&new),
            store,
            given,
            trust_domain,
            now,
        };
        let (chain, made) = making.chain()?;
        new.extend(made);
        if !new.is_empty() {
            if store.save(&kept, &new).await? == Saved::Late {
                continue;
            }
            for (name, _) in &new {
                tracing::info!(place = store.place(name), "kept anew");
            }
            kept = kept.with(&new);
        }
        return Ok(Current { chain, kept });
    }
    Err(StateError::Unavailable {
        place: store.place("root.pem"),
        why: "others write it all the time; look who does".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use act::certs::Leaf;
    use decide::model::Identity;
    use rcgen::KeyPair;
    use tempfile::TempDir;

    use super::*;
    use crate::{
        chain::{DAY, INTERMEDIATE_LIFE, Pair},
        store::{Directory, shared::SharedStore},
    };

    const MESH: &str = "cluster.local";

    async fn open(directory: &Path, given: &Given) -> Result<SigningAuthority, StateError> {
        let store = Box::new(Directory::open(directory)?);
        SigningAuthority::open(store, given, MESH, SystemTime::now()).await
    }

    async fn made() -> (TempDir, Vec<CertificateDer<'static>>) {
        let directory = tempfile::tempdir().unwrap();
        let roots = open(directory.path(), &Given::default())
            .await
            .unwrap()
            .roots()
            .to_vec();
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

    #[tokio::test]
    async fn a_second_start_has_the_same_root_and_keys_only_the_owner_reads() {
        use std::os::unix::fs::PermissionsExt;
        let (directory, roots) = made().await;
        let again = open(directory.path(), &Given::default()).await.unwrap();
        signs_under(&again, &roots);
        let published = fs::read(directory.path().join("root.pem")).unwrap();
        assert_eq!(act::certs::certificates_of(&published).unwrap(), roots);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(directory.path()), 0o700);
        for key in ["root.key", "intermediate.key"] {
            assert_eq!(mode(&directory.path().join(key)), 0o600);
        }
    }

    #[tokio::test]
    async fn two_cas_never_share_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let first = open(directory.path(), &Given::default()).await.unwrap();
        let error = open(directory.path(), &Given::default()).await.unwrap_err();
        assert!(matches!(error, StateError::InUse(_)), "{error}");
        drop(first);
        open(directory.path(), &Given::default()).await.unwrap();
    }

    #[tokio::test]
    async fn a_start_that_was_cut_short_is_repaired() {
        // After the root's key: nothing was ever signed, all is made anew.
        let (directory, _) = made().await;
        for gone in ["root.pem", "intermediate.pem", "intermediate.key"] {
            fs::remove_file(directory.path().join(gone)).unwrap();
        }
        let authority = open(directory.path(), &Given::default()).await.unwrap();
        signs_under(&authority, &authority.roots());
        // Within the intermediate, or with one of another root: the root stays.
        for (file, text) in [
            ("intermediate.key", None),
            ("intermediate.pem", None),
            ("intermediate.pem", Some("x")),
        ] {
            let (directory, roots) = made().await;
            let file = directory.path().join(file);
            match text {
                Some(text) => fs::write(file, text).unwrap(),
                None => fs::remove_file(file).unwrap(),
            }
            signs_under(&open(directory.path(), &Given::default()).await.unwrap(), &roots);
        }
        let ((directory, roots), (other, _)) = (made().await, made().await);
        for file in ["intermediate.key", "intermediate.pem"] {
            fs::copy(other.path().join(file), directory.path().join(file)).unwrap();
        }
        signs_under(&open(directory.path(), &Given::default()).await.unwrap(), &roots);
    }

    #[tokio::test]
    async fn a_root_that_lost_a_part_is_never_replaced_silently() {
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
            let (directory, _) = made().await;
            let file = directory.path().join(file);
            match text {
                Some(text) => fs::write(&file, text).unwrap(),
                None => fs::remove_file(&file).unwrap(),
            }
            let error = open(directory.path(), &Given::default()).await.unwrap_err();
            assert!(matches!(error, StateError::Unfit { .. }), "{error}");
            assert!(error.to_string().contains("root."), "{error}");
        }
    }

    #[tokio::test]
    async fn the_roots_key_may_be_kept_elsewhere() {
        let (directory, roots) = made().await;
        let key = directory.path().join("root.key");
        let kept = fs::read(&key).unwrap();
        fs::remove_file(&key).unwrap();
        let authority = open(directory.path(), &Given::default()).await.unwrap();
        signs_under(&authority, &roots);
        assert!(!authority.renew(SystemTime::now() + INTERMEDIATE_LIFE).await.unwrap());
        drop(authority);
        fs::remove_file(directory.path().join("intermediate.key")).unwrap();
        open(directory.path(), &Given::default()).await.unwrap_err();
        fs::write(&key, kept).unwrap();
        signs_under(&open(directory.path(), &Given::default()).await.unwrap(), &roots);
    }

    #[tokio::test]
    async fn given_files_are_used_and_checked() {
        let ((source, roots), (other, _), state) = (made().await, made().await, tempfile::tempdir().unwrap());
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
        signs_under(&open(state.path(), &given).await.unwrap(), &roots);
        given.intermediate = Some(pair(&other));
        let error = open(state.path(), &given).await.unwrap_err();
        assert!(error.to_string().contains("does not hold under the root"), "{error}");
        given.intermediate = None;
        given.root_key = Some(file(&source, "root.key"));
        signs_under(&open(state.path(), &given).await.unwrap(), &roots);
        let error = open(other.path(), &given).await.unwrap_err();
        assert!(error.to_string().contains("root of its own"), "{error}");
        given.root_key = Some(file(&other, "root.key"));
        open(tempfile::tempdir().unwrap().path(), &given).await.unwrap_err();
    }

    #[tokio::test]
    async fn the_intermediate_is_renewed_before_it_ends_and_leaves_never_outlive_it() {
        let directory = tempfile::tempdir().unwrap();
        let authority = open(directory.path(), &Given::default()).await.unwrap();
        let (now, first) = (SystemTime::now(), authority.ends());
        assert!(!authority.renew(now + DAY * 270).await.unwrap());
        let late = first - DAY;
        let key = KeyPair::generate().unwrap();
        let cut = authority.sign(&key, &Name::Identity(&web()), DAY * 7, late).unwrap();
        assert_eq!(cut.issued.validity.not_after, first);
        assert!(authority.renew(late).await.unwrap());
        assert!(authority.ends() > first);
        signs_under_at(&authority, &authority.roots(), late);
    }

    async fn replica(store: &SharedStore, now: SystemTime) -> Result<SigningAuthority, StateError> {
        SigningAuthority::open(Box::new(store.clone()), &Given::default(), MESH, now).await
    }

    #[tokio::test]
    async fn of_replicas_that_start_at_once_exactly_one_makes_the_root() {
        let (store, now) = (SharedStore::default(), SystemTime::now());
        let (one, two, three) = tokio::join!(replica(&store, now), replica(&store, now), replica(&store, now));
        let all = [one.unwrap(), two.unwrap(), three.unwrap()];
        assert_eq!(store.written(), 1);
        for replica in &all {
            assert_eq!((replica.roots(), replica.ends()), (all[0].roots(), all[0].ends()));
            signs_under(replica, &all[0].roots());
        }
        // An empty Secret that somebody made beforehand is as good as none.
        let empty = SharedStore::default();
        empty.kept.lock().unwrap().version = Some("x".into());
        let (one, two) = tokio::join!(replica(&empty, now), replica(&empty, now));
        assert_eq!((one.unwrap().roots(), empty.written()), (two.unwrap().roots(), 1));
    }

    #[tokio::test]
    async fn one_replica_renews_the_intermediate_and_the_others_take_it_over() {
        let (store, now) = (SharedStore::default(), SystemTime::now());
        let all = [replica(&store, now).await.unwrap(), replica(&store, now).await.unwrap()];
        let first = all[0].ends();
        assert!(!all[0].renew(now + DAY).await.unwrap(), "nothing is due");
        let late = first - DAY;
        let (one, two) = tokio::join!(all[0].renew(late), all[1].renew(late));
        assert!(one.unwrap() && two.unwrap());
        assert_eq!(store.written(), 2, "the start's, and one renewal");
        assert!(all[0].ends() > first);
        assert_eq!((all[0].ends(), all[0].roots()), (all[1].ends(), all[1].roots()));
        signs_under_at(&all[1], &all[0].roots(), late);
    }

    #[tokio::test]
    async fn a_store_that_is_away_takes_nothing_from_a_running_ca() {
        let (store, now) = (SharedStore::default(), SystemTime::now());
        let authority = replica(&store, now).await.unwrap();
        *store.away.lock().unwrap() = true;
        for now in [now + DAY, authority.ends() - DAY] {
            let error = authority.renew(now).await.unwrap_err();
            assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
            signs_under_at(&authority, &authority.roots(), now);
        }
        let error = replica(&store, now).await.unwrap_err();
        assert!(matches!(error, StateError::Unavailable { .. }), "{error}");
        assert_eq!(store.written(), 1);
    }

    #[tokio::test]
    async fn keys_that_were_deleted_are_put_back_and_a_replica_that_starts_then_has_the_same_root() {
        let (store, now) = (SharedStore::default(), SystemTime::now());
        let authority = replica(&store, now).await.unwrap();
        *store.kept.lock().unwrap() = Kept::default();
        assert!(!authority.renew(now).await.unwrap(), "it signs as before");
        let again = replica(&store, now).await.unwrap();
        assert_eq!((again.roots(), again.ends()), (authority.roots(), authority.ends()));
    }

    #[tokio::test]
    async fn another_root_in_the_store_is_taken_over() {
        let (store, other, now) = (SharedStore::default(), SharedStore::default(), SystemTime::now());
        let (authority, another) = (replica(&store, now).await.unwrap(), replica(&other, now).await.unwrap());
        let foreign = other.kept.lock().unwrap().documents().clone();
        *store.kept.lock().unwrap() = Kept::new(Some("other".into()), foreign);
        assert!(authority.renew(now).await.unwrap());
        signs_under(&authority, &another.roots());
        // What does not hold is not.
        let broken = other
            .kept
            .lock()
            .unwrap()
            .with(&[("root.key".to_owned(), b"x".to_vec())]);
        *store.kept.lock().unwrap() = broken;
        authority.renew(now).await.unwrap_err();
        signs_under(&authority, &another.roots());
    }
}
