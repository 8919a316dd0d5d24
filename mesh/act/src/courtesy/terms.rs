//! On what terms a thread lets others go first, and when that is due.

use std::{thread, time::Duration};

use tokio::time::Instant;

/// On what terms a thread lets others go first.
#[derive(Debug)]
pub(crate) struct Terms {
    /// What it does at a stretch.
    pub(crate) stretch: Duration,
    /// What it minds no waiting for: it has as much of it back, in what the others have done meanwhile.
    pub(crate) unminded: Duration,
    /// What it lets itself be kept waiting beyond that and beyond its share.
    pub(crate) patience: Duration,
    /// One part in so many of the time that passes is patience regained. From 1.
    pub(crate) regained: u32,
}

/// When a thread lets others go first. It is not kept waiting for more than a bound beyond its share: on a node that is busy
/// for good, it would come to nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Courtesy {
    terms: &'static Terms,
    /// When the stretch began.
    since: Instant,
    /// What it has been kept waiting and minds, less what of that is forgotten by now.
    kept: Duration,
}

impl Courtesy {
    /// Of a thread that begins its first stretch.
    pub(crate) fn new(terms: &'static Terms) -> Self {
        Self {
            terms,
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
        if passed < self.terms.stretch {
            return false;
        }
        self.since = now;
        self.kept = self.kept.saturating_sub(passed / self.terms.regained);
        self.kept < self.terms.patience
    }

    /// It let others go first, and was kept waiting.
    fn waited(&mut self, from: Instant, to: Instant) {
        self.since = to;
        self.kept += (to - from).saturating_sub(self.terms.unminded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);
    const TERMS: Terms = Terms {
        stretch: Duration::from_micros(500),
        unminded: MILLISECOND,
        patience: Duration::from_millis(50),
        regained: 4,
    };

    /// How long it was kept waiting, and how long it had the core, when it has been kept for `each` wherever it let itself be.
    fn kept(courtesy: &mut Courtesy, each: Duration) -> (Duration, Duration) {
        let (mut now, mut kept, mut had) = (courtesy.since, Duration::ZERO, Duration::ZERO);
        for _ in 0..10_000 {
            now += TERMS.stretch;
            had += TERMS.stretch;
            if courtesy.is_due(now) {
                courtesy.waited(now, now + each);
                kept += each;
                now += each;
            }
        }
        (kept, had)
    }

    #[test]
    fn who_is_kept_waiting_gives_way_less_and_still_has_its_share() {
        let mut courtesy = Courtesy::new(&TERMS);
        let begun = courtesy.since;
        assert!(!courtesy.is_due(begun + TERMS.stretch / 2));
        // Nobody wants the core, or only for a moment: it gives way after every stretch.
        for each in [Duration::ZERO, MILLISECOND] {
            assert_eq!(kept(&mut courtesy, each).0, 10_000 * each);
        }
        // Everybody does, for good.
        let (kept, had) = kept(&mut courtesy, 10 * MILLISECOND);
        let most = TERMS.patience + (kept + had) / TERMS.regained + kept / 10;
        assert!(kept < most, "{kept:?} beside {had:?}");
        assert!(kept > most / 2, "{kept:?} beside {had:?}");
    }
}
