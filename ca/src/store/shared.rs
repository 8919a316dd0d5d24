//! What replicas share in tests of their races: a store that counts versions, as the API server does.

use std::sync::{Arc, Mutex};

use super::{Document, Kept, Saved, StateError, Store};

/// One view of a store that several CAs share.
#[derive(Debug, Clone, Default)]
pub(crate) struct SharedStore {
    pub(crate) kept: Arc<Mutex<Kept>>,
    written: Arc<Mutex<usize>>,
    /// Says nothing any more.
    pub(crate) away: Arc<Mutex<bool>>,
}

impl SharedStore {
    /// How often anything was written.
    pub(crate) fn written(&self) -> usize {
        *self.written.lock().unwrap()
    }

    fn reachable(&self) -> Result<(), StateError> {
        if *self.away.lock().unwrap() {
            return Err(StateError::Unavailable {
                place: self.place(""),
                why: "away".to_owned(),
            });
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Store for SharedStore {
    async fn load(&self) -> Result<Kept, StateError> {
        tokio::task::yield_now().await;
        self.reachable()?;
        Ok(self.kept.lock().unwrap().clone())
    }

    async fn save(&self, loaded: &Kept, documents: &[Document]) -> Result<Saved, StateError> {
        tokio::task::yield_now().await;
        self.reachable()?;
        let mut kept = self.kept.lock().unwrap();
        if kept.version != loaded.version {
            return Ok(Saved::Late);
        }
        let mut written = self.written.lock().unwrap();
        *written += 1;
        *kept = loaded.with(documents);
        kept.version = Some(written.to_string().into());
        Ok(Saved::Done)
    }

    fn place(&self, name: &str) -> String {
        format!("Secret shared, {name}")
    }

    fn is_shared(&self) -> bool {
        true
    }
}
