//! Letting other threads of a core go first. The kernel lets a thread that has begun go on for some milliseconds, and as long
//! would wait what somebody else has to do in some microseconds.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// One part in so many of the time that passes is patience regained.
const REGAINED: u32 = 4;

/// When a thread lets others go first. It is not kept waiting for more than a bound beyond its share: on a node that is busy
/// for good, it would come to nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Courtesy {
    /// What is done at a stretch.
    stretch: Duration,
    patience: Duration,
    /// When the stretch began.
    since: Instant,
    /// What it has been kept waiting, less what of that is forgotten by now.
    kept: Duration,
}

impl Courtesy {
    /// Of a thread that gives way after each stretch, and is kept waiting for `patience` at most.
    pub(crate) fn new(stretch: Duration, patience: Duration) -> Self {
        Self {
            stretch,
            patience,
            since: Instant::now(),
            kept: Duration::ZERO,
        }
    }

    /// Lets others go first, if it is time. Where nobody else wants the core, it goes on at once.
    pub(crate) fn give_way(&mut self) {
        let now = Instant::now();
        if self.is_due(now) {
            thread::yield_now();
            self.waited(now, Instant::now());
        }
    }

    /// Whether its stretch is over, and it has not been kept waiting for too long.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let passed = now - self.since;
        if passed < self.stretch {
            return false;
        }
        self.since = now;
        self.kept = self.kept.saturating_sub(passed / REGAINED);
        self.kept < self.patience
    }

    /// It let others go first, and was kept waiting.
    fn waited(&mut self, from: Instant, to: Instant) {
        self.since = to;
        self.kept += to - from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRETCH: Duration = Duration::from_micros(500);
    const PATIENCE: Duration = Duration::from_millis(50);

    #[test]
    fn who_is_kept_waiting_gives_way_less_and_still_has_its_share() {
        let mut courtesy = Courtesy::new(STRETCH, PATIENCE);
        let mut now = courtesy.since;
        assert!(!courtesy.is_due(now + STRETCH / 2));
        // Nobody wants the core: it gives way after every stretch, and is back at once.
        for _ in 0..1_000 {
            now += STRETCH;
            assert!(courtesy.is_due(now));
            courtesy.waited(now, now);
        }
        // Everybody does, for good.
        let (begun, mut kept) = (now, Duration::ZERO);
        for _ in 0..10_000 {
            now += STRETCH;
            if courtesy.is_due(now) {
                let back = now + 20 * STRETCH;
                courtesy.waited(now, back);
                kept += back - now;
                now = back;
            }
        }
        let most = PATIENCE + (now - begun) / REGAINED;
        assert!(kept < most, "{kept:?} of {:?}", now - begun);
        assert!(kept > most / 2, "{kept:?} of {:?}", now - begun);
    }
}
