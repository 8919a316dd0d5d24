//! Endpoints that failed a moment ago: the next connections of the pod try others first.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::bounds::FAILURES;

/// How long a failure is remembered.
const KEPT: Duration = Duration::from_secs(5);

/// Endpoints of one pod that failed, on one worker, oldest first. Empty as a rule, so that to look costs nothing.
#[derive(Debug, Clone)]
pub(super) struct Failures {
    most: usize,
    failed: Arc<Mutex<VecDeque<(SocketAddr, Instant)>>>,
}

impl Failures {
    /// None yet, and never more than `most`: of more, the oldest are forgotten.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            failed: Arc::default(),
        }
    }

    /// It failed.
    pub(super) fn note(&self, endpoint: SocketAddr, now: Instant) {
        let mut failed = self.lock();
        failed.retain(|(known, _)| *known != endpoint);
        if failed.len() >= self.most {
            FAILURES.hit(1);
            failed.pop_front();
        }
        failed.push_back((endpoint, now));
    }

    /// It serves again.
    pub(super) fn forget(&self, endpoint: SocketAddr) {
        let mut failed = self.lock();
        if !failed.is_empty() {
            failed.retain(|(known, _)| *known != endpoint);
        }
    }

    /// Those that failed a moment ago.
    pub(super) fn recent(&self, now: Instant) -> Vec<SocketAddr> {
        let mut failed = self.lock();
        while failed.front().is_some_and(|(_, since)| *since + KEPT <= now) {
            failed.pop_front();
        }
        failed.iter().map(|(endpoint, _)| *endpoint).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(SocketAddr, Instant)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn a_failure_is_remembered_for_a_while_or_until_it_serves_again() {
        let (failures, start) = (Failures::new(64), Instant::now());
        failures.note(at(1), start);
        failures.note(at(2), start + KEPT / 2);
        failures.note(at(3), start + KEPT / 2);
        failures.forget(at(3));
        assert_eq!(failures.recent(start + KEPT / 2), [at(1), at(2)]);
        assert_eq!(failures.recent(start + KEPT), [at(2)]);
        failures.note(at(2), start + KEPT);
        assert_eq!(failures.recent(start + KEPT + KEPT / 2), [at(2)]);
        assert!(failures.recent(start + KEPT * 2).is_empty());
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_oldest_goes_first() {
        let (failures, now) = (Failures::new(64), Instant::now());
        (0..=255).for_each(|last| failures.note(at(last), now));
        let recent = failures.recent(now);
        assert_eq!((recent.len(), recent[0]), (64, at(255 - 63)));
    }
}
