//! Connections whose peers have not proven who they are: so many at once, and the oldest makes room for the newest. Who
//! belongs to the mesh needs milliseconds; whoever says nothing for longer would else keep all others out.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// Those of one pod, on one worker.
#[derive(Debug)]
pub(super) struct Handshakes {
    most: usize,
    waiting: Arc<Mutex<VecDeque<CancellationToken>>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    ousted: CancellationToken,
    waiting: Arc<Mutex<VecDeque<CancellationToken>>>,
}

impl Handshakes {
    /// Never more than `most`, and at least one.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most: most.max(1),
            waiting: Arc::default(),
        }
    }

    /// One more, in place of the oldest where there are too many.
    pub(super) fn begin(&self) -> Handshake {
        let ousted = CancellationToken::new();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.most
            && let Some(oldest) = waiting.pop_front()
        {
            oldest.cancel();
        }
        waiting.push_back(ousted.clone());
        Handshake {
            ousted,
            waiting: self.waiting.clone(),
        }
    }
}

impl Handshake {
    /// Resolves when it has to make room.
    pub(super) async fn ousted(&self) {
        self.ousted.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        // Gone already where it has made room.
        if !self.ousted.is_cancelled() {
            self.ousted.cancel();
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.retain(|other| !other.is_cancelled());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_handshake_makes_room_for_the_newest() {
        let handshakes = Handshakes::new(2);
        let (first, second) = (handshakes.begin(), handshakes.begin());
        assert!(!first.ousted.is_cancelled());
        let third = handshakes.begin();
        assert!(first.ousted.is_cancelled() && !second.ousted.is_cancelled());
        drop((first, second));
        let fourth = handshakes.begin();
        assert!(!third.ousted.is_cancelled(), "a place that was left is free");
        drop((third, fourth));
        assert!(handshakes.waiting.lock().unwrap().is_empty());
    }
}
